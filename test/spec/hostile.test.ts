// A guest that writes anything anywhere in its RAM at any time: no call traps, hangs, answers nonsense, or touches a byte
// that is not its own. [R5, R9, KF-47]

import { describe, expect, test } from 'vitest';
import { PVCLOCK_SIZE, WALL_CLOCK_SIZE } from '../../src/abi/pvclock.ts';
import {
  GPC_SIZE,
  GPC_WORD,
  REGION_CLOCK_VERSION,
  REGION_GENERATIONS,
  REGION_HEADER_SIZE,
  REGION_HVM_CONFIG,
  REGION_MEMSLOT_COUNT,
  REGION_POLLERS,
  REGION_SHARED_INFO,
  REGION_UPCALL_VECTOR,
} from '../../src/abi/region.ts';
import { RUNSTATE_SIZE_LONG } from '../../src/abi/runstate.ts';
import {
  PAGE_SIZE,
  SHARED_INFO_MASK_COMPAT,
  SHARED_INFO_MASK_LONG,
  SHARED_INFO_PENDING,
  SHARED_INFO_WC_COMPAT,
  SHARED_INFO_WC_LONG,
  SHARED_INFO_WC_SEC_HI_COMPAT,
  SHARED_INFO_WC_SEC_HI_LONG,
} from '../../src/abi/shared_info.ts';
import {
  VCPU_INFO_SELECTOR_COMPAT,
  VCPU_INFO_SELECTOR_LONG,
  VCPU_INFO_SIZE,
  VCPU_INFO_TIME,
  VCPU_INFO_UPCALL_PENDING,
} from '../../src/abi/vcpu_info.ts';
import {
  attachVm,
  createVm,
  EvtchnError,
  gfn,
  gpa,
  hva,
  type RunstateName,
  regionBytes,
  type Vm,
} from '../../src/index.ts';
import { KINDS, random } from '../support.ts';
import { CANARY, changes, SEND_RESULTS, type TraceOption, traceOf } from './evidence.ts';

const VCPUS = 3;
const AGENTS = 2;
const GUEST_PAGES = 12;
const GUEST = GUEST_PAGES * PAGE_SIZE;
const REGION_BASE = PAGE_SIZE;
const REGION = regionBytes({ vcpus: VCPUS, agents: AGENTS });
const GUEST_BASE = Math.ceil((REGION_BASE + REGION) / PAGE_SIZE + 1) * PAGE_SIZE;
const MEMORY_PAGES = Math.ceil((GUEST_BASE + GUEST + PAGE_SIZE) / 65536);
const STATES: readonly RunstateName[] = ['running', 'runnable', 'blocked', 'offline'];
const CODES = ['EINVAL', 'EFAULT', 'EAGAIN', 'EOPNOTSUPP'];

const NOISE = new Uint8Array(1 << 18);
const noise = random(99);
for (let i = 0; i < NOISE.length; i++) NOISE[i] = noise(256);

/** A VM between guards, in a memory that is full of canaries. */
function guarded(shared: boolean, longMode: boolean, trace?: TraceOption): { vm: Vm; guards: () => number } {
  const memory = new WebAssembly.Memory({ initial: MEMORY_PAGES, maximum: MEMORY_PAGES, shared });
  const all = new Uint8Array(memory.buffer).fill(CANARY);
  const place = { memory, guestBase: GUEST_BASE, guestPages: GUEST_PAGES, regionBase: REGION_BASE };
  const vm = createVm({ ...place, vcpus: VCPUS, agents: AGENTS, ...(trace ? { trace } : {}) });
  vm.setAttr({ type: 'long_mode', enabled: longMode });
  vm.setAttr({ type: 'shared_info', gfn: gfn(1) });
  for (let i = 0; i < VCPUS; i++) {
    vm.vcpu(i).setAttr({ type: 'vcpu_info', gpa: gpa(2 * PAGE_SIZE + i * 67) });
    vm.vcpu(i).setAttr({ type: 'vcpu_time_info', gpa: gpa(3 * PAGE_SIZE + i * 35) });
    vm.vcpu(i).setAttr({ type: 'runstate_addr', gpa: gpa((5 + i) * PAGE_SIZE - 11 * (i + 1)) });
  }
  const spans = [
    [0, REGION_BASE],
    [REGION_BASE + REGION, GUEST_BASE],
    [GUEST_BASE + GUEST, all.length],
  ].map(([from, to]) => all.subarray(from, to));
  const clean = spans.map((span) => new Uint8Array(span.length).fill(CANARY));
  const guards = (): number => spans.filter((span, i) => Buffer.compare(span, clean[i] as Uint8Array) !== 0).length;
  return { vm, guards };
}

