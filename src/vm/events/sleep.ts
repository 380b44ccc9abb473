// Waiting for events: the loops around the protocol of assembly/sleep.ts. [KF-16, KF-86..88]

import { EBUSY } from '../../abi/errno.ts';
import { KICK_SLEEPER, VCPU_INFO_GPC, VCPU_KICK } from '../../abi/region.ts';
import { EvtchnError } from '../../errors.ts';
import { canBlock } from '../../platform.ts';
import { mapFifo } from '../fifo/retry.ts';
import type { Vcpu } from '../vcpu.ts';

/** Why a wait ended. 'unblocked' is somebody's `kick()`, 'closed' the end of the VM or of this view. */
export type WaitResult = 'events' | 'unblocked' | 'timeout' | 'closed';

/** What a look of the kernel finds, as bits; 0 is nothing. @internal */
export const EVENTS = 1;
const UNBLOCKED = 2;
const CLOSED = 4;
/** vcpu_info is registered and was not mapped at the look: its selector may have events. [KX-EVT-46] @internal */
export const AWAY = 8;

/** What `sleepOn` answers when time has run out. */
const TIMED_OUT = 2;

/** No sleep lasts longer without a look, ns: a platform that forgets a notify costs a second. */
const LONGEST_SLEEP = 1e9;
const NS_PER_MS = 1e6;

/** Nor longer than this while vcpu_info cannot be reached, ns: nobody says that it is back, with what its selector had. */
const BLIND_SLEEP = 1e7;
/** How often vcpu_info is mapped and looked at again before a sleep is begun without seeing it. */
const MAP_TRIES = 16;
/** What `begin` answers for such a sleep. */
const BLIND = -1;

/** Throws EINVAL unless `ns` is a span to wait: a number from 0 on; undefined waits for ever and gives Infinity. @internal */
export function checkTimeout(ns: number | undefined): number {
  if (ns === undefined) return Number.POSITIVE_INFINITY;
  if (typeof ns !== 'number' || !(ns >= 0)) {
    throw new EvtchnError(
      'EINVAL',
      `the timeout is ${ns} ns, allowed are numbers from 0 on; leave it out to wait for ever`,
    );
  }
  return ns;
}

/** @internal */
export function wait(vcpu: Vcpu, timeoutNs: number | undefined, spins: number): WaitResult {
  let left = checkTimeout(timeoutNs);
  const { vm, index } = vcpu;
  if (vm.detached) return 'closed';
  vm.changes.checkNoBracket();
  let found = vm.kernel.spin(vm.vmBase, vm.agent, index, spins);
  if (found & ~AWAY) return result(found);
  if (!vm.shared) {
    if (found && mapInfo(vcpu) && vm.kernel.pendingWork(vm.vmBase, vm.agent, index) & EVENTS) return 'events';
    throw new EvtchnError(
      'EOPNOTSUPP',
      'wait needs shared memory: with a single agent nobody could wake it, use onUpcall',
    );
  }
  if (!canBlock()) throw new EvtchnError('EOPNOTSUPP', 'this thread may not block: use waitAsync');
  for (;;) {
    found = begin(vcpu);
    if (found > 0) return result(found);
    const chunk = Math.min(found === BLIND ? BLIND_SLEEP : LONGEST_SLEEP, left);
    const outcome = vm.kernel.sleepOn(vm.vmBase, index, chunk);
    found = vm.kernel.sleepEnd(vm.vmBase, vm.agent, index);
    if (found & ~AWAY) return result(found);
    if (outcome === TIMED_OUT) left -= chunk;
    if (left <= 0) return 'timeout';
  }
}

/** @internal */
export async function waitAsync(vcpu: Vcpu, timeoutNs: number | undefined): Promise<WaitResult> {
  let left = checkTimeout(timeoutNs);
  const { vm, index } = vcpu;
  if (!vm.shared)
    throw new EvtchnError('EOPNOTSUPP', 'waitAsync needs shared memory: with a single agent use onUpcall');
  if (typeof Atomics.waitAsync !== 'function') {
    throw new EvtchnError('EOPNOTSUPP', 'this platform has no Atomics.waitAsync: use wait in a worker');
  }
  const release = vm.hold?.();
  try {
    while (!vm.detached) {
      vm.changes.checkNoBracket();
      let found = begin(vcpu);
      if (found > 0) return result(found);
      const chunk = Math.min(found === BLIND ? BLIND_SLEEP : LONGEST_SLEEP, left);
      const outcome = await sleepAsync(vcpu, chunk / NS_PER_MS);
      if (vm.detached) break;
      found = vm.kernel.sleepEnd(vm.vmBase, vm.agent, index);
      if (found & ~AWAY) return result(found);
      if (outcome === 'timed-out') left -= chunk;
      if (left <= 0) return 'timeout';
    }
    return 'closed';
  } finally {
    release?.();
  }
}

/** Begins a sleep, with vcpu_info mapped if it can be. @returns 0 or BLIND: sleep now; else what there is to do */
function begin(vcpu: Vcpu): number {
  const { vm, index } = vcpu;
  for (let i = 0; ; i++) {
    const found = vm.kernel.sleepBegin(vm.vmBase, vm.agent, index, 0);
    if (found === -EBUSY)
      throw new EvtchnError('EBUSY', `another thread sleeps for vCPU ${index}: one runs a vCPU at a time`);
    if (found !== AWAY) return found;
    if (i === MAP_TRIES || !mapInfo(vcpu)) break;
  }
  return vm.kernel.sleepBegin(vm.vmBase, vm.agent, index, 1) || BLIND;
}

/** Maps vcpu_info, and under the FIFO ABI the control blocks. @returns whether they are mapped @internal */
export function mapInfo({ vm, line }: Vcpu): boolean {
  if (vm.region.fifoActive && mapFifo(vm) < 0) return false;
  return vm.gpcs.refresh(line + VCPU_INFO_GPC) === 0;
}

async function sleepAsync({ vm, line }: Vcpu, ms: number): Promise<string> {
  const { words } = vm.region;
  const flag = words.load(line + VCPU_KICK);
  if (!(flag & KICK_SLEEPER)) return 'not-equal';
  return await Atomics.waitAsync(words.i32, (line + VCPU_KICK) >>> 2, flag, ms).value;
}

function result(found: number): WaitResult {
  if (found & CLOSED) return 'closed';
  if (found & EVENTS) return 'events';
  return found & UNBLOCKED ? 'unblocked' : 'timeout';
}
