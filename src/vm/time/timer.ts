// The single-shot timer of a vCPU, VIRQ_TIMER. [kvm-xen 8.3]
//
// Its state is in the vCPU's record. Whoever changes it or delivers its expiry names itself in VCPU_TIMER_CALLBACK first:
//
//   armer:  callback word ─ deadline 0 ─ pending 0 ─ expires ─ deadline ─ callback word 0
//   expiry: callback word ─ deadline taken (compare-exchange to 0) ─ deliver ─ expires 0 ─ callback word 0
//
// So an expiry meets the port and the deadline that it was armed with, and nobody waits for a timer while events are sent. An
// expiry whose thread died in between has no deadline any more, but still its `expires`: by that it is found and armed again.

import { PRIORITY_2LEVEL } from '../../abi/attribute.ts';
import { EAGAIN } from '../../abi/errno.ts';
import { CAP_INTERCEPT_HCALL, HVM_CONFIG_FLAGS } from '../../abi/hvm_config.ts';
import {
  PORT_BOUND,
  PORT_TABLE,
  PORT_TABLE_PORTS,
  PORT_VCPU_BITS,
  REGION_DOMAIN,
  REGION_HVM_CONFIG,
  REGION_VIRQS,
  VCPU_TIMER_CALLBACK,
  VCPU_TIMER_DEADLINE,
  VCPU_TIMER_EXPIRES,
  VCPU_TIMER_PENDING,
  VCPU_TIMER_PORT,
} from '../../abi/region.ts';
import { NR_VIRQS, VIRQ_TIMER } from '../../abi/xen_virq.ts';
import { checkRange, EvtchnError } from '../../errors.ts';
import type { Words } from '../../memory/words.ts';
import type { Row } from '../attribute_row.ts';
import type { TimerAttr } from '../attributes.ts';
import { is2Level, raise, raiseFast } from '../events/event.ts';
import { gateOpen } from '../hvm_config.ts';
import type { Vcpu } from '../vcpu.ts';
import type { Vm } from '../vm.ts';
import { announceDeadline } from './deadline_watch.ts';
import { checkTime } from './nanoseconds.ts';
import { type TimerNow, timerNow } from './timer_clock.ts';

/** Linux as a guest computes deadlines that are wrong or very far: from here on it gets an early wake-up instead. [KX-TMR-03] */
const FAR = 1n << 50n;
const SOON = 100_000_000n;

const LAST_DEADLINE = (1n << 64n) - 1n;
/** No deadline that is set: those of expiries that died with their thread. */
const ABANDONED = 0n;

/** Looks at the callback word: at first, after a nap, and in place of one where a thread may not sleep; and naps of 1 ms. */
const SPINS = 500;
const SPINS_RESTED = 10;
const SPINS_AWAKE = 20_000;
const NAPS = 2_000;

// ── what the vCPU's own thread calls ───────────────────────────────────────────────────────────────────────────────

/** Whether the timer is handled here: it has a port, or the VM is a Xen domain. [KX-TMR-01] @internal */
export function timerEnabled({ vm, record }: Vcpu): boolean {
  return isDomain(vm) || vm.region.words.load(record + VCPU_TIMER_PORT) !== 0;
}

/**
 * Sets the timer to `expires` on the guest's clock, in place of what it was set to; one that is not in the future is delivered
 * now. `workaround`: what Linux as a guest may get wrong is taken as 100 ms from now. [KX-TMR-03]
 * Throws EBUSY when another thread does not end its delivery: the timer is as it was.
 * @returns whether it is set now; else it has expired @internal
 */
export function startTimer(vcpu: Vcpu, expires: bigint, workaround: boolean): boolean {
  const now = timerNow(vcpu, true);
  const armed = alone(vcpu, () => arm(vcpu, now, expires, workaround));
  if (armed) announceDeadline(vcpu.vm);
  return armed;
}

/** Stops the timer: nothing of it comes any more. Throws EBUSY as `startTimer`. [KX-TMR-04] @returns whether it was set @internal */
export function stopTimer(vcpu: Vcpu): boolean {
  const stopped = alone(vcpu, () => disarm(vcpu));
  if (stopped) announceDeadline(vcpu.vm);
  return stopped;
}

