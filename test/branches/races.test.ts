// What an operation does when another actor was in between: the branches that no sequence of whole calls reaches. [R16]

import { describe, expect, test } from 'vitest';
import {
  AGENT_READER,
  AGENT_SIZE,
  GPC_ACTIVE,
  GPC_LONG_MODE,
  GPC_TOKEN_SHIFT,
  GPC_UNMAPPED,
  GPC_WORD,
  KICK_SLEEPER,
  REQUEST_POLLED,
  VCPU_KICK,
  VCPU_POLL,
  VCPU_REQUESTS,
  VCPU_RING_PUSHED,
  VCPU_RUNSTATE_VERSION,
  VCPU_SHADOW_LO,
} from '../../src/abi/region.ts';
import { PAGE_SIZE } from '../../src/abi/shared_info.ts';
import { STEP_LOAD, STEP_RMW } from '../../src/abi/step.ts';
import { attachVm, type Memslot, type Vm } from '../../src/index.ts';
import { guestSets, layoutOf, selector, sharedInfoWord, traceOf } from '../spec/evidence.ts';
import { drained, KINDS, LAYOUTS, pendingBit, SHARED_INFO_GPA } from '../support.ts';
import { Interrupted } from './between.ts';

/** Where the pending word of a port lies in the memory. */
function pendingWord(vm: Vm, port: number): number {
  const { pending, wordBytes, bits } = layoutOf(vm);
  return vm.guestBase + SHARED_INFO_GPA + pending + Math.floor(port / bits) * wordBytes;
}

/** Ports of one word, so that a short batch takes them as a run; and of two, so that it takes them one by one. */
const RUN = [5, 6];
const APART = [5, 70];