/** Marks the guest bytes that the engine may write with the present registrations, in either layout. */
function ownBytes(vm: Vm): Uint8Array {
  const own = new Uint8Array(GUEST);
  const mark = (at: number, length: number): void => void own.fill(1, at, Math.min(at + length, GUEST));
  const byHost = (address: number | null): number | null => (address === null ? null : address - GUEST_BASE);
  const frame = vm.getAttr('shared_info').gfn;
  const page = frame === null ? byHost(vm.getAttr('shared_info_hva').hva) : frame * PAGE_SIZE;
  if (page !== null) {
    const long = vm.maxPorts === 4096;
    mark(page + SHARED_INFO_PENDING, vm.maxPorts / 8);
    mark(page + (long ? SHARED_INFO_MASK_LONG : SHARED_INFO_MASK_COMPAT), vm.maxPorts / 8);
    mark(page + (long ? SHARED_INFO_WC_LONG : SHARED_INFO_WC_COMPAT), WALL_CLOCK_SIZE);
    mark(page + (long ? SHARED_INFO_WC_SEC_HI_LONG : SHARED_INFO_WC_SEC_HI_COMPAT), 4);
  }
  for (let i = 0; i < VCPUS; i++) {
    const info = vm.vcpu(i).getAttr('vcpu_info').gpa ?? byHost(vm.vcpu(i).getAttr('vcpu_info_hva').hva);
    const time = vm.vcpu(i).getAttr('vcpu_time_info').gpa;
    const runstate = vm.vcpu(i).getAttr('runstate_addr').gpa;
    if (info !== null) {
      const long = vm.maxPorts === 4096;
      mark(info + VCPU_INFO_UPCALL_PENDING, 1);
      mark(info + (long ? VCPU_INFO_SELECTOR_LONG : VCPU_INFO_SELECTOR_COMPAT), long ? 8 : 4);
      mark(info + VCPU_INFO_TIME, VCPU_INFO_SIZE - VCPU_INFO_TIME);
    }
    if (time !== null) mark(time, PVCLOCK_SIZE);
    if (runstate !== null) mark(runstate, RUNSTATE_SIZE_LONG);
  }
  return own;
}

type Call = (vm: Vm) => void;

