// What each operation may answer and throw, by its documentation. Everything else is a finding, and a TypeError, a RangeError or a
// trap always is.

/** The rules of an operation. */
export interface Rule {
  /** classes of results, see `classOf`; '*' is anything but a negative errno */
  readonly answers: ReadonlySet<string>;
  /** codes of EvtchnError, besides EBADF on a view that is detached and EPERM on one that is not the owner's */
  readonly throws: ReadonlySet<string>;
  /** codes after which the documentation says that something has changed, for all others nothing has; 'all': nothing is said */
  readonly changes: ReadonlySet<string>;
  /** most steps that it takes in the traced build; see `DEFAULT_STEPS` */
  readonly steps: number;
}

/** A call of the fast half ends after this many steps: a look at every word and port, or 16 tries of that with a refresh. */
const DEFAULT_STEPS = 40_000;
/**
 * Where another thread has a bracket or an invalidation open a call may wait: 200 times a thousand looks for each mapping that it
 * refreshes, or 2,000 times 20,000 looks for a reader that does not leave. [R5]
 */
export const WAITING_STEPS = 60_000_000;

function rule(answers: string, throws = '', changes = '', steps = DEFAULT_STEPS): Rule {
  const words = (text: string): ReadonlySet<string> => new Set(text.split(' ').filter((word) => word !== ''));
  return { answers: words(answers), throws: words(throws), changes: words(changes), steps };
}

const SEND = '1 0 ENOTCONN EINVAL EFAULT EAGAIN';
/** Codes of what changes mappings: EBUSY inside a bracket or when a reader does not leave. */
const MAPPING = 'EBUSY EAGAIN EFAULT';

