// Waiting for events: the loops around the protocol of assembly/sleep.ts. [KF-16, KF-86..88]

import { EBUSY } from '../abi/errno.ts';
import { KICK_SLEEPER, VCPU_KICK } from '../abi/region.ts';
import { EvtchnError } from '../errors.ts';
import { canBlock } from '../platform.ts';
import type { Vcpu } from './vcpu.ts';

/** Why a wait ended. 'unblocked' is somebody's `kick()`, 'closed' the end of the VM or of this view. */
export type WaitResult = 'events' | 'unblocked' | 'timeout' | 'closed';

/** What a look of the kernel finds, as bits; 0 is nothing. @internal */
export const EVENTS = 1;
const UNBLOCKED = 2;
const CLOSED = 4;

/** What `sleepOn` answers when time has run out. */
const TIMED_OUT = 2;

/** No sleep lasts longer without a look, ns: a platform that forgets a notify costs a second. */
const LONGEST_SLEEP = 1e9;
const NS_PER_MS = 1e6;

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
  vm.gpcs.checkNoBracket();
  let found = vm.kernel.spin(vm.vmBase, vm.agent, index, spins);
  if (found) return result(found);
  if (!vm.shared)
    throw new EvtchnError(
      'EOPNOTSUPP',
      'wait needs shared memory: with a single agent nobody could wake it, use onUpcall',
    );
  if (!canBlock()) throw new EvtchnError('EOPNOTSUPP', 'this thread may not block: use waitAsync');
  for (;;) {
    found = begin(vcpu);
    if (found) return result(found);
    const chunk = Math.min(LONGEST_SLEEP, left);
    const outcome = vm.kernel.sleepOn(vm.vmBase, index, chunk);
    found = vm.kernel.sleepEnd(vm.vmBase, vm.agent, index);
    if (found) return result(found);
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
      vm.gpcs.checkNoBracket();
      let found = begin(vcpu);
      if (found) return result(found);
      const chunk = Math.min(LONGEST_SLEEP, left);
      const outcome = await sleepAsync(vcpu, chunk / NS_PER_MS);
      if (vm.detached) break;
      found = vm.kernel.sleepEnd(vm.vmBase, vm.agent, index);
      if (found) return result(found);
      if (outcome === 'timed-out') left -= chunk;
      if (left <= 0) return 'timeout';
    }
    return 'closed';
  } finally {
    release?.();
  }
}

function begin({ vm, index }: Vcpu): number {
  const found = vm.kernel.sleepBegin(vm.vmBase, vm.agent, index);
  if (found === -EBUSY)
    throw new EvtchnError('EBUSY', `another thread sleeps for vCPU ${index}: one runs a vCPU at a time`);
  return found;
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
