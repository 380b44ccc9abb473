// A vCPU's thread in test/hammer/timer.test.ts: sets its timer again and again while another thread keeps the time.

import { parentPort, workerData } from 'node:worker_threads';
import { attachVm, type Clock, type VmHandle } from '../../src/index.ts';
import { startTimer, stopTimer } from '../../src/vm/time/timer.ts';

export interface TimerPart {
  readonly role: 'set and stop' | 'set and sleep';
  readonly handle: VmHandle;
  readonly rounds: number;
  readonly seed: number;
  /** events that the other thread has taken, i32 */
  readonly taken: SharedArrayBuffer;
}

/** What became of the timers that were set: each is one of the first three. */
export interface TimerOutcome {
  /** delivered by the call that set it */
  atOnce: number;
  /** delivered by the other thread */
  expired: number;
  stopped: number;
  /** delivered while the guest's clock said that it was not due */
  early: number;
  /** delivered, and no event came */
  lost: number;
}

/** One clock for all threads of the process, ns. */
export const clock: Clock = { now: () => process.hrtime.bigint(), realtime: () => process.hrtime.bigint() };

const PATIENCE = 5_000_000_000n;

function play({ role, handle, rounds, seed, taken }: TimerPart): TimerOutcome {
  const vm = attachVm(handle, { clock });
  const vcpu = vm.vcpu(0);
  const count = new Int32Array(taken);
  const outcome: TimerOutcome = { atOnce: 0, expired: 0, stopped: 0, early: 0, lost: 0 };
  let x = seed;
  const random = (n: number): number => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return (x >>> 0) % n;
  };

  /** Waits for what has to come. */
  const comes = (event: () => boolean): void => {
    const end = clock.now() + PATIENCE;
    while (!event()) {
      if (clock.now() > end) {
        outcome.lost++;
        return;
      }
    }
  };

  function setAndStop(): void {
    const before = Atomics.load(count, 0);
    // From a little in the past to more than is waited for.
    const expires = vm.kvmclock.now() + BigInt(random(40_000) - 2_000);
    if (!startTimer(vcpu, expires, false)) {
      outcome.atOnce++;
    } else {
      for (let looks = random(40); looks > 0 && vcpu.getAttr('timer').expires !== 0n; looks--) {}
      if (stopTimer(vcpu)) {
        outcome.stopped++;
        if (Atomics.load(count, 0) !== before) outcome.early++;
        return;
      }
      outcome.expired++;
    }
    if (vm.kvmclock.now() < expires) outcome.early++;
    comes(() => Atomics.load(count, 0) !== before);
  }

  function setAndSleep(): void {
    const expires = vm.kvmclock.now() + BigInt(random(2_000_000));
    if (startTimer(vcpu, expires, false)) outcome.expired++;
    else outcome.atOnce++;
    comes(() => {
      vcpu.wait(1e9);
      return vcpu.drain() > 0;
    });
    if (vm.kvmclock.now() < expires) outcome.early++;
  }

  for (let i = 0; i < rounds; i++) role === 'set and stop' ? setAndStop() : setAndSleep();
  vm.detach();
  return outcome;
}

if (parentPort) parentPort.postMessage(play(workerData as TimerPart));