/** Every call with random arguments, each with what it may answer. */
function calls(next: (n: number) => number): Call[] {
  const port = (): number =>
    next(12) === 0 ? ([0, -1, 1024, 4096, 2 ** 31, 2 ** 32 - 1][next(6)] as number) : 1 + next(4100);
  const list = (): number[] => Array.from({ length: next(3) ? next(60) : next(300) }, port);
  const which = (): number => next(VCPUS);
  let [now, open] = [0n, 0];
  const result = (found: number, allowed: readonly number[]): void => expect(allowed).toContain(found);
  const address = (): number => (next(8) === 0 ? GUEST - 20 + next(40) : next(GUEST));
  return [
    (vm) => result(vm.send(port()), SEND_RESULTS),
    (vm) => result(vm.mask(port()), [1, 0, -22, -14, -11]),
    (vm) => result(vm.unmask(port()), [1, 0, -22, -14, -11]),
    (vm) => {
      const ports = list();
      const found = vm.sendMany(ports);
      if (found < 0) return result(found, [-22, -14, -11]);
      const { delivered, coalesced, masked, bad } = vm.batchCounts;
      expect([delivered, delivered + coalesced + masked + bad]).toEqual([found, ports.length]);
    },
    (vm) => {
      const count = vm.vcpu(which()).drain();
      expect(count >= 0 && count <= vm.maxPorts).toBe(true);
    },
    (vm) => {
      const ports: number[] = [];
      vm.vcpu(which()).drain((p) => ports.push(p));
      if (ports.some((p, i) => p >= vm.maxPorts || (i > 0 && p <= (ports[i - 1] as number))))
        expect.fail(ports.join(' '));
    },
    (vm) => vm.bindVcpu(1 + next(vm.maxPorts - 1), which()),
    (vm) => expect([true, false]).toContain(vm.vcpu(which()).upcallPending),
    (vm) => expect([true, false]).toContain(vm.vcpu(which()).flushShadow()),
    (vm) => vm.vcpu(which()).resync(),
    (vm) => {
      now += BigInt(next(1000));
      const vcpu = vm.vcpu(which());
      vcpu.enterRunstate(STATES[next(4)] as RunstateName, now, next(500));
      const { entryTime, times } = vcpu.runstate();
      const total = Object.values(times).reduce((a, b) => a + b, 0n);
      expect(BigInt.asUintN(64, total)).toBe(entryTime);
    },
    (vm) =>
      vm
        .vcpu(which())
        .writeTime({ tscTimestamp: next(2 ** 32 - 1), systemTime: now, mul: next(2 ** 32 - 1), shift: next(127) - 63 }),
    (vm) => vm.vcpu(which()).readTime(now, next(2) ? 'vcpu_info' : 'vcpu_time_info'),
    (vm) => expect(['events', 'unblocked', 'timeout']).toContain(vm.vcpu(which()).wait(0, next(4))),
    (vm) => expect([true, false]).toContain(vm.vcpu(which()).poll([port(), port()], 0)),
    (vm) => vm.vcpu(which()).kick(),
    (vm) => vm.setAttr({ type: 'long_mode', enabled: next(2) === 1 }),
    (vm) => vm.setAttr({ type: 'runstate_update_flag', enabled: next(2) === 1 }),
    (vm) => vm.setAttr({ type: 'shared_info', gfn: gfn(next(GUEST_PAGES + 1)) }),
    (vm) => vm.vcpu(which()).setAttr({ type: 'vcpu_info', gpa: gpa(address()) }),
    (vm) => vm.setAttr({ type: 'shared_info_hva', hva: hva(GUEST_BASE + next(GUEST_PAGES + 1) * PAGE_SIZE) }),
    (vm) => vm.vcpu(which()).setAttr({ type: 'vcpu_info_hva', hva: hva(GUEST_BASE + address()) }),
    (vm) => {
      // While it is gone nothing by guest address can be mapped.
      if (open > 0) return;
      const [slot] = vm.memslots.list();
      if (slot) vm.memslots.delete(slot.id);
      else vm.memslots.set({ id: 3, gpa: gpa(0), bytes: GUEST, hva: hva(GUEST_BASE) });
    },
    (vm) => vm.vcpu(which()).setAttr({ type: 'vcpu_time_info', gpa: gpa(address()) }),
    (vm) => vm.vcpu(which()).setAttr({ type: 'runstate_addr', gpa: gpa(address()) }),
    (vm) => {
      if (open > 1) return;
      vm.invalidateStart(GUEST_BASE + next(GUEST), GUEST_BASE + GUEST - 1);
      open++;
    },
    (vm) => {
      for (; open > 0; open--) vm.invalidateEnd();
    },
    (vm) => {
      vm.enter();
      vm.send(port());
      vm.sendMany(list());
      vm.leave();
    },
  ];
}

/** Runs a call; an error of the listed codes is an answer too. */
function answered(call: Call, vm: Vm): void {
  try {
    call(vm);
  } catch (error) {
    if (!(error instanceof EvtchnError)) throw error;
    expect(CODES).toContain(error.code);
  }
}

/** The header is as it was, and every mapping in the window. */
function expectSound(vm: Vm, header: Uint8Array): void {
  expect(changes(header, headerOf(vm))).toEqual([]);
  expect(vm.region.words.load(REGION_BASE + REGION_POLLERS)).toBe(0);
  for (const gpc of vm.region.gpcs()) {
    const word = vm.region.words.load(gpc + GPC_WORD) >>> 0;
    expect(word >= 2 ** 32 - PAGE_SIZE || (word >= GUEST_BASE && word < GUEST_BASE + GUEST)).toBe(true);
  }
}

