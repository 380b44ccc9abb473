// Whatever a guest passes: no call throws, traps or touches a byte outside the guest's RAM and the engine's own records. [R9]

import { expect, test } from 'vitest';
import { FlatCpu, regionBytes, VirtualClock } from '../../src/index.ts';
import { createXen } from '../../src/xen/index.ts';
import { random } from '../support.ts';
import { CALLERS, VECTOR_VIA } from './caller.ts';

const NUMBERS = [12, 15, 17, 18, 20, 21, 24, 29, 32, 33, 34];
const PAGES = 16;
const CALLS = 20_000;
/** Numbers that limits are next to. */
const BOUNDARIES = [
  0, 1, 2, 3, 15, 16, 31, 32, 47, 48, 63, 64, 127, 128, 129, 255, 256, 1023, 1024, 4095, 4096, 131071, 131072,
];
const EDGES = [
  ...BOUNDARIES.map(BigInt),
  ...[31n, 32n, 40n, 52n, 62n, 63n, 64n].flatMap((bits) => [(1n << bits) - 1n, 1n << bits]),
];
/** Errors that the interface has: 1..133. */
const LAST_ERRNO = 133n;

test.each(CALLERS)('R9 KF-59 20,000 random hypercalls: $caller caller, shared memory: $shared', ({ long, shared }) => {
  const pick = random(long ? 4711 : 815);
  const sizes = { vcpus: 2, ports: 4096, fifoPorts: 4096, agents: 2 };
  const regionBase = 65536;
  const guestBase = regionBase + Math.ceil(regionBytes(sizes) / 65536 + 1) * 65536;
  const end = guestBase + PAGES * 4096;
  const pages = end / 65536 + 1;
  const memory = new WebAssembly.Memory(shared ? { initial: pages, maximum: pages, shared } : { initial: pages });
  const bytes = new Uint8Array(memory.buffer);
  bytes.fill(0xc3);
  bytes.fill(0, guestBase, end);
  const xen = createXen({ clock: new VirtualClock(1_000_000n) });
  const told: number[] = [];
  const domain = xen.createDomain({
    ...sizes,
    memory,
    regionBase,
    guestBase,
    guestPages: PAGES,
    pirqs: 64,
    hvm: { onGsi: (gsi) => told.push(gsi), onShutdown: () => {}, onVcpu: () => {}, onConsole: () => {} },
  });
  xen.host.bindUnbound(domain.domid, () => {});
  const cpu = new FlatCpu(domain.vm, { longMode: long });
  const edge = (): bigint => BigInt.asUintN(64, EDGES[pick(EDGES.length)] ?? 0n);
  const pointer = (): bigint => (pick(8) === 0 ? edge() : BigInt(8 * 4096 + pick(4 * 4096 + 64)));
  const names = long ? (['rdi', 'rsi', 'rdx'] as const) : (['rbx', 'rcx', 'rdx'] as const);
  const seen = new Set<bigint>();
  for (let i = 0; i < CALLS; i++) {
    const number = pick(20) === 0 ? edge() : BigInt(NUMBERS[pick(NUMBERS.length)] ?? 0);
    const first = pick(20) === 0 ? edge() : BigInt(pick(24));
    const params = [first, number === 24n ? BigInt(pick(3)) : pointer(), pointer()];
    cpu.registers.rax = number;
    for (const [j, name] of names.entries()) cpu.registers[name] = params[j] ?? 0n;
    // What the pointers lead to: small numbers, limits, frames of the guest's, callbacks.
    const view = new DataView(memory.buffer, guestBase + 8 * 4096, 5 * 4096 - 64);
    for (let k = 0; k < 6; k++) {
      const value = [edge(), BigInt(pick(20)), 0x7ff0n, VECTOR_VIA][pick(4)] ?? 0n;
      const target = Number(BigInt.asUintN(32, params[1 + (k & 1)] ?? 0n)) - 8 * 4096 + 4 * pick(6);
      if (target >= 0 && target + 8 <= view.byteLength) view.setBigUint64(target, value, true);
    }
    const result = domain.hypercall(i & 1, cpu);
    if (result.kind === 'blocked') {
      domain.vm.vcpu(i & 1).kick();
      domain.vm.vcpu(i & 1).beforeEntry();
    } else {
      expect(result.kind).toBe('handled');
      if (result.kind === 'handled') seen.add(BigInt.asIntN(64, result.result));
    }
  }
  for (const result of seen) expect(result).toBeGreaterThanOrEqual(-LAST_ERRNO);
  expect(seen.size).toBeGreaterThan(12);
  expect(told.length).toBeGreaterThanOrEqual(0);
  const isCanary = (byte: number): boolean => byte === 0xc3;
  expect(bytes.subarray(0, regionBase).every(isCanary)).toBe(true);
  expect(bytes.subarray(regionBase + regionBytes(sizes), guestBase).every(isCanary)).toBe(true);
  expect(bytes.subarray(end).every(isCanary)).toBe(true);
});
