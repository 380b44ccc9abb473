// SCHEDOP_poll as a hypercall: what makes a vCPU sleep, what ends it, and that nothing of it is left. [KX-HCL-31..38, KX-EVT-40, 41]

import { describe, expect, test } from 'vitest';
import {
  POLL_ANY,
  REGION_POLLERS,
  VCPU_IN_GUEST,
  VCPU_MODE,
  VCPU_POLL,
  VCPU_POLL_DEADLINE,
  VCPU_POLLER,
} from '../../src/abi/region.ts';
import { attachVm, FlatCpu, type HypercallResult, VirtualClock, type Vm } from '../../src/index.ts';
import { drained, fields, KINDS, LAYOUTS, makeVm, pendingBit, ram } from '../support.ts';
import {
  cast,
  changed,
  changes,
  dropMappings,
  guestSets,
  guestTakes,
  noNaps,
  refuses,
  selector,
  tracing,
  unregister,
} from './evidence.ts';
import {
  ARGUMENT,
  answer,
  CALLS,
  call,
  END,
  type Guest,
  leaves,
  load,
  MSR,
  makeGuest,
  PORT_LIST,
  pollArgument,
  pollStructure,
  RIP,
  setVector,
  VECTOR,
} from './guest.ts';
import { expectAwake, makeSleeper, TIMED_OUT, WOKEN } from './sleeper.ts';

const SCHED_OP = 29;
const POLL = 3;
const EFAULT = -14;
const EINVAL = -22;
const MS = 1_000_000n;

/** Polls; the structure lies at ARGUMENT. */
function poll(guest: Guest, ports: readonly number[], timeout = 0n): HypercallResult {
  return call(guest, SCHED_OP, POLL, pollArgument(guest, ports, timeout));
}

/** As `poll`, which has to sleep. @returns until when */
function sleeps(guest: Guest, ports: readonly number[], timeout = 0n): bigint | null {
  const { rip } = guest.cpu;
  const result = poll(guest, ports, timeout);
  if (result.kind !== 'blocked') expect.fail(`blocked was expected, it is ${result.kind}`);
  expect([guest.cpu.registers.rax, guest.cpu.rip]).toEqual([0n, rip + 3n]);
  expect(guest.vcpu.runnable).toBe(false);
  return result.deadline;
}

/** Nothing of a poll is left in the region, nor does anybody wait for its time. */
function expectOver({ vm }: Guest): void {
  expectAwake(vm);
  const { words } = vm.region;
  expect(words.load(vm.vcpu(0).line + VCPU_POLLER)).toBe(0);
  expect(words.load64(vm.vcpu(0).record + VCPU_POLL_DEADLINE)).toBe(0n);
  expect(vm.nextDeadline()).toBeNull();
}

