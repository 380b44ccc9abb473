// The owner dies, and nobody can remove it: a change of mappings that it had begun stays open. But whatever the others do ends, with
// an answer that it may have, and where no change is open, events arrive.

import { GPC_ACTIVE, REGION_CLOSED, REGION_INVALIDATE_ACTIVE, REGION_STATE } from '../../src/abi/region.ts';
import { type ErrorCode, EvtchnError, gpa, type Vm } from '../../src/index.ts';
import { startTimer } from '../../src/vm/time/timer.ts';
import type { OwnerOperation } from './owner_operations.ts';
import { COUNTS, DeathWorld, PULSES, RAM, RINGS, type Scene } from './world.ts';

const world = new DeathWorld();

const PORTS = [5, 70, 300];
const RESULTS = [1, 0, -107, -22, -14, -11];
const CODES: readonly ErrorCode[] = ['EAGAIN', 'EBUSY', 'EFAULT', 'EINVAL', 'EBADF'];
/** Runs `call`; an EvtchnError with one of those codes is an answer. */
function answers(what: string, call: () => unknown): void {
  try {
    call();
  } catch (error) {
    if (error instanceof EvtchnError && CODES.includes(error.code)) return;
    throw new Error(`${what}: ${String(error)}`);
  }
}

/** Everything that a thread does, on every vCPU. */
function use(vm: Vm, s: Scene): void {
  for (const port of PORTS) {
    const result = vm.send(port);
    if (!RESULTS.includes(result)) throw new Error(`a send answers ${result}`);
  }
  answers('a batch', () => vm.sendMany(PORTS));
  answers('an event', () => vm.evtchnSend({ port: 6, vcpu: 1 }));
  for (const port of [RINGS, COUNTS, PULSES]) answers('a ring', () => vm.sendPorts.ring(port));
  answers('an interrupt', () => vm.routes.raise(1, 1));
  answers('a write', () => vm.eventfds.get(s.counter.fd).write(1));
  answers('RAM', () => vm.guestMemory.write(gpa(RAM), Uint8Array.of(1)));
  answers('the clock', () => vm.kvmclock.now());
  answers('a tick', () => vm.tick());
  for (let i = 0; i < vm.vcpus; i++) {
    const vcpu = vm.vcpu(i);
    answers('an upcall', () => vcpu.upcallPending);
    answers('a drain', () => vcpu.drain(() => {}));
    answers('a sleep', () => vcpu.wait(1e6));
    answers('a poll', () => vcpu.poll([7], 1e6));
    answers('a runstate', () => vcpu.enterRunstate('blocked', 10n ** 10n, 60));
    answers('a guest entry', () => vcpu.beforeEntry());
    answers('a timer', () => startTimer(vcpu, 1n, false));
    answers('an explanation', () => String(vm.explain(5)));
  }
}

/** Whether events have to arrive: the VM goes on, nothing is being changed, and everything is registered. */
function whole({ other }: Scene): boolean {
  const { words, base } = other.region;
  if (words.load(base + REGION_STATE) === REGION_CLOSED || words.load(base + REGION_INVALIDATE_ACTIVE) !== 0)
    return false;
  const caches = [other.region.sharedInfo, ...Array.from({ length: other.vcpus }, (_, i) => other.region.vcpuLine(i))];
  // A slot may be away.
  return caches.every((gpc) => words.load(gpc + GPC_ACTIVE) !== 0 && other.gpcs.refresh(gpc) === 0);
}

function arrive(s: Scene): void {
  for (const vm of [s.other, s.attach()]) {
    for (let i = 0; i < vm.vcpus; i++) {
      // As a removal would: it may have died between a table and those who have to be told.
      vm.vcpu(i).resync();
      vm.vcpu(i).drain();
    }
    const found: number[] = [];
    for (const port of PORTS) if (vm.send(port) !== 1) throw new Error(`a send of port ${port} is not delivered`);
    for (let i = 0; i < vm.vcpus; i++) if (vm.vcpu(i).upcallPending) vm.vcpu(i).drain((port) => found.push(port));
    for (const port of PORTS) if (!found.includes(port)) throw new Error(`port ${port} did not arrive`);
  }
}

/** The owner dies before step `at`, and the others go on; throws what does not hold. @returns whether events had to arrive, and did */
export function ownerDies({ setup, run }: OwnerOperation, longMode: boolean, at: number): boolean {
  const s = world.orphaned(longMode);
  setup?.(s);
  s.mortal.live(at, () => run(s));
  impatient(s.other);
  use(s.other, s);
  if (!whole(s)) return false;
  arrive(s);
  return true;
}

/** How many steps an operation takes. */
export function ownerSteps({ setup, run }: OwnerOperation, longMode: boolean): number {
  const s = world.orphaned(longMode);
  setup?.(s);
  s.mortal.live(-1, () => run(s));
  return s.mortal.taken;
}

/** An invalidation that nobody ends need not be waited for. */
function impatient(vm: Vm): void {
  const { words, base } = vm.region;
  vm.changes.awaitInvalidations = () => words.load(base + REGION_INVALIDATE_ACTIVE) === 0;
}
