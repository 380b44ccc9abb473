import { describe, expect, test } from 'vitest';
import {
  PAGE_SIZE,
  SHARED_INFO_MASK_COMPAT,
  SHARED_INFO_MASK_LONG,
  SHARED_INFO_PENDING,
} from '../../src/abi/shared_info.ts';
import { VCPU_INFO_SELECTOR_COMPAT, VCPU_INFO_SELECTOR_LONG } from '../../src/abi/vcpu_info.ts';
import { gfn, gpa, hva, type Vm } from '../../src/index.ts';
import { errorOf, KINDS, type MakeOptions, makeVm, ram, random, SHARED_INFO_GFN, SHARED_INFO_GPA } from '../support.ts';
import { Reference } from './reference.ts';

const SEED = 20261121;
const OPERATIONS = 100_000;
const VCPUS = 3;
/** Where a vcpu_info may be: aligned, aligned for 32 bits only, and at an odd byte. */
const PLACES = [0x5000, 0x5804, 0x6101];

type Step = (n: (limit: number) => number) => [string, unknown, unknown];

/** The operations, each done to the engine and to the reference; the two results have to be equal. */
function steps(vm: Vm, ref: Reference, maxPorts: number): Step[] {
  const port = (n: (limit: number) => number): number => {
    // Mostly a few words, so that ports meet; sometimes anywhere, sometimes no port at all.
    const where = n(20);
    if (where === 0) return [-1, 0, maxPorts, 2 ** 31][n(4)] as number;
    return where < 15 ? 1 + n(200) : 1 + n(maxPorts - 1);
  };
  const valid = (n: (limit: number) => number): number => 1 + n(200);
  const send: Step = (n) => {
    const p = port(n);
    return [`send(${p})`, vm.send(p), ref.send(p)];
  };
  const sendTo: Step = (n) => {
    const [p, v] = [port(n), n(VCPUS)];
    const found = vm.retry(() => vm.kernel.sendTo(vm.vmBase, vm.agent, p, v));
    return [`sendTo(${p}, ${v})`, found, ref.sendTo(p, v)];
  };
  const sendMany: Step = (n) => {
    const ports = Array.from({ length: n(150) }, () => port(n));
    const results = ports.map((p) => ref.send(p | 0));
    const counts = (code: number): number => results.filter((r) => r === code).length;
    const delivered = vm.sendMany(ports);
    const expected = { delivered: counts(1), coalesced: counts(0), masked: counts(-107), bad: counts(-22) };
    return [`sendMany(${ports.join(' ')})`, [delivered, vm.batchCounts], [expected.delivered, expected]];
  };
  const bracket: Step = (n) => {
    const ports = [port(n), port(n), port(n)];
    vm.enter();
    const results = ports.map((p) => vm.send(p));
    vm.leave();
    return [`bracket(${ports.join(' ')})`, results, ports.map((p) => ref.send(p))];
  };
  const mask: Step = (n) => {
    const p = port(n);
    return [`mask(${p})`, vm.mask(p), ref.setMask(p)];
  };
  const unmask: Step = (n) => {
    const p = port(n);
    return [`unmask(${p})`, vm.unmask(p), ref.unmask(p)];
  };
  const drain: Step = (n) => {
    const v = n(VCPUS);
    const expected = ref.drain(v);
    if (expected === null) return [`drain(${v})`, errorOf(() => vm.vcpu(v).drain()).code, 'EINVAL'];
    const ports: number[] = [];
    vm.vcpu(v).drain((p) => ports.push(p));
    return [`drain(${v})`, ports, expected];
  };
  const bind: Step = (n) => {
    const [p, v] = [valid(n), n(VCPUS)];
    vm.bindVcpu(p, v);
    ref.bind(p, v);
    return [`bind(${p}, ${v})`, 0, 0];
  };
  const status: Step = (n) => {
    const p = valid(n);
    const { vcpu, bound, pending, masked } = vm.portStatus(p);
    const to = ref.boundTo(p);
    const expected = [to ?? 0, to !== null, ref.pending.has(p), ref.mask.has(p)];
    return [`status(${p})`, [vcpu, bound, pending, masked], expected];
  };
  const register: Step = (n) => {
    const [v, place] = [n(VCPUS), n(8)];
    const base = PLACES[place];
    const address = base === undefined ? null : base + v * 128;
    vm.vcpu(v).setAttr({ type: 'vcpu_info', gpa: address === null ? null : gpa(address) });
    ref.register(v, address);
    return [`register(${v}, ${address})`, vm.vcpu(v).getAttr('vcpu_info').gpa, address];
  };
  const registerByHost: Step = (n) => {
    const [v, place] = [n(VCPUS), n(PLACES.length)];
    const address = (PLACES[place] as number) + v * 128;
    vm.vcpu(v).setAttr({ type: 'vcpu_info_hva', hva: hva(vm.guestBase + address) });
    ref.register(v, address, true);
    return [`registerByHost(${v}, ${address})`, vm.vcpu(v).getAttr('vcpu_info').gpa, null];
  };
  // The page stays the same, whatever it is named by: nothing but its base changes.
  const rebase: Step = (n) => {
    const byHost = n(2) === 1;
    if (byHost) vm.setAttr({ type: 'shared_info_hva', hva: hva(vm.guestBase + SHARED_INFO_GPA) });
    else vm.setAttr({ type: 'shared_info', gfn: gfn(SHARED_INFO_GFN) });
    return [`rebase(${byHost})`, vm.getAttr('shared_info').gfn, byHost ? null : SHARED_INFO_GFN];
  };
  const slots: Step = () => {
    const there = vm.memslots.list().length > 1;
    if (there) vm.memslots.delete(1);
    else vm.memslots.set({ id: 1, gpa: gpa(0x100000), bytes: PAGE_SIZE, hva: hva(vm.guestBase) });
    ref.changeSlots();
    return [`slots(${there})`, 0, 0];
  };
  const flush: Step = (n) => {
    const v = n(VCPUS);
    return [`flush(${v})`, vm.vcpu(v).flushShadow(), ref.flush(v)];
  };
  const level: Step = (n) => {
    const v = n(VCPUS);
    return [`level(${v})`, vm.vcpu(v).upcallPending, ref.level(v)];
  };
  const remap: Step = () => {
    vm.invalidateStart(vm.guestBase, vm.guestBase + vm.guestBytes - 1);
    vm.invalidateEnd();
    ref.invalidate();
    return ['remap', 0, 0];
  };
  const often = (step: Step, times: number): Step[] => Array.from({ length: times }, () => step);
  return [
    ...often(send, 30),
    ...often(sendMany, 4),
    ...often(bracket, 4),
    ...often(mask, 8),
    ...often(unmask, 10),
    ...often(drain, 10),
    ...often(bind, 4),
    ...often(sendTo, 6),
    ...often(status, 3),
    ...often(register, 3),
    registerByHost,
    rebase,
    slots,
    ...often(flush, 3),
    ...often(level, 6),
    remap,
  ];
}