/** The header without the words that the calls change. */
function headerOf(vm: Vm): Uint8Array {
  const header = new Uint8Array(vm.memory.buffer, REGION_BASE, REGION_HEADER_SIZE).slice();
  for (const [from, to] of [
    [REGION_UPCALL_VECTOR, REGION_POLLERS + 4],
    [REGION_SHARED_INFO, REGION_SHARED_INFO + GPC_SIZE],
    [REGION_MEMSLOT_COUNT, REGION_MEMSLOT_COUNT + 4],
    [REGION_GENERATIONS, REGION_GENERATIONS + 8],
    [REGION_CLOCK_VERSION, REGION_HVM_CONFIG],
  ] as const) {
    header.fill(0, from, to);
  }
  return header;
}

describe.each(KINDS)('$layout layout, shared memory: $shared', ({ longMode, shared }) => {
  test.each([1, 2, 3])('R9 random RAM between calls, seed %i', (seed) => {
    const { vm, guards } = guarded(shared, longMode);
    const guest = new Uint8Array(vm.memory.buffer, GUEST_BASE, GUEST);
    const before = new Uint8Array(GUEST);
    const header = headerOf(vm);
    const next = random(seed);
    const all = calls(next);
    for (let i = 0; i < 1500; i++) {
      // Mostly random, sometimes all ones or zeros, sometimes what the calls before have left.
      const at = next(NOISE.length - GUEST);
      const kind = next(10);
      if (kind < 6) guest.set(NOISE.subarray(at, at + GUEST));
      else if (kind < 8) guest.fill(kind === 6 ? 0xff : 0);
      before.set(guest);
      const old = ownBytes(vm);
      const call = all[next(all.length)] as Call;
      answered(call, vm);
      const own = ownBytes(vm);
      for (const [address] of changes(before, guest)) {
        if (!own[address] && !old[address]) expect.fail(`seed ${seed}, call ${i}: guest byte ${address} by ${call}`);
      }
      if (guards()) expect.fail(`seed ${seed}, call ${i}: a byte outside region and window by ${call}`);
      if (i % 50 === 0) expectSound(vm, header);
    }
    expectSound(vm, header);
  });

  test('R5 R9 KF-47 RAM that changes at every step of a call: bounded steps, no trap, guards intact', () => {
    let [steps, hostile] = [0, false];
    let guest = new Uint8Array(0);
    const next = random(77);
    const trace = traceOf(shared, {
      onStep: () => {
        steps++;
        if (!hostile) return;
        for (let i = 0; i < 4; i++) {
          const at = next(GUEST - 64);
          guest.set(NOISE.subarray(next(NOISE.length - 64)).subarray(0, 64), at);
        }
      },
      onWait: () => 2,
    });
    const { vm, guards } = guarded(shared, longMode, trace);
    guest = new Uint8Array(vm.memory.buffer, GUEST_BASE, GUEST);
    const header = headerOf(vm);
    const all = calls(next);
    let most = 0;
    for (let i = 0; i < 700; i++) {
      const at = next(NOISE.length - GUEST);
      guest.set(NOISE.subarray(at, at + GUEST));
      [steps, hostile] = [0, true];
      answered(all[next(all.length)] as Call, vm);
      hostile = false;
      most = Math.max(most, steps);
      if (guards()) expect.fail(`call ${i}: a byte outside region and window`);
    }
    expectSound(vm, header);
    // The largest: a batch to ports of many vCPUs, a drain of all words with mixed owners, a reader's thousand looks.
    expect(most).toBeLessThan(20_000);
    expect(most).toBeGreaterThan(100);
  });
});

test('KF-47 R9 the binding table is the engine’s: no content of guest RAM moves an event to another vCPU', () => {
  const { vm } = guarded(true, true);
  const other = attachVm(vm.handle());
  const next = random(5);
  const bound = new Map<number, number>();
  for (let i = 0; i < 500; i++) {
    const port = 1 + next(4095);
    bound.set(port, next(VCPUS));
    vm.bindVcpu(port, bound.get(port) as number);
  }
  const guest = new Uint8Array(vm.memory.buffer, GUEST_BASE, GUEST);
  for (let round = 0; round < 30; round++) {
    const at = next(NOISE.length - GUEST);
    guest.set(NOISE.subarray(at, at + GUEST));
    for (let vcpu = 0; vcpu < VCPUS; vcpu++) {
      // A port that is bound to nobody may be taken by any of them.
      other.vcpu(vcpu).drain((port) => expect(bound.get(port) ?? vcpu).toBe(vcpu));
    }
  }
});
