// When the engine has something to do next, and doing it: timers that expire, polls that time out, and what is built on a VM.
//
// The deadlines are u64 fields of the vCPUs' records, on the host's clock, so any thread may keep the time, and several may. There
// is no queue that could be out of order: a tick collects what is due and sorts it. [KF-27]

import { VCPU_POLL_DEADLINE } from '../../abi/region.ts';
import type { Words } from '../../memory/words.ts';
import type { Vcpu } from '../vcpu.ts';
import type { Vm } from '../vm.ts';
import { announceDeadline } from './deadline_watch.ts';
import { expireTimer, timerDeadline } from './timer.ts';

/** Something to be done at a time. */
interface Deadline {
  /** ns on the host's clock */
  readonly at: bigint;
  /** Does it, unless it was done or changed meanwhile. @returns whether it was done */
  readonly expire: () => boolean;
}

/** Deadlines of something that is built on a VM, kept in its region: looked at whenever those of the VM are. @internal */
export type DeadlineSource = () => Iterable<Deadline>;

/** The earliest deadline, ns on the host's clock, or null: nothing is set. @internal */
export function nextDeadline(vm: Vm): bigint | null {
  let next: bigint | null = null;
  for (const { at } of deadlines(vm)) if (next === null || at < next) next = at;
  return next;
}

/**
 * Does what is due at `now`, earliest first. What is set meanwhile waits for the next tick, so this ends.
 * @returns how many timers have expired and polls have timed out @internal
 */
export function tick(vm: Vm, now: bigint): number {
  // One reading of the clock for all. A time that has not come yet is no reason to be early.
  const clock = vm.clock.now();
  const until = now < clock ? now : clock;
  const due = [...deadlines(vm)].filter(({ at }) => at <= until);
  // Those of one moment stay in order: by vCPU, the timer first, then those of other sources.
  due.sort((a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : 0));
  let done = 0;
  for (const { expire } of due) {
    // A listener of one that has expired may have ended this view: the rest is for others.
    if (vm.detached) break;
    if (expire()) done++;
  }
  return done;
}

/** Sets when a poll of the vCPU times out, ns on the host's clock; 0: it does not, or not any more. [KX-HCL-34] @internal */
export function setPollDeadline({ vm, record }: Vcpu, deadline: bigint): void {
  vm.region.words.store64(record + VCPU_POLL_DEADLINE, deadline);
  announceDeadline(vm);
}

/** [KX-HCL-37] */
function expirePoll({ vm, index, record }: Vcpu, deadline: bigint): boolean {
  const { words } = vm.region;
  if (words.load64(record + VCPU_POLL_DEADLINE) !== deadline) return false;
  // Before the deadline goes, so that it does not die with this thread. A poller that is not there any more wakes up in vain.
  vm.kernel.unblock(vm.vmBase, vm.agent, index, 0);
  return words.compareExchange64(record + VCPU_POLL_DEADLINE, deadline, 0n) === deadline;
}

function* deadlines(vm: Vm): Generator<Deadline> {
  const { region } = vm;
  for (let index = 0; index < region.vcpus; index++) {
    const record = region.vcpuRecord(index);
    const timer = timerDeadline(region.words, record);
    if (timer !== null) yield { at: timer, expire: () => expireTimer(vm.vcpu(index), timer) };
    const poll = pollDeadline(region.words, record);
    if (poll !== 0n) yield { at: poll, expire: () => expirePoll(vm.vcpu(index), poll) };
  }
  for (const source of vm.deadlineSources) yield* source();
}

function pollDeadline(words: Words, record: number): bigint {
  return words.load64(record + VCPU_POLL_DEADLINE);
}
