// The thread that dies in test/hammer/kill.test.ts: it does whatever a thread can do, and never stops by itself.

import { workerData } from 'node:worker_threads';
import { attachVm, EvtchnError, gpa, systemClock, type Vm } from '../../src/index.ts';
import { startTimer, stopTimer } from '../../src/vm/time/timer.ts';
import { CONTROL_WORDS, ROUNDS, VICTIM, VICTIM_PORTS, type VictimPart } from './kill_part.ts';
import { Death, Mortal } from './mortal.ts';

const { handle, ledger, seed, trap } = workerData as VictimPart;
const control = new Int32Array(ledger, 0, CONTROL_WORDS);
const mortal = new Mortal(() => {});
const clock = systemClock();
const vm = trap
  ? attachVm(handle, { clock, trace: { module: trap.module, onWait, ...mortal.hooks } })
  : attachVm(handle, { clock });

/** A sleep of the trace build. */
function onWait(address: number, expected: number): number {
  const outcome = Atomics.wait(new Int32Array(handle.memory.buffer), address >>> 2, expected, 1);
  return outcome === 'ok' ? 0 : outcome === 'not-equal' ? 1 : 2;
}

let x = seed;
function random(n: number): number {
  x ^= x << 13;
  x ^= x >>> 17;
  x ^= x << 5;
  return (x >>> 0) % n;
}
const port = (): number => VICTIM_PORTS + random(VICTIM_PORTS);
const own = vm.vcpu(1);
const counter = vm.eventfds.get(vm.eventfds.list()[0]?.fd ?? 0);

const ACTS: readonly ((vm: Vm) => unknown)[] = [
  (vm) => vm.send(port()),
  (vm) => vm.sendMany(Array.from({ length: 1 + random(12) }, port)),
  (vm) => vm.sendMany(Array.from({ length: 100 + random(800) }, port)),
  (vm) => {
    vm.enter();
    for (let i = random(16); i >= 0; i--) vm.send(port());
    vm.leave();
  },
  (vm) => vm.evtchnSend({ port: port(), vcpu: random(2) }),
  (vm) => (random(2) ? vm.mask(port()) : vm.unmask(port())),
  () => own.drain(() => {}),
  () => own.wait(1e5 * random(5)),
  () => own.poll([port(), port()], 1e5 * random(5)),
  () => own.enterRunstate(random(2) ? 'running' : 'blocked', clock.now()),
  () => own.beforeEntry(),
  () => own.afterExit(),
  (vm) => vm.vcpu(0).resync(),
  (vm) => vm.vcpu(0).kick(),
  (vm) => vm.guestMemory.write(gpa(8 * 4096 + random(8192)), new Uint8Array(1 + random(64)), 1),
  (vm) => vm.gpcs.refresh(vm.region.sharedInfo),
  () => startTimer(own, BigInt(random(1e9)), false),
  () => stopTimer(own),
  (vm) => vm.tick(),
  (vm) => vm.sendPorts.ring(1 + random(2)),
  () => (random(2) ? counter.write(1) : counter.read()),
  (vm) => vm.routes.raise(1, 1),
  (vm) => vm.kvmclock.resample(),
];

function act(): void {
  try {
    ACTS[random(ACTS.length)]?.(vm);
  } catch (error) {
    // The owner moves pages, or somebody else has what this one needs.
    if (!(error instanceof EvtchnError)) throw error;
  }
}

function live(): void {
  Atomics.store(control, VICTIM, vm.agentNumber + 1);
  for (;;) {
    act();
    Atomics.add(control, ROUNDS, 1);
    Atomics.notify(control, ROUNDS);
  }
}

try {
  if (trap) {
    mortal.inhabit(vm);
    mortal.live(trap.step, live);
  } else {
    live();
  }
} catch (error) {
  if (!(error instanceof Death)) throw error;
}
// A thread that has trapped never goes back into its instance.
process.exit(0);