/** Whether an expiry waits for the vCPU to deliver it by `injectTimer`. [KX-TMR-21] @internal */
export function timerPending(vcpu: Vcpu): boolean {
  const { vm, record } = vcpu;
  const { words, base } = vm.region;
  if (words.load(record + VCPU_TIMER_PENDING) === 0) return false;
  const intercepts = (words.load(base + REGION_HVM_CONFIG + HVM_CONFIG_FLAGS) & CAP_INTERCEPT_HCALL) !== 0;
  return intercepts && gateOpen(vm) && timerEnabled(vcpu);
}

/**
 * Delivers an expiry that could not be delivered where it came up. One that cannot be delivered here either is lost, but for
 * one that shared_info could not be mapped in time for: that one waits on. [KX-TMR-20] Throws EBUSY as `startTimer`. @internal
 */
export function injectTimer(vcpu: Vcpu): void {
  if (vcpu.vm.region.words.load(vcpu.record + VCPU_TIMER_PENDING) === 0) return;
  alone(vcpu, () => inject(vcpu));
}

// ── what a timekeeper calls ────────────────────────────────────────────────────────────────────────────────────────

/**
 * When the timer in a vCPU's record is due on the host's clock; null: it is not set. An expiry that died with the thread that
 * delivered it has been due for ever. May be a false alarm, never a missed one: `expireTimer` looks again. @internal
 */
export function timerDeadline(words: Words, record: number): bigint | null {
  const deadline = words.load64(record + VCPU_TIMER_DEADLINE);
  if (deadline !== 0n) return deadline;
  const abandoned = isAbandoned(words, record) && words.load(record + VCPU_TIMER_CALLBACK) === 0;
  return abandoned ? ABANDONED : null;
}

/**
 * Lets the timer expire if it is still the one with this deadline, which has passed, and if the guest's clock says so too; else
 * the deadline is put off. Where nothing may sleep. [KX-TMR-10]
 * @returns whether it has expired @internal
 */
export function expireTimer(vcpu: Vcpu, deadline: bigint): boolean {
  const place = enterCallback(vcpu);
  // Somebody sets it or delivers it right now. If it is due after that, the next look finds it.
  if (place === 'busy') return false;
  try {
    return deadline === ABANDONED ? revive(vcpu) : expire(vcpu, deadline);
  } finally {
    if (place === 'entered') leaveCallback(vcpu);
  }
}

// ── the attribute ──────────────────────────────────────────────────────────────────────────────────────────────────

/** @internal */
export const TIMER_ROW: Row<Vcpu, TimerAttr> = {
  validate: (attr) => {
    checkRange('the port of the timer', attr.port, 0, 2 ** 32 - 1);
    checkTime('the expiry of the timer', attr.expires);
    if (attr.port === 0 || is2Level(attr.priority)) return;
    throw new EvtchnError(
      'EINVAL',
      `the priority of the timer is ${String(attr.priority)}, allowed is ${PRIORITY_2LEVEL}, 2-level delivery`,
    );
  },
  // Stop, change, start, with no expiry in between: none of the old timer reaches the new port. [KX-TMR-02, KF-53]
  set: (attr, vcpu) => {
    const expires = BigInt(attr.expires);
    const now = attr.port !== 0 && expires !== 0n ? timerNow(vcpu, true) : null;
    const changed = alone(vcpu, () => {
      const stopped = disarm(vcpu);
      vcpu.vm.region.words.store(vcpu.record + VCPU_TIMER_PORT, attr.port | 0);
      const armed = now !== null && arm(vcpu, now, expires, false);
      return armed || stopped;
    });
    if (changed) announceDeadline(vcpu.vm);
  },
  // Either the expiry is reported or the event is in shared_info. While nobody else may deliver, the deadline need not be
  // taken away for that, and is as it was afterwards. [KX-TMR-25]
  get: (vcpu) => {
    const { words } = vcpu.vm.region;
    const { record } = vcpu;
    return alone(vcpu, () => {
      if (words.load64(record + VCPU_TIMER_EXPIRES) !== 0n) inject(vcpu);
      const port = words.load(record + VCPU_TIMER_PORT) >>> 0;
      return { type: 'timer', port, priority: PRIORITY_2LEVEL, expires: words.load64(record + VCPU_TIMER_EXPIRES) };
    });
  },
};

