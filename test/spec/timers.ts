// A VM with a timer, its clocks, and what can be seen of both.

import { PRIORITY_2LEVEL } from '../../src/abi/attribute.ts';
import {
  REQUEST_UNBLOCK,
  VCPU_POLL_DEADLINE,
  VCPU_REQUESTS,
  VCPU_TIMER_CALLBACK,
  VCPU_TIMER_DEADLINE,
  VCPU_TIMER_EXPIRES,
  VCPU_TIMER_PENDING,
} from '../../src/abi/region.ts';
import { type Vcpu, VirtualClock, type Vm, type VmOptions } from '../../src/index.ts';
import { startTimer } from '../../src/vm/time/timer.ts';
import { makeVm } from '../support.ts';

export const PORT = 13;
export const MS = 1_000_000n;
export const SECOND = 1000n * MS;
export const DAY = 86_400n * SECOND;
export const YEAR = 365n * DAY;

/** The host's clock when the tests' VMs are made: guest time is another number. */
export const BOOT = 77_000_000_123n;

export interface Timed {
  readonly vm: Vm;
  readonly vcpu: Vcpu;
  readonly clock: VirtualClock;
}

export interface TimedOptions extends VmOptions {
  readonly longMode: boolean;
  readonly tscHz?: number;
  /** the timer's port, 0 for none */
  readonly port?: number;
}

/** A VM whose guest has run for a second, with a timer on vCPU 0. */
export function makeTimed({ tscHz, port = PORT, ...options }: TimedOptions): Timed {
  const clock = new VirtualClock(BOOT, 0n, tscHz === undefined ? {} : { tscHz });
  const vm = makeVm({ clock, ...options });
  const vcpu = vm.vcpu(0);
  if (port !== 0) setTimer(vcpu, 0n, port);
  clock.advance(SECOND);
  return { vm, vcpu, clock };
}

/** TIMER SET. */
export function setTimer(vcpu: Vcpu, expires: bigint, port = PORT): void {
  vcpu.setAttr({ type: 'timer', port, priority: PRIORITY_2LEVEL, expires });
}

/** Sets the timer `delta` from now on the guest's clock, as a hypercall does. @returns its expiry */
export function startIn(vcpu: Vcpu, delta: bigint): bigint {
  const expires = vcpu.vm.kvmclock.now() + delta;
  startTimer(vcpu, expires, false);
  return expires;
}

/** The timer as it lies in the region. */
export function timerState({ vm, record }: Vcpu) {
  const { words } = vm.region;
  return {
    expires: words.load64(record + VCPU_TIMER_EXPIRES),
    deadline: words.load64(record + VCPU_TIMER_DEADLINE),
    pending: words.load(record + VCPU_TIMER_PENDING),
    callback: words.load(record + VCPU_TIMER_CALLBACK),
  };
}

/** A timer that is not set, and that nobody is busy with. */
export const IDLE = { expires: 0n, deadline: 0n, pending: 0, callback: 0 };

/** Whether the vCPU was asked to look up; takes the request. */
export function unblocked(vcpu: Vcpu): boolean {
  return vcpu.takeRequests(REQUEST_UNBLOCK) !== 0;
}

/** The requests that stand. */
export function requestsOf({ vm, line }: Vcpu): number {
  return vm.region.words.load(line + VCPU_REQUESTS);
}

/** When the vCPU's poll times out, 0 for never. */
export function pollDeadline({ vm, record }: Vcpu): bigint {
  return vm.region.words.load64(record + VCPU_POLL_DEADLINE);
}

/** From here on the agent at `agent` is busy with the timer; 0: nobody is. */
export function holdTimer(vcpu: Vcpu, agent: number): void {
  vcpu.vm.region.words.store(vcpu.record + VCPU_TIMER_CALLBACK, agent);
}