/** By name of the operation. */
export const RULES: { readonly [operation: string]: Rule } = {
  // events
  send: rule(SEND),
  sendMany: rule('0 1 n EINVAL EFAULT EAGAIN'),
  sendRange: rule('0 1 n EINVAL EFAULT EAGAIN'),
  counts: rule('true'),
  evtchnSend: rule('0 EINVAL EFAULT EAGAIN'),
  mask: rule('1 0 EINVAL EFAULT EAGAIN'),
  unmask: rule('1 0 EINVAL EFAULT EAGAIN'),
  bindVcpu: rule('ok', 'EINVAL'),
  portStatus: rule('object', 'EINVAL EFAULT EAGAIN'),
  explain: rule('true'),
  enter: rule('ok', 'EBUSY'),
  leave: rule('ok', 'EINVAL'),
  drain: rule('true', 'EINVAL EFAULT EBUSY EAGAIN', 'all'),
  upcallPending: rule('true false', '', 'all'),
  flushShadow: rule('true false', '', 'all'),
  resync: rule('ok'),
  takeVector: rule('true'),
  listen: rule('ok', 'EOPNOTSUPP'),
  wait: rule('events unblocked timeout closed', 'EINVAL EBUSY EOPNOTSUPP', 'all'),
  waitAsync: rule('promise'),
  poll: rule('true false', 'EINVAL EBUSY EOPNOTSUPP EFAULT EAGAIN', 'EBUSY EOPNOTSUPP EFAULT EAGAIN'),
  kick: rule('ok'),
  // attributes; after EFAULT and EAGAIN a place stays registered [KX-VMA-05], runstate_addr is unregistered then [KX-VCA-05]
  setVm: rule('ok', `ENOENT EINVAL EEXIST EBADF EOPNOTSUPP ${MAPPING}`, 'EFAULT EAGAIN'),
  setPort: rule('ok', 'EINVAL EEXIST ENOENT EBADF EBUSY'),
  setTimer: rule('ok', 'EINVAL EBUSY', 'EBUSY'),
  getVm: rule('object', 'ENOENT EOPNOTSUPP'),
  setVcpu: rule('ok', `ENOENT EINVAL EOPNOTSUPP ${MAPPING}`, 'EFAULT EAGAIN'),
  getVcpu: rule('object', 'ENOENT EOPNOTSUPP EINVAL EBUSY EAGAIN'),
  setConfig: rule('ok', 'EINVAL'),
  getConfig: rule('object'),
  capabilities: rule('true'),
  // structures; as the objects they lead to
  ioctl: rule(
    '0 1 n ENOTTY EFAULT EPERM EINVAL ENOENT EEXIST EBADF EBUSY EAGAIN ENXIO ENOSPC ENOMEM E2BIG EOPNOTSUPP',
    '',
    'EFAULT EAGAIN',
  ),
  codec: rule('same read', 'EINVAL EFAULT ENOENT'),
  describe: rule('true'),
  // memory
  slotSet: rule('ok', 'EINVAL EEXIST ENOSPC ENOMEM EBUSY'),
  slotDelete: rule('ok', 'EINVAL EBUSY'),
  slotList: rule('object', 'EAGAIN'),
  slotGeneration: rule('big', 'EINVAL'),
  slotHva: rule('0 1 n null', 'EINVAL EAGAIN'),
  pageMap: rule('ok', 'EINVAL EOPNOTSUPP EBUSY'),
  pageUnmap: rule('ok', 'EINVAL EOPNOTSUPP EBUSY'),
  pageMove: rule('ok', 'EINVAL EOPNOTSUPP EBUSY EFAULT'),
  pageLookup: rule('object null', 'EINVAL'),
  invalidateStart: rule('true', 'EINVAL EBUSY'),
  invalidateEnd: rule('ok', 'EINVAL'),
  dirtyTake: rule('object', 'ENXIO EINVAL ENOENT'),
  dirtyCollect: rule('object', 'EINVAL'),
  dirtyReset: rule('true'),
  ramRead: rule('object null', 'EINVAL'),
  ramWrite: rule('true false', 'EINVAL'),
  cacheNew: rule('ok', 'EINVAL EBUSY', 'EBUSY'),
  cacheInit: rule('ok', 'EINVAL EFAULT EAGAIN EBUSY', 'EFAULT EAGAIN'),
  cacheUse: rule('ok true false null 0 n', 'EINVAL EFAULT EAGAIN EBUSY', 'EFAULT EAGAIN'),
  // the guest
  poke: rule('ok'),
  fillPage: rule('ok'),
  hypercall: rule('handled exit blocked other', 'EINVAL EBUSY', 'EBUSY'),
  hypercallFaults: rule('handled exit blocked other', 'EBUSY', 'EBUSY'),
  completeHypercall: rule('true false', 'EINVAL'),
  writeMsr: rule('written gp other', 'EINVAL EFAULT', 'EFAULT'),
  beforeEntry: rule('enter exit again closed', 'EBUSY'),
  afterExit: rule('ok'),
  looks: rule('true false'),
  setLapic: rule('ok', 'EINVAL'),
  setCpuid: rule('0 1 n null'),
  patchCpuid: rule('object'),
  // time
  advance: rule('ok'),
  tick: rule('true', 'EINVAL'),
  nextDeadline: rule('big null'),
  clockSet: rule('ok', 'EINVAL'),
  clockLook: rule('big object true false'),
  setTsc: rule('ok', 'EINVAL'),
  tscLook: rule('big object'),
  enterRunstate: rule('ok', 'EINVAL'),
  load: rule('ok', 'EINVAL'),
  unload: rule('ok', 'EINVAL'),
  runstate: rule('object', 'EAGAIN'),
  writeTime: rule('ok', 'EINVAL'),
  readTime: rule('big', 'EINVAL EAGAIN'),
  // devices
  routesSet: rule('ok', 'EINVAL ENOMEM EBUSY'),
  routesList: rule('object'),
  // -1 is also what a masked port says, which stays pending [KX-RTE-20]
  raise: rule('0 1 n EPERM', '', 'EPERM'),
  sendPorts: rule('object'),
  ring: rule('0 null'),
  fdCreate: rule('object', 'EINVAL ENOSPC'),
  fdList: rule('object'),
  fdBind: rule('ok', 'EINVAL EBADF EBUSY'),
  fdUnbind: rule('ok', 'EINVAL EBADF EBUSY'),
  fdWrite: rule('0 EAGAIN EINVAL EBADF', 'EBADF EINVAL', 'EAGAIN'),
  fdRead: rule('big EAGAIN EBADF', 'EBADF EINVAL'),
  fdWait: rule('true false', 'EINVAL EBADF EBUSY EOPNOTSUPP'),
  fdClose: rule('false', 'EBADF EINVAL EBUSY'),
  // saving
  snapshot: rule('ok', 'EBUSY EOPNOTSUPP EINVAL', 'EBUSY EINVAL'),
  snapshotState: rule('ok', 'EBUSY EOPNOTSUPP EINVAL', 'EBUSY EINVAL'),
  restore: rule('ok', 'EINVAL ENOSPC EBUSY EOPNOTSUPP'),
  restoreState: rule('ok', 'EINVAL ENOSPC EBUSY EOPNOTSUPP'),
  identity: rule('ok', 'EBUSY EOPNOTSUPP EINVAL', 'EBUSY EINVAL'),
  readSnapshot: rule('object', 'EINVAL'),
  // agents and the embedder
  attach: rule('ok', 'ENOSPC'),
  attachBad: rule('ok', 'EINVAL ENOSPC'),
  detach: rule('ok', 'EBUSY'),
  detachAgent: rule('ok', 'EINVAL'),
  close: rule('ok', 'EBUSY'),
  furnish: rule('ok', 'EBUSY EAGAIN EFAULT EINVAL', 'all'),
  vcpuOf: rule('0 1 n', 'EINVAL'),
  faultHook: rule('ok'),
  stubborn: rule('ok'),
  // as what they make, which is judged by itself
  hostile: rule('ok', '', '', WAITING_STEPS),
  between: rule('ok', '', '', WAITING_STEPS),
  address: rule('true', 'EINVAL'),
  sizes: rule('true', 'EINVAL E2BIG'),
  create: rule('ok', 'EINVAL ENOMEM ENOSYS E2BIG'),
  clocks: rule('true false', 'EINVAL'),
};
