// What happens to a vCPU's thread, as far as its runstate is concerned: it begins to run the vCPU, it ends, it loses its core.
// Blocked and offline are the embedder's to say; a vCPU that is halted or has exited counts as running. [KX-RUN-01]

import {
  REQUEST_CLOCK_UPDATE,
  REQUEST_STEAL_UPDATE,
  VCPU_LOADED,
  VCPU_MODE,
  VCPU_RUN_DELAY,
} from '../../abi/region.ts';
import { gateOpen } from '../hvm_config.ts';
import type { Vcpu } from '../vcpu.ts';
import { clockIsStale } from './guest_clock.ts';
import { checkTime, type Nanoseconds } from './nanoseconds.ts';
import { enterRunstate } from './runstate.ts';

/** How a thread stops running a vCPU. */
export interface Unload {
  /** It has lost its core while the vCPU wanted to run; false by default: the vCPU has left to the embedder. */
  readonly preempted?: boolean;
  /** How long it has waited for a core so far, ns; as it last said by default. */
  readonly runDelay?: Nanoseconds;
}

/** @internal */
export function load(vcpu: Vcpu, runDelay: Nanoseconds): void {
  vcpu.vm.checkOpen();
  checkTime('runDelay', runDelay);
  const { words } = vcpu.vm.region;
  words.store64(vcpu.record + VCPU_RUN_DELAY, BigInt(runDelay));
  words.or(vcpu.record + VCPU_MODE, VCPU_LOADED);
  requestSteal(vcpu);
  if (clockIsStale(vcpu)) vcpu.request(REQUEST_CLOCK_UPDATE);
}

/** @internal */
export function unload(vcpu: Vcpu, { preempted = false, runDelay = lastRunDelay(vcpu) }: Unload): void {
  const { vm, record } = vcpu;
  vm.checkOpen();
  checkTime('runDelay', runDelay);
  const { words } = vm.region;
  // First: what it was, and no more.
  const loaded = words.and(record + VCPU_MODE, ~VCPU_LOADED) & VCPU_LOADED;
  if (loaded && preempted && gateOpen(vm)) enterRunstate(vcpu, 'runnable', vm.kvmclock.now(), runDelay);
  else words.store64(record + VCPU_RUN_DELAY, BigInt(runDelay));
}

/** Asks for the time since the vCPU last ran to be accounted before the guest goes on. [KX-RUN-01] @internal */
export function requestSteal(vcpu: Vcpu): void {
  if (gateOpen(vcpu.vm)) vcpu.request(REQUEST_STEAL_UPDATE);
}

/** Answers STEAL_UPDATE at guest entry: the vCPU runs from now on. [KX-RUN-01, 02] @internal */
export function accountSteal(vcpu: Vcpu): void {
  const { vm } = vcpu;
  vcpu.takeRequests(REQUEST_STEAL_UPDATE);
  let done = !gateOpen(vm);
  try {
    if (!done) enterRunstate(vcpu, 'running', vm.kvmclock.now(), lastRunDelay(vcpu));
    done = true;
  } finally {
    if (!done) requestSteal(vcpu);
  }
}

/**
 * How long the thread that runs the vCPU has waited for a core, ns, as it last said: to `load`, `unload` or `enterRunstate`. It
 * stands for the calling thread's own in everything that names none: entry, and the runstate attributes. @internal
 */
export function lastRunDelay({ vm, record }: Vcpu): bigint {
  return vm.region.words.load64(record + VCPU_RUN_DELAY);
}