describe.each(KINDS)('$layout layout, shared memory: $shared', ({ longMode, shared }) => {
  test.each([
    ['a run', RUN],
    ['ports that lie apart', APART],
  ])('KX-EVT-13 %s whose bit somebody sets between the look and the read-modify-write: coalesced', (_, ports) => {
    const stage = new Interrupted({ longMode, shared });
    const { vm } = stage;
    const [first = 0] = ports;
    const other = (): void => {
      for (const port of ports) guestSets(vm, 'pending', port);
    };
    const delivered = stage.run({ kind: STEP_RMW, at: pendingWord(vm, first) }, other, () => vm.sendMany(ports));
    expect(delivered).toBe(0);
    expect(vm.batchCounts).toEqual({ delivered: 0, coalesced: 2, masked: 0, bad: 0 });
    // Whoever set the bits tells the vCPU: this batch does not.
    expect(vm.vcpu(0).upcallPending).toBe(false);
  });

  test('KX-EVT-40 two masked events race for one poller: it is told once', () => {
    const stage = new Interrupted({ longMode, shared });
    const { vm } = stage;
    const { words } = vm.region;
    const { line } = vm.vcpu(0);
    vm.mask(5);
    words.store(line + VCPU_POLL, 5 + 1);
    const other = (): void => words.store(line + VCPU_POLL, 0);
    expect(stage.run({ kind: STEP_RMW, at: line + VCPU_POLL }, other, () => vm.send(5))).toBe(-107);
    expect(words.load(line + VCPU_REQUESTS) & REQUEST_POLLED).toBe(0);
    expect(pendingBit(vm, 5)).toBe(true);
  });

  test('KX-RUN-03 a reader of the runstate that a writer overtakes reads again', () => {
    const stage = new Interrupted({ longMode, shared });
    const vcpu = stage.vm.vcpu(0);
    vcpu.enterRunstate('running', 1_000);
    const access = { kind: STEP_RMW, at: vcpu.record + VCPU_RUNSTATE_VERSION };
    const read = stage.run(
      access,
      () => vcpu.enterRunstate('blocked', 5_000),
      () => vcpu.runstate(),
    );
    expect(read).toEqual(vcpu.runstate());
    expect(read.state).toBe('blocked');
  });

  test('KX-GPC-32 an unmap whose word changes in between: what it returns is what it took away', () => {
    const stage = new Interrupted({ longMode, shared });
    const { vm } = stage;
    const { sharedInfo, words } = vm.region;
    const mode = longMode ? GPC_LONG_MODE : 0;
    const elsewhere = vm.guestBase + 8 * PAGE_SIZE;
    const access = { kind: STEP_RMW, at: sharedInfo + GPC_WORD };
    const other = (): void => words.store(sharedInfo + GPC_WORD, elsewhere | mode);
    expect(stage.run(access, other, () => vm.kernel.gpcUnmap(vm.vmBase, sharedInfo))).toBe(elsewhere);
    // The mode that the word carries is kept.
    expect(sharedInfoWord(vm)).toBe((GPC_UNMAPPED | mode) >>> 0);
  });

  test('KX-GPC-32 KF-01 a refresh whose cache is deactivated behind its token maps nothing', () => {
    const stage = new Interrupted({ longMode, shared });
    const { vm } = stage;
    const { sharedInfo, words } = vm.region;
    vm.kernel.gpcUnmap(vm.vmBase, sharedInfo);
    const other = (): void => words.store(sharedInfo + GPC_ACTIVE, 0);
    // The first look is before the token, the second behind it.
    const access = { kind: STEP_LOAD, at: sharedInfo + GPC_ACTIVE, count: 2 };
    const begin = (): number => vm.kernel.gpcBeginRefresh(vm.vmBase, sharedInfo, 1);
    expect(stage.run(access, other, begin)).toBe(-22);
    expect(sharedInfoWord(vm)).toBe((GPC_UNMAPPED | (longMode ? GPC_LONG_MODE : 0)) >>> 0);
  });

  test('KX-GPC-32 a refresh whose word is taken before its token: begin again', () => {
    const stage = new Interrupted({ longMode, shared });
    const { vm } = stage;
    const { sharedInfo, words } = vm.region;
    vm.kernel.gpcUnmap(vm.vmBase, sharedInfo);
    const before = words.load(sharedInfo + GPC_WORD);
    const other = (): void => words.store(sharedInfo + GPC_WORD, before + (2 << GPC_TOKEN_SHIFT));
    const begin = (): number => vm.kernel.gpcBeginRefresh(vm.vmBase, sharedInfo, 1);
    expect(stage.run({ kind: STEP_RMW, at: sharedInfo + GPC_WORD }, other, begin)).toBe(-11);
    // The other's token stands.
    expect(words.load(sharedInfo + GPC_WORD)).toBe(before + (2 << GPC_TOKEN_SHIFT));
  });

  test('KX-EVT-55 two agents bring one shadow back: the one that takes the bits asks for the upcall', () => {
    const stage = new Interrupted({ longMode, shared });
    const { vm } = stage;
    const { words } = vm.region;
    const { line } = vm.vcpu(0);
    words.store(line + VCPU_SHADOW_LO, 1);
    const other = (): void => words.store(line + VCPU_SHADOW_LO, 0);
    const flush = (): number => vm.kernel.flushShadow(vm.vmBase, vm.agent, 0);
    expect(stage.run({ kind: STEP_RMW, at: line + VCPU_SHADOW_LO }, other, flush)).toBe(0);
    expect([vm.vcpu(0).upcallPending, selector(vm)]).toEqual([false, 0n]);
  });

  test('KX-MEM-21 two writers of one ring: each has an entry of its own', () => {
    const stage = new Interrupted({ longMode, shared, dirtyRingBytes: 2048 });
    const { vm } = stage;
    const { vmBase, kernel } = vm;
    const [slot] = vm.memslots.list();
    vm.memslots.set({ ...(slot as Memslot), logDirty: true });
    const access = { kind: STEP_RMW, at: vm.vcpu(0).record + VCPU_RING_PUSHED };
    const mark = (page: number): number => kernel.markPage(vmBase, 0, page, 0);
    expect(
      stage.run(
        access,
        () => mark(2),
        () => mark(1),
      ),
    ).toBe(1);
    expect(vm.dirtyLog.collect(0).map(({ page }) => Number(page))).toEqual([2, 1]);
  });
});