// ── inside, with this thread's name in the callback word ───────────────────────────────────────────────────────────

/** @returns whether it is set now; else it has expired */
function arm(vcpu: Vcpu, { guest, host }: TimerNow, expires: bigint, workaround: boolean): boolean {
  const { record } = vcpu;
  const { words } = vcpu.vm.region;
  let delta = BigInt.asIntN(64, expires - guest);
  if (workaround && (BigInt.asIntN(64, expires) < 0n || delta >= FAR)) {
    delta = SOON;
    expires = guest + SOON;
  }
  words.store64(record + VCPU_TIMER_DEADLINE, 0n);
  words.store(record + VCPU_TIMER_PENDING, 0);
  words.store64(record + VCPU_TIMER_EXPIRES, BigInt.asUintN(64, expires));
  if (delta <= 0n) {
    deliver(vcpu, raiseFast);
    return false;
  }
  words.store64(record + VCPU_TIMER_DEADLINE, deadlineAfter(host, delta));
  return true;
}

/** @returns whether it was set */
function disarm({ vm, record }: Vcpu): boolean {
  const { words } = vm.region;
  const deadline = words.exchange64(record + VCPU_TIMER_DEADLINE, 0n);
  words.store64(record + VCPU_TIMER_EXPIRES, 0n);
  words.store(record + VCPU_TIMER_PENDING, 0);
  return deadline !== 0n;
}

function expire(vcpu: Vcpu, deadline: bigint): boolean {
  const { vm, record } = vcpu;
  const { words } = vm.region;
  const { guest, host } = timerNow(vcpu, false);
  const left = BigInt.asIntN(64, words.load64(record + VCPU_TIMER_EXPIRES) - guest);
  const next = left > 0n ? deadlineAfter(host, left) : 0n;
  if (words.compareExchange64(record + VCPU_TIMER_DEADLINE, deadline, next) !== deadline || next !== 0n) return false;
  deliver(vcpu, raiseFast);
  return true;
}

/** Sets an expiry again that died with the thread that delivered it; twice is harmless, never is not. */
function revive(vcpu: Vcpu): boolean {
  const { vm, record } = vcpu;
  const { words } = vm.region;
  if (!isAbandoned(words, record)) return false;
  if (arm(vcpu, timerNow(vcpu, false), words.load64(record + VCPU_TIMER_EXPIRES), false)) return false;
  // It may have died between its pending bit and its upcall, with which this one was coalesced: the guest looks at all words.
  vm.kernel.resync(vm.vmBase, vm.agent, upcallVcpu(vcpu));
  return true;
}

/** The vCPU that the timer's upcall goes to: the one that its port is bound to, or its own. */
function upcallVcpu(vcpu: Vcpu): number {
  const { vm, index } = vcpu;
  const { words, base } = vm.region;
  const port = timerPort(vcpu);
  const entry = port < PORT_TABLE_PORTS ? words.load(base + PORT_TABLE + 4 * port) : 0;
  return entry & PORT_BOUND ? entry & PORT_VCPU_BITS : index;
}

/** [KX-TMR-20] */
function inject(vcpu: Vcpu): void {
  const { words } = vcpu.vm.region;
  if (words.exchange(vcpu.record + VCPU_TIMER_PENDING, 0) !== 0) deliver(vcpu, raise);
}

/**
 * Raises the timer's port. Nothing is held that this needs, and in memory of a single agent the guest may answer, and set the
 * timer anew, before it returns. [KF-32]
 */
function deliver(vcpu: Vcpu, send: typeof raise): void {
  const { vm, index, record } = vcpu;
  const { words } = vm.region;
  if (words.load(record + VCPU_TIMER_PENDING) !== 0) return;
  if (fire(vcpu, send) === -EAGAIN) {
    words.add(record + VCPU_TIMER_PENDING, 1);
    vm.kernel.unblock(vm.vmBase, vm.agent, index, 0);
  } else if (isAbandoned(words, record)) {
    words.store64(record + VCPU_TIMER_EXPIRES, 0n);
  }
}