/** Everything that guest RAM shows, from the engine's memory and from the reference. */
function visible(vm: Vm, ref: Reference, long: boolean): [unknown, unknown] {
  const bytes = ram(vm);
  const bits = (at: number, n: number): number[] =>
    Array.from({ length: n }, (_, i) => i).filter((i) => ((bytes[at + (i >> 3)] ?? 0) >> (i & 7)) & 1);
  const sorted = (set: Set<number>): number[] => [...set].sort((a, b) => a - b);
  const ports = vm.maxPorts;
  const [maskAt, selectorAt] = long
    ? [SHARED_INFO_MASK_LONG, VCPU_INFO_SELECTOR_LONG]
    : [SHARED_INFO_MASK_COMPAT, VCPU_INFO_SELECTOR_COMPAT];
  const places = ref.vcpus.flatMap((vcpu) => [...vcpu.places]);
  return [
    [
      bits(SHARED_INFO_GPA + SHARED_INFO_PENDING, ports),
      bits(SHARED_INFO_GPA + maskAt, ports),
      places.map(([at]) => [bytes[at], bits(at + selectorAt, long ? 64 : 32)]),
    ],
    [sorted(ref.pending), sorted(ref.mask), places.map(([, p]) => [p.upcall ? 1 : 0, sorted(p.selector)])],
  ];
}

describe.each(KINDS)('model, $layout, shared $shared', ({ longMode, shared, maxPorts, bits }) => {
  test(`${OPERATIONS} random operations give what the sequential reference gives, seed ${SEED}`, () => {
    const options: MakeOptions = { longMode, shared, vcpus: VCPUS };
    const vm = makeVm(options);
    const ref = new Reference(maxPorts, bits, VCPUS);
    const upcalls = new Array<number>(VCPUS).fill(0);
    for (let v = 0; v < VCPUS; v++) {
      const address = (PLACES[0] as number) + v * 128;
      vm.vcpu(v).setAttr({ type: 'vcpu_info', gpa: gpa(address) });
      ref.register(v, address);
      if (!shared) vm.vcpu(v).onUpcall(() => (upcalls[v] = (upcalls[v] ?? 0) + 1));
    }
    const n = random(SEED);
    const choices = steps(vm, ref, maxPorts);
    const recent: string[] = [];
    for (let i = 0; i < OPERATIONS; i++) {
      const [what, found, expected] = (choices[n(choices.length)] as Step)(n);
      recent.push(what);
      if (recent.length > 12) recent.shift();
      if (JSON.stringify(found) !== JSON.stringify(expected)) {
        expect.fail(
          `seed ${SEED}, operation ${i}: ${JSON.stringify(found)} and not ${JSON.stringify(expected)} after\n${recent.join('\n')}`,
        );
      }
      if (i % 200 === 0) {
        const [a, b] = visible(vm, ref, longMode);
        expect(a, `seed ${SEED}, operation ${i}, after\n${recent.join('\n')}`).toEqual(b);
      }
    }
    // Single agent: the listener was called exactly on the edges, no more and no less.
    if (!shared) expect(upcalls).toEqual(ref.vcpus.map((vcpu) => vcpu.upcalls));
  });
});