describe.each(CALLS)('$layout layout, shared memory: $shared, $caller caller', (kind) => {
  const { long, longMode, shared, maxPorts, bits } = kind;
  const make = (more = {}): Guest => makeGuest({ long, longMode, shared, ...more });
  const pollWord = ({ vm, vcpu }: Guest): number => vm.region.words.load(vcpu.line + VCPU_POLL);

  // ── what is accelerated, and its arguments ─────────────────────────────────────────────────────────────────────

  test('KX-HCL-31 X-22 without the flag of the configuration a poll is a yield: 0 at once, its arguments are not read', () => {
    const guest = make({ evtchnSend: false });
    expect(answer(guest, SCHED_OP, POLL, END)).toBe(0);
    expect(poll(guest, [7]).kind).toBe('handled');
    expect(poll(guest, [maxPorts])).toEqual({ kind: 'handled', result: 0n });
    expectOver(guest);
  });

  test('KX-HCL-31 without an interrupt controller on this side it is one, too', () => {
    const guest = make({ irqchip: false });
    expect(answer(guest, SCHED_OP, POLL, END)).toBe(0);
    expect(poll(guest, [7])).toEqual({ kind: 'handled', result: 0n });
    expectOver(guest);
  });

  test('KX-HCL-32 KX-ABI-30 the structure is that of the caller’s mode; one that cannot be read is EFAULT', () => {
    const guest = make();
    const size = long ? 24 : 16;
    for (const at of [END, END - size + 1, END - 1, 0xffffffff]) {
      expect(answer(guest, SCHED_OP, POLL, at)).toBe(EFAULT);
    }
    fields(guest.vm).setUint32(PORT_LIST, 7, true);
    pollStructure(guest, PORT_LIST, 1, 5n, END - size);
    expect(call(guest, SCHED_OP, POLL, END - size)).toMatchObject({ kind: 'blocked' });
    guest.vcpu.beforeEntry();
    // Across two pages, at an odd address.
    pollStructure(guest, PORT_LIST, 1, 5n, ARGUMENT - 7);
    expect(call(guest, SCHED_OP, POLL, ARGUMENT - 7)).toMatchObject({ kind: 'blocked' });
    guest.vcpu.beforeEntry();
    expectOver(guest);
  });

  test('KX-HCL-32 more than 128 ports are EINVAL before the list is read; 128 are not', () => {
    const guest = make();
    for (const count of [129, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1]) {
      expect(answer(guest, SCHED_OP, POLL, pollStructure(guest, END, count, 0n))).toBe(EINVAL);
    }
    const ports = Array.from({ length: 128 }, (_, i) => i + 1);
    sleeps(guest, ports);
    guestSets(guest.vm, 'pending', 128);
    guest.vcpu.beforeEntry();
    expect(poll(guest, ports)).toEqual({ kind: 'handled', result: 0n });
    expectOver(guest);
  });

  test('KX-HCL-32 a list that cannot be read is EFAULT; an empty one is not read', () => {
    const guest = make();
    for (const list of [END, END - 3, 0xfffffffc]) {
      expect(answer(guest, SCHED_OP, POLL, pollStructure(guest, list, 1, 0n))).toBe(EFAULT);
    }
    expect(answer(guest, SCHED_OP, POLL, pollStructure(guest, END - 4, 2, 0n))).toBe(EFAULT);
    const { cpu } = guest;
    const read = cpu.readVirtual.bind(cpu);
    cpu.readVirtual = (address, length) => (address === BigInt(END) ? null : read(address, length));
    expect(call(guest, SCHED_OP, POLL, pollStructure(guest, END, 0, 0n))).toMatchObject({ kind: 'blocked' });
    guest.vcpu.beforeEntry();
    expectOver(guest);
  });

  test('KX-HCL-32 KF-58 KF-60 a port that the VM’s mode does not have is EINVAL, wherever it stands, and nothing is announced', () => {
    const guest = make();
    guestSets(guest.vm, 'pending', 7);
    for (const bad of [maxPorts, maxPorts + 1, 4096, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1]) {
      for (const ports of [[bad], [7, bad], [bad, 7]]) {
        const at = pollArgument(guest, ports);
        expect(changed(guest.vm, () => expect(answer(guest, SCHED_OP, POLL, at)).toBe(EINVAL))).toEqual([]);
        expectOver(guest);
      }
    }
    sleeps(guest, [maxPorts - 1]);
  });

  test('KX-HCL-32 a bad port is EINVAL, too, while shared_info cannot be used', () => {
    const guest = make();
    guest.vm.setAttr({ type: 'shared_info', gfn: null });
    expect(poll(guest, [maxPorts])).toEqual({ kind: 'handled', result: 2n ** 64n - 22n });
    expectOver(guest);
  });

  // ── going to sleep ─────────────────────────────────────────────────────────────────────────────────────────────

  test('KX-HCL-33 one port is announced as such, none and several as any', () => {
    const guest = make();
    for (const [ports, word] of [
      [[7], 8],
      [[0], 1],
      [[maxPorts - 1], maxPorts],
      [[], POLL_ANY],
      [[7, 8], POLL_ANY],
    ] as const) {
      sleeps(guest, ports);
      expect(pollWord(guest)).toBe(word);
      guest.vcpu.beforeEntry();
      expect(pollWord(guest)).toBe(0);
    }
    expectOver(guest);
  });

  test('KX-HCL-34 S-32 a port that is pending ends the poll before it begins, masked or not, at any place of the list', () => {
    const guest = make();
    for (const masked of [false, true]) {
      guestSets(guest.vm, 'mask', 13, masked);
      guestSets(guest.vm, 'pending', 13);
      for (const ports of [[13], [6, 13], [13, 6, 9]]) {
        expect(poll(guest, ports)).toEqual({ kind: 'handled', result: 0n });
        expectOver(guest);
      }
      guestSets(guest.vm, 'pending', 13, false);
      sleeps(guest, [13]);
      guest.vcpu.beforeEntry();
    }
  });

  test('KX-HCL-34 while shared_info is away a poll does not wait, and does not map it either', () => {
    const guest = make();
    dropMappings(guest.vm);
    expect(poll(guest, [7])).toEqual({ kind: 'handled', result: 0n });
    expect(poll(guest, [7])).toEqual({ kind: 'handled', result: 0n });
    guest.vm.mask(9);
    sleeps(guest, [7]);
    guest.vm.setAttr({ type: 'shared_info', gfn: null });
    guest.vcpu.beforeEntry();
    expect(poll(guest, [7])).toEqual({ kind: 'handled', result: 0n });
    expectOver(guest);
  });

  test('KX-HCL-34 KX-HCL-35 S-33 KF-76 the timeout is a span from now on, as in KVM; 0 is for ever', () => {
    const guest = make();
    const now = guest.clock.now();
    expect(sleeps(guest, [14], 100n * MS)).toBe(now + 100n * MS);
    expect(guest.vm.nextDeadline()).toBe(now + 100n * MS);
    guest.clock.advance(100n * MS - 1n);
    expect([guest.vm.tick(), guest.vcpu.runnable]).toEqual([0, false]);
    guest.clock.advance(1n);
    expect(guest.vcpu.runnable).toBe(true);
    guest.vcpu.beforeEntry();
    expectOver(guest);
    // Xen would take this for a time that has come: its timeouts are absolute.
    expect(sleeps(guest, [14], 1n)).toBe(now + 100n * MS + 1n);
    guest.vcpu.beforeEntry();
    expect(sleeps(guest, [14], guest.clock.now() + MS)).toBe(2n * guest.clock.now() + MS);
    guest.vcpu.beforeEntry();
    expect(sleeps(guest, [14])).toBeNull();
    expect(guest.vm.nextDeadline()).toBeNull();
  });

  test('KX-HCL-34 a timeout beyond the end of time is the end of time', () => {
    const guest = make();
    for (const timeout of [2n ** 64n - 1n, 2n ** 64n - guest.clock.now()]) {
      expect(sleeps(guest, [14], timeout)).toBe(2n ** 64n - 1n);
      guest.vcpu.beforeEntry();
    }
    expect(sleeps(guest, [14], 2n ** 63n)).toBe(2n ** 63n + guest.clock.now());
  });

  test('KX-HCL-38 S-41 port 0 may be polled and behaves like any port', () => {
    const guest = make();
    sleeps(guest, [0]);
    guest.vcpu.beforeEntry();
    guestSets(guest.vm, 'pending', 0);
    expect(poll(guest, [0])).toEqual({ kind: 'handled', result: 0n });
    expectOver(guest);
  });

  // ── waking up ──────────────────────────────────────────────────────────────────────────────────────────────────

  test('KX-HCL-37 the tick of a poll whose time is over requests and kicks, once', () => {
    const guest = make();
    sleeps(guest, [14], 5n * MS);
    guest.clock.advance(5n * MS);
    expect(guest.vm.tick()).toBe(1);
    expect([guest.vcpu.runnable, guest.vm.tick(), guest.vm.nextDeadline()]).toEqual([true, 0, null]);
    expect(guest.vcpu.beforeEntry()).toEqual({ kind: 'enter', externalInterrupt: 0, lapicInterrupt: 0 });
    expect(guest.vcpu.runnable).toBe(false);
    expectOver(guest);
  });

  test('KX-HCL-36 KX-EVT-60 a kick ends a poll; asking whether it is over takes nothing away', () => {
    const guest = make();
    sleeps(guest, [14], 5n * MS);
    guest.vcpu.kick();
    for (let i = 0; i < 3; i++) expect(guest.vcpu.runnable).toBe(true);
    guest.vcpu.beforeEntry();
    expect(guest.vcpu.runnable).toBe(false);
    expectOver(guest);
  });

  test('KX-EVT-40 S-34 a masked event of the port ends the poll, without an upcall', () => {
    for (const ports of [[13], [13, 14], [14, 13, bits + 1]]) {
      const guest = make();
      setVector(guest);
      guestSets(guest.vm, 'mask', 13);
      sleeps(guest, ports);
      expect(guest.vm.send(13)).toBe(-107);
      expect(guest.vcpu.runnable).toBe(true);
      expect(guest.vcpu.beforeEntry()).toMatchObject({ kind: 'enter', externalInterrupt: 0 });
      expectOver(guest);
      expect(poll(guest, ports)).toEqual({ kind: 'handled', result: 0n });
    }
  });

  test('KX-EVT-40 S-34 the masked timer ends a poll without a timeout', () => {
    const guest = make();
    setVector(guest);
    guest.vm.mask(13);
    guest.vcpu.setAttr({ type: 'timer', port: 13, expires: guest.vm.kvmclock.now() + 100n * MS });
    sleeps(guest, [13]);
    guest.clock.advance(100n * MS);
    guest.vm.tick();
    expect(guest.vcpu.runnable).toBe(true);
    expect(guest.vcpu.beforeEntry()).toMatchObject({ kind: 'enter', externalInterrupt: 0 });
    expectOver(guest);
    expect(pendingBit(guest.vm, 13)).toBe(true);
  });

  test('KX-EVT-40 a masked event of another port does not end a poll for one port, but one for several', () => {
    const guest = make();
    for (const port of [9, 10]) guest.vm.mask(port);
    sleeps(guest, [7]);
    guest.vm.send(9);
    expect(guest.vcpu.runnable).toBe(false);
    guest.vcpu.beforeEntry();
    sleeps(guest, [7, 8]);
    guest.vm.send(10);
    expect(guest.vcpu.runnable).toBe(true);
    guest.vcpu.beforeEntry();
    expectOver(guest);
  });

  test('KX-EVT-40 S-35 an unmasked event of any port ends a poll through the upcall', () => {
    const guest = make();
    setVector(guest);
    guest.vcpu.setAttr({ type: 'timer', port: 13, expires: guest.vm.kvmclock.now() + 100n * MS });
    expect(guest.vcpu.getAttr('timer').expires).toBe(guest.vm.kvmclock.now() + 100n * MS);
    const { vm } = guest;
    guest.vcpu.setAttr({ type: 'vcpu_info_hva', hva: cast(vm.guestBase + 4 * 4096) });
    guest.vcpu.beforeEntry();
    sleeps(guest, [14]);
    guest.clock.advance(100n * MS);
    vm.tick();
    expect(guest.vcpu.runnable).toBe(true);
    expect(guest.vcpu.beforeEntry()).toMatchObject({ kind: 'enter', externalInterrupt: VECTOR });
    expectOver(guest);
    expect(drained(vm)).toEqual([13]);
  });

  test('KX-EVT-40 KF-17 a poll whose port is unmasked is woken by it, with no vector at all and vcpu_info here or away', () => {
    for (const away of [false, true]) {
      const guest = make();
      if (away) unregister(guest.vm);
      sleeps(guest, [7]);
      expect(guest.vm.send(7)).toBe(1);
      expect(guest.vcpu.runnable).toBe(true);
      guest.vcpu.beforeEntry();
      expectOver(guest);
    }
  });

  test('KF-17 events that the guest has not taken end a poll at once: the next of that word would not show', () => {
    const guest = make();
    guest.vm.send(9);
    expect(selector(guest.vm)).toBe(1n);
    expect(poll(guest, [7])).toMatchObject({ kind: 'blocked' });
    expect(guest.vcpu.runnable).toBe(true);
    guest.vcpu.beforeEntry();
    expectOver(guest);
  });

  test('KX-EVT-41 a masked event of a port that belongs to another vCPU does not end this poll', () => {
    const guest = make({ vcpus: 2 });
    guest.vm.bindVcpu(7, 1);
    guest.vm.mask(7);
    sleeps(guest, [7], 5n * MS);
    expect(guest.vm.send(7)).toBe(-107);
    expect([guest.vcpu.runnable, guest.vm.vcpu(1).runnable]).toEqual([false, false]);
    guest.clock.advance(5n * MS);
    expect(guest.vcpu.runnable).toBe(true);
  });

  test('KX-HCL-36 the polls of two vCPUs of one agent are apart', () => {
    const guest = make({ vcpus: 2 });
    const { vm } = guest;
    for (const port of [7, 9]) vm.mask(port);
    vm.bindVcpu(9, 1);
    const other: Guest = { ...guest, vcpu: vm.vcpu(1) };
    sleeps(guest, [7], 5n * MS);
    sleeps(other, [9], 8n * MS);
    expect(vm.nextDeadline()).toBe(guest.clock.now() + 5n * MS);
    vm.send(9);
    expect([guest.vcpu.runnable, other.vcpu.runnable]).toEqual([false, true]);
    other.vcpu.beforeEntry();
    expect(vm.nextDeadline()).toBe(guest.clock.now() + 5n * MS);
    expect(vm.region.words.load(vm.vmBase + REGION_POLLERS)).toBe(1);
    vm.send(7);
    expect(guest.vcpu.runnable).toBe(true);
    guest.vcpu.beforeEntry();
    expectOver(guest);
  });

  test('KX-HCL-36 a vCPU that polls again without an entry in between leaves nothing of its first poll', () => {
    const guest = make();
    sleeps(guest, [7], 5n * MS);
    sleeps(guest, [8]);
    expect([pollWord(guest), guest.vm.region.words.load(guest.vm.vmBase + REGION_POLLERS)]).toEqual([9, 1]);
    expect(guest.vm.nextDeadline()).toBeNull();
    guest.vcpu.beforeEntry();
    expectOver(guest);
  });

  test('KX-HCL-34 KX-GPH-07 a vCPU that sleeps in a poll is not in guest mode', () => {
    const guest = make();
    const { vm, vcpu } = guest;
    const inGuest = (): boolean => (vm.region.words.load(vcpu.record + VCPU_MODE) & VCPU_IN_GUEST) !== 0;
    vcpu.beforeEntry();
    guestSets(vm, 'pending', 8);
    expect([poll(guest, [8]).kind, inGuest()]).toEqual(['handled', true]);
    sleeps(guest, [7]);
    expect(inGuest()).toBe(false);
    vcpu.beforeEntry();
    expect(inGuest()).toBe(true);
  });

  test('a clock that fails leaves no poll behind', () => {
    const guest = make();
    guest.clock.now = () => {
      throw new RangeError('mine');
    };
    expect(() => poll(guest, [7], 5n)).toThrow(RangeError);
    expectOver(guest);
  });

  test('KX-HCL-36 what wakes a poll too late is no reason to end the next', () => {
    const guest = make();
    guest.vm.mask(7);
    sleeps(guest, [7]);
    guest.vm.send(7);
    guest.vcpu.beforeEntry();
    guestSets(guest.vm, 'pending', 7, false);
    sleeps(guest, [7]);
    expect(guest.vcpu.runnable).toBe(false);
  });

  test('KX-HCL-34 a 64-bit call reads the port list of a 32-bit VM and the reverse: the layout is the call’s', () => {
    const guest = make();
    guest.cpu.longMode = !long;
    sleeps(guest, [7], 5n);
  });

  test('KX-HCL-12 a poll from user level leaves, however it lies', () => {
    const guest = make();
    guest.cpu.cpl = 3;
    leaves(guest, SCHED_OP, POLL, pollArgument(guest, [7]));
    expectOver(guest);
  });
});