/** The timer's port is raised: the one it was given, or in a Xen domain the one that VIRQ_TIMER has now, if any. [XE-MOD-23] */
function fire({ vm, index, record }: Vcpu, send: typeof raise): number {
  const { words } = vm.region;
  if (!isDomain(vm)) return send(vm, words.load(record + VCPU_TIMER_PORT), index);
  const raiseVirq = (): number => vm.kernel.xenRaiseVirq(vm.vmBase, vm.agent, index, VIRQ_TIMER);
  return send === raise ? vm.retry(raiseVirq) : raiseVirq();
}

function isDomain({ region }: Vm): boolean {
  return region.words.load(region.base + REGION_DOMAIN) !== 0;
}

/** The port that the timer raises now, 0 for none. */
function timerPort({ vm, index, record }: Vcpu): number {
  const { words } = vm.region;
  if (!isDomain(vm)) return words.load(record + VCPU_TIMER_PORT) >>> 0;
  return words.load(vm.region.part(REGION_VIRQS) + (index * NR_VIRQS + VIRQ_TIMER) * 4);
}

/** Set, with neither a deadline nor an expiry that waits: in the middle of a delivery, or where one has died. */
function isAbandoned(words: Words, record: number): boolean {
  return (
    words.load64(record + VCPU_TIMER_DEADLINE) === 0n &&
    words.load(record + VCPU_TIMER_PENDING) === 0 &&
    words.load64(record + VCPU_TIMER_EXPIRES) !== 0n
  );
}

/** When `delta` ns have passed on the host's clock: the last moment that can be told, if it lies behind. @internal */
export function deadlineAfter(host: bigint, delta: bigint): bigint {
  const deadline = host + delta;
  return deadline < LAST_DEADLINE ? deadline : LAST_DEADLINE;
}

// ── the callback word ──────────────────────────────────────────────────────────────────────────────────────────────

/** Calls `body` while no other thread sets or delivers the timer. Throws EBUSY when one does for too long. */
function alone<T>(vcpu: Vcpu, body: () => T): T {
  const place = awaitCallback(vcpu);
  try {
    return body();
  } finally {
    if (place === 'entered') leaveCallback(vcpu);
  }
}

/** 'inside': this thread was there already and calls from its own delivery. */
function enterCallback({ vm, record }: Vcpu): 'entered' | 'inside' | 'busy' {
  const { words } = vm.region;
  const word = record + VCPU_TIMER_CALLBACK;
  // Looking first leaves the cache line to the other one while it is busy.
  const other = words.load(word) || words.compareExchange(word, 0, vm.agent);
  if (other === 0) return 'entered';
  // In memory of a single thread the other one is a view that this thread has, too.
  return other === (vm.agent | 0) || !vm.shared ? 'inside' : 'busy';
}

/** @internal */
export function leaveCallback({ vm, record }: Vcpu): void {
  // Unless this thread was taken for dead meanwhile.
  vm.region.words.compareExchange(record + VCPU_TIMER_CALLBACK, vm.agent, 0);
}

/** Enters the callback word, or throws EBUSY. `leaveCallback` ends it when it says 'entered'. @internal */
export function awaitCallback(vcpu: Vcpu): 'entered' | 'inside' {
  const { vm, index, record } = vcpu;
  const { words } = vm.region;
  vm.checkOpen();
  let spins = SPINS;
  let other = 0;
  for (let nap = 0; nap < NAPS; nap++) {
    for (let spin = 0; spin < spins; spin++) {
      const place = enterCallback(vcpu);
      if (place !== 'busy') return place;
    }
    other = words.load(record + VCPU_TIMER_CALLBACK) || other;
    spins = words.wait(record + VCPU_TIMER_CALLBACK, other, 1) ? SPINS_RESTED : SPINS_AWAKE;
  }
  const number = vm.region.agentNumber(other >>> 0);
  throw new EvtchnError(
    'EBUSY',
    `agent ${number} has held the timer of vCPU ${index} for ${NAPS} ms and more: detachAgent(${number}) if its thread is dead`,
  );
}