describe('waiting for readers', () => {
  /** An agent that waits, traced, and another one inside a bracket. */
  function stage() {
    const waiting = new Interrupted({ agents: 4 });
    // Somebody who does nothing, so that the reader is not the first that is looked at.
    attachVm(waiting.vm.handle(), { trace: traceOf(true, {}) });
    const reader = attachVm(waiting.vm.handle(), { trace: traceOf(true, {}) });
    reader.enter();
    const { vm } = waiting;
    const wait = (spins: number): number => vm.kernel.awaitReaders(vm.vmBase, vm.agent, 0, spins);
    const looks = { kind: STEP_LOAD, at: reader.agent + AGENT_READER };
    return { waiting, reader, wait, looks };
  }

  test('R3 a reader that leaves while it is waited for', () => {
    const { waiting, reader, wait, looks } = stage();
    expect(
      waiting.run(
        { ...looks, count: 5 },
        () => reader.leave(),
        () => wait(1000),
      ),
    ).toBe(4);
  });

  test('R3 a reader that has moved on to a later bracket is not waited for', () => {
    const { waiting, reader, wait, looks } = stage();
    const moveOn = (): void => {
      reader.leave();
      reader.enter();
    };
    expect(waiting.run({ ...looks, count: 5 }, moveOn, () => wait(1000))).toBe(4);
  });

  test('R3 a reader that stays: its number, after as many looks as are allowed', () => {
    const { waiting, reader, wait, looks } = stage();
    const number = (reader.agent - waiting.vm.region.agentRecord(0)) / AGENT_SIZE;
    expect(wait(10)).toBe(number);
    // The look that finds it inside, then 11 that find it there still.
    expect(
      waiting.run(
        { ...looks, count: 12 },
        () => {},
        () => wait(10),
      ),
    ).toBe(number);
    expect(() =>
      waiting.run(
        { ...looks, count: 13 },
        () => {},
        () => wait(10),
      ),
    ).toThrow('was not made');
  });
});

describe('the number of a bracket', () => {
  test('R3 KX-GPC-32 each bracket has one of its own, however it is opened: who waits for one sees that the next is another', () => {
    const seen: number[] = [];
    const stage = new Interrupted();
    const { vm } = stage;
    const number = (): number => vm.region.words.load(vm.agent + AGENT_READER);
    const access = { kind: STEP_RMW, at: pendingWord(vm, 5) };
    for (let i = 0; i < 3; i++) {
      stage.run(
        access,
        () => seen.push(number()),
        () => vm.send(5),
      );
      vm.enter();
      seen.push(number());
      vm.leave();
      stage.run(
        access,
        () => seen.push(number()),
        () => vm.sendMany([5, 6]),
      );
      expect(number() & 1).toBe(0);
      drained(vm);
    }
    expect(seen.every((one) => one & 1)).toBe(true);
    expect(new Set(seen).size).toBe(9);
  });
});

describe('waking a sleeper', () => {
  test.each(LAYOUTS)('KX-EVT-61 two senders: the one that clears the flag wakes it, $layout', ({ longMode }) => {
    const stage = new Interrupted({ longMode });
    const { vm } = stage;
    const { line } = vm.vcpu(0);
    expect(vm.kernel.sleepBegin(vm.vmBase, vm.agent, 0)).toBe(0);
    const other = (): void => void vm.region.words.and(line + VCPU_KICK, ~KICK_SLEEPER);
    expect(stage.run({ kind: STEP_RMW, at: line + VCPU_KICK }, other, () => vm.send(5))).toBe(1);
    expect(vm.wakes).toBe(0);
    expect(vm.vcpu(0).upcallPending).toBe(true);
    expect(drained(vm)).toEqual([5]);
  });
});
