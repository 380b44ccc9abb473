// What the owner may be in the middle of when it dies.

import { PAGE_SIZE } from '../../src/abi/shared_info.ts';
import { gfn, gpa, hpa, hva } from '../../src/index.ts';
import { assign, deassign, loopback, reset, setPorts, toEventfd } from '../spec/ports.ts';
import { BOUND, RAM, RINGS, type Scene, SPARE, VCPU_INFO } from './world.ts';

export interface OwnerOperation {
  readonly name: string;
  readonly setup?: (scene: Scene) => void;
  readonly run: (scene: Scene) => void;
}

const host = (s: Scene, page: number) => hva(s.owner.guestBase + page * PAGE_SIZE);
const slot = (s: Scene) => {
  const [first] = s.owner.memslots.list();
  if (first === undefined) throw new Error('there is no slot');
  return first;
};

export const OWNER_OPERATIONS: readonly OwnerOperation[] = [
  { name: 'long_mode', run: (s) => s.owner.setAttr({ type: 'long_mode', enabled: !s.longMode }) },
  { name: 'shared_info moves', run: (s) => s.owner.setAttr({ type: 'shared_info', gfn: gfn(SPARE) }) },
  { name: 'shared_info goes', run: (s) => s.owner.setAttr({ type: 'shared_info', gfn: null }) },
  { name: 'vcpu_info moves', run: (s) => s.owner.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(VCPU_INFO + 512) }) },
  { name: 'vcpu_info goes', run: (s) => s.owner.vcpu(0).setAttr({ type: 'vcpu_info', gpa: null }) },
  { name: 'a time record moves', run: (s) => s.owner.vcpu(0).setAttr({ type: 'vcpu_time_info', gpa: gpa(RAM) }) },
  { name: 'a runstate moves', run: (s) => s.owner.vcpu(0).setAttr({ type: 'runstate_addr', gpa: gpa(RAM - 8) }) },
  { name: 'a vector', run: (s) => s.owner.vcpu(0).setAttr({ type: 'upcall_vector', vector: 0x51 }) },
  { name: 'a timer', run: (s) => s.owner.vcpu(0).setAttr({ type: 'timer', port: 14, expires: s.now() + 1000n }) },
  { name: 'the configuration', run: (s) => s.owner.setConfig({ msr: 0x40000200, evtchnSend: true }) },
  { name: 'all send ports', run: (s) => setPorts(s.owner, [loopback(9, 9), toEventfd(10, s.counter.fd)]) },
  { name: 'a send port more', run: (s) => assign(s.owner, toEventfd(10, s.counter.fd)) },
  { name: 'a send port less', run: (s) => deassign(s.owner, RINGS) },
  { name: 'no send ports', run: (s) => reset(s.owner) },
  { name: 'a port is bound', setup: (s) => s.other.send(BOUND), run: (s) => s.owner.bindVcpu(BOUND, 0) },
  { name: 'all routes', run: (s) => s.owner.routes.set([{ gsi: 2, type: 'xen_evtchn', port: 42, vcpu: 1 }]) },
  { name: 'an eventfd is made', run: (s) => s.owner.eventfds.create(3) },
  { name: 'an eventfd is closed', run: (s) => s.line.close() },
  { name: 'an interrupt is unbound', run: (s) => s.owner.eventfds.unbindIrq(s.line.fd, 1) },
  { name: 'a slot that does not log', run: (s) => s.owner.memslots.set({ ...slot(s), logDirty: false }) },
  { name: 'a slot is moved', run: (s) => s.owner.memslots.set({ ...slot(s), gpa: gpa(0x100000) }) },
  {
    name: 'a slot is deleted and made again',
    run: (s) => {
      const old = slot(s);
      s.owner.memslots.delete(0);
      s.owner.memslots.set(old);
    },
  },
  {
    name: 'a host page moves',
    run: (s) => s.owner.hostPages.move(host(s, 3), 1, hpa(s.owner.guestBase + SPARE * PAGE_SIZE)),
  },
  {
    name: 'an invalidation',
    run: (s) => {
      s.owner.invalidateStart(host(s, 3), host(s, 4));
      s.owner.invalidateEnd();
    },
  },
  { name: 'the clock is set', run: (s) => s.owner.kvmclock.set(5_000_000_000n) },
  { name: 'a TSC is set', run: (s) => s.owner.vcpu(1).setTsc({ offset: 77n }) },
  {
    name: 'a runstate is replaced',
    run: (s) => {
      const times = { running: 70n, runnable: 20n, blocked: 10n, offline: 0n };
      s.owner.vcpu(0).setAttr({ type: 'runstate_data', state: 'running', entryTime: 100n, times });
    },
  },
  {
    name: 'the dirty log is collected and given back',
    setup: (s) => void s.other.guestMemory.write(gpa(RAM), new Uint8Array(5000)),
    run: (s) => {
      s.owner.dirtyLog.collect(0);
      s.owner.dirtyLog.reset();
    },
  },
  { name: 'a snapshot', run: (s) => s.owner.snapshot({ ram: true }) },
  { name: 'a restore', run: (s) => s.owner.restore(s.owner.snapshotState()) },
  { name: 'a dead agent is removed', setup: (s) => void s.attach(), run: (s) => s.owner.detachAgent(2) },
  { name: 'the end of the VM', run: (s) => s.owner.close() },
];
