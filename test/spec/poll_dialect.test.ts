// The base of a poll's timeout: a span in KVM, a time in Xen's own ABI; one rule for each VM. [KF-76]

import { describe, expect, test } from 'vitest';
import { createVm } from '../../src/index.ts';
import { errorOf } from '../support.ts';
import { cast } from './evidence.ts';
import { CALLS, call, makeGuest, pollArgument } from './guest.ts';

const SCHED_OP = 29;
const POLL = 3;
const MS = 1_000_000n;

describe.each(CALLS)('$layout layout, shared memory: $shared, $caller caller', ({ long, longMode, shared }) => {
  const deadline = (pollTimeout: 'kvm' | 'xen', timeout: bigint): bigint | null => {
    const guest = makeGuest({ long, longMode, shared, pollTimeout });
    guest.clock.advance(5n * MS);
    const result = call(guest, SCHED_OP, POLL, pollArgument(guest, [7], timeout));
    if (result.kind !== 'blocked') expect.fail(`blocked was expected, it is ${result.kind}`);
    return result.deadline === null ? null : result.deadline - guest.clock.now();
  };

  test('KF-76 KX-HCL-33 KVM: the value is added to the present', () => {
    expect(deadline('kvm', MS)).toBe(MS);
    expect(deadline('kvm', 0n)).toBeNull();
  });

  test('KF-76 XE-BP-23 Xen: the value is a time of the guest’s clock; one that is past ends the poll at once', () => {
    // The guest's clock begins with its VM: 5 ms ago.
    expect(deadline('xen', 6n * MS)).toBe(MS);
    expect(deadline('xen', 0n)).toBeNull();
    for (const past of [1n, 5n * MS, 2n ** 63n, 2n ** 64n - 1n]) expect(deadline('xen', past)).toBe(1n);
  });
});

test('another rule is refused', () => {
  expect(errorOf(() => createVm({ pollTimeout: cast('qemu') })).code).toBe('EINVAL');
});