// ── threads that sleep ─────────────────────────────────────────────────────────────────────────────────────────────

describe.each(LAYOUTS)('$layout layout, shared memory', ({ longMode }) => {
  /** A traced VM whose sleeps call `asleep`. */
  function worker(asleep: (vm: Vm) => number): { guest: Guest; naps: () => number } {
    const { vm, naps } = makeSleeper({ longMode, asleep });
    return { guest: guestOf(vm), naps };
  }
  function guestOf(vm: Vm): Guest {
    vm.setConfig({ msr: MSR, interceptHypercalls: true, evtchnSend: true });
    const cpu = new FlatCpu(vm, { rip: RIP });
    return { vm, vcpu: vm.vcpu(0), cpu, clock: vm.clock as VirtualClock };
  }

  test('KX-HCL-34 KX-EVT-40 a worker waits after the call and is woken by a masked event of its port', () => {
    const { guest, naps } = worker((vm) => {
      expect(vm.send(7)).toBe(-107);
      return WOKEN;
    });
    guest.vm.mask(7);
    expect(poll(guest, [7])).toEqual({ kind: 'blocked', deadline: null });
    expect(guest.vcpu.wait()).toBe('events');
    expect([naps(), guest.vm.wakes]).toEqual([1, 1]);
    guest.vcpu.beforeEntry();
    expectOver(guest);
  });

  test('KX-HCL-37 a worker is woken by the tick of another thread', () => {
    const clock = new VirtualClock(5n);
    const { guest } = worker((vm) => {
      clock.advance(100n);
      const other = attachVm(vm.handle(), { clock });
      expect(other.tick(clock.now())).toBe(1);
      other.detach();
      return WOKEN;
    });
    expect(poll(guest, [7], 100n)).toEqual({ kind: 'blocked', deadline: 100n });
    expect(guest.vcpu.wait()).toBe('unblocked');
    guest.vcpu.beforeEntry();
    expectOver(guest);
  });

  test('KX-HCL-36 S-33 a worker may wait for the time itself', () => {
    const { guest } = worker(() => TIMED_OUT);
    expect(poll(guest, [7], 100n)).toEqual({ kind: 'blocked', deadline: 100n });
    expect(guest.vcpu.wait(100)).toBe('timeout');
    guest.vcpu.beforeEntry();
    expectOver(guest);
  });

  /** A poll and its wait, with `disturb` before step `step` of the kernel, or in the sleep if there are not so many. */
  function pollWith(
    step: number,
    disturb: (vm: Vm) => void,
  ): { guest: Guest; asleep: boolean; result: HypercallResult } {
    let [at, done, asleep] = [-1, false, false];
    let vm: Vm | undefined;
    const act = (): void => {
      if (vm === undefined || done) return;
      done = true;
      disturb(vm);
    };
    const made = makeVm({
      longMode,
      ...tracing(true, {
        onStep: () => {
          if (vm !== undefined && !done && ++at === step) act();
        },
        onWait: (address, expected) => {
          if (made.region.words.load(address) !== expected) return 1;
          if (done) expect.fail(`asleep after step ${step}`);
          asleep = true;
          act();
          return made.region.words.load(address) === expected ? TIMED_OUT : WOKEN;
        },
      }),
    });
    const guest = guestOf(made);
    made.mask(7);
    const argument = pollArgument(guest, [7]);
    load(guest, 29n, 3n, BigInt(argument));
    vm = made;
    const result = guest.vcpu.hypercall(guest.cpu);
    if (result.kind === 'blocked') guest.vcpu.wait();
    vm = undefined;
    return { guest, asleep, result };
  }

  test('KX-HCL-33 KF-16 a masked send at any step of a poll is seen or wakes: the announcement comes before the look', () => {
    for (let step = 0; step < 200; step++) {
      const { guest, asleep } = pollWith(step, (vm) => vm.send(7));
      guest.vcpu.beforeEntry();
      expectOver(guest);
      if (asleep) return;
    }
    expect.fail('the poll never slept');
  });

  test('KX-EVT-60 a kick at any step of asking whether a poll is over is not taken by the question', () => {
    for (let step = 0; step < 50; step++) {
      let [at, done] = [-1, false];
      let vm: Vm | undefined;
      const onStep = (): void => {
        if (vm === undefined || done || ++at !== step) return;
        done = true;
        vm.vcpu(0).kick();
      };
      const made = makeVm({ longMode, ...tracing(true, { onStep }) });
      const guest = guestOf(made);
      sleeps(guest, [7]);
      vm = made;
      void guest.vcpu.runnable;
      vm = undefined;
      if (!done) return;
      expect([guest.vcpu.runnable, guest.vcpu.runnable], `step ${step}`).toEqual([true, true]);
    }
    expect.fail('it does not end');
  });

  test('KF-61 the mode flips at any step of a poll: one of the two pure outcomes', () => {
    // 2000 is a port in long mode only. The poll of it sleeps there, and is refused in compat.
    const outcomes = new Set<string>();
    for (let step = 0; step < 200; step++) {
      let [at, done] = [-1, false];
      let vm: Vm | undefined;
      const onStep = (): void => {
        if (vm === undefined || done || ++at !== step) return;
        done = true;
        vm.kernel.setLongMode(vm.vmBase, longMode ? 0 : 1);
      };
      const made = makeVm({ longMode, ...tracing(true, { onStep }) });
      const guest = guestOf(made);
      const at32 = pollArgument(guest, [2000]);
      load(guest, 29n, 3n, BigInt(at32));
      vm = made;
      const before = ram(made).slice();
      const result = guest.vcpu.hypercall(guest.cpu);
      vm = undefined;
      expect(changes(before, ram(made))).toEqual([]);
      expect([
        { kind: 'blocked', deadline: null },
        { kind: 'handled', result: 2n ** 64n - 22n },
      ]).toContainEqual(result);
      outcomes.add(result.kind);
      if (result.kind === 'blocked') guest.vcpu.beforeEntry();
      expectOver(guest);
      if (!done) break;
    }
    expect([...outcomes].sort()).toEqual(['blocked', 'handled']);
  });

  test('KX-HCL-36 the agent that goes on with the vCPU ends the poll of the one that halted it', () => {
    const guest = makeGuest({ longMode });
    sleeps(guest, [7], 5n * MS);
    const other = attachVm(guest.vm.handle(), { clock: guest.clock });
    guest.vm.mask(7);
    guest.vm.send(7);
    expect(other.vcpu(0).runnable).toBe(true);
    expect(other.vcpu(0).beforeEntry().kind).toBe('enter');
    expectOver(guest);
  });

  test('one thread runs a vCPU: a poll while another thread polls for it is refused, and nothing changes', () => {
    const guest = makeGuest({ longMode });
    sleeps(guest, [7]);
    const vm = attachVm(guest.vm.handle(), { clock: guest.clock });
    const other: Guest = { ...guest, vm, vcpu: vm.vcpu(0), cpu: new FlatCpu(vm) };
    const at = pollArgument(other, [7]);
    refuses(vm, () => call(other, SCHED_OP, POLL, at), 'EBUSY', 'vCPU 0');
    guest.vcpu.beforeEntry();
    expectOver(guest);
  });

  test('R8 the poll of an agent that has died is over when the vCPU goes on elsewhere', () => {
    const guest = makeGuest({ longMode });
    const vm = attachVm(guest.vm.handle(), { clock: guest.clock });
    const dead: Guest = { ...guest, vm, vcpu: vm.vcpu(0), cpu: new FlatCpu(vm) };
    expect(poll(dead, [7], 5n * MS).kind).toBe('blocked');
    guest.vm.detachAgent(vm.agentNumber);
    guest.vcpu.beforeEntry();
    expectOver(guest);
  });

  test('KX-HCL-34 a page that an invalidation has taken: the poll does not wait for its end', () => {
    noNaps();
    const guest = makeGuest({ longMode });
    const at = pollArgument(guest, [7]);
    const copy = new FlatCpu(guest.vm, { longMode: true });
    const argument = copy.readVirtual(BigInt(at), 24);
    const list = copy.readVirtual(BigInt(PORT_LIST), 4);
    guest.vm.invalidateStart(guest.vm.guestBase, guest.vm.guestBase + guest.vm.guestBytes - 1);
    load(guest, 29n, 3n, BigInt(at));
    guest.cpu.readVirtual = (address) => (address === BigInt(at) ? argument : list);
    expect(guest.vcpu.hypercall(guest.cpu)).toEqual({ kind: 'handled', result: 0n });
    guest.vm.invalidateEnd();
    expectOver(guest);
  });
});

describe.each(KINDS)('$layout layout, shared memory: $shared', ({ longMode, shared }) => {
  test('S-41 shared_info comes and goes while the guest polls a port that is pending: it always goes on', () => {
    const guest = makeGuest({ longMode, shared });
    setVector(guest);
    guestSets(guest.vm, 'pending', 0);
    guest.vcpu.setAttr({ type: 'timer', port: 13, expires: guest.vm.kvmclock.now() + 50n * MS });
    for (let round = 0; round < 100; round++) {
      if (round % 2) guest.vm.setAttr({ type: 'shared_info', gfn: round % 4 === 1 ? null : cast(3) });
      else guest.vm.setAttr({ type: 'shared_info_hva', hva: cast(guest.vm.guestBase + 3 * 4096) });
      expect(poll(guest, [0])).toEqual({ kind: 'handled', result: 0n });
      guest.clock.advance(MS);
      guest.vm.tick();
      guest.vcpu.beforeEntry();
    }
    guest.vm.setAttr({ type: 'shared_info', gfn: cast(3) });
    // What was lost with the page, the host arms again.
    if (guest.vcpu.getAttr('timer').expires === 0n && !pendingBit(guest.vm, 13)) {
      guest.vcpu.setAttr({ type: 'timer', port: 13, expires: guest.vm.kvmclock.now() });
    }
    expect(guest.vcpu.beforeEntry()).toMatchObject({ kind: 'enter', externalInterrupt: VECTOR });
    expect(drained(guest.vm)).toContain(13);
    guestTakes(guest.vm);
    expectOver(guest);
  });
});
