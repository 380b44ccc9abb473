// Linux as an HVM guest, hypercall by hypercall, on two vCPUs: what has to be there at each moment. [XE-BT-10..22]

import { describe, expect, test } from 'vitest';
import { drained, fields, ram } from '../support.ts';
import {
  AREA,
  addToPhysmap,
  answer,
  CALLERS,
  type Caller,
  call,
  LIST,
  makeCaller,
  makeGuest,
  put,
  registerVcpuInfo,
  SHARED_INFO_FRAME,
  START,
  setParam,
  u32,
  u64,
  VCPU_INFO_FRAME,
  VECTOR,
  VECTOR_VIA,
} from './caller.ts';

const MS = 1_000_000n;
const info = (index: number): number => VCPU_INFO_FRAME * 4096 + index * 64;
const area = (guest: Caller, address: number): number => put(guest, 8, [[0, 8, address]]);

/** What is to be injected on a vCPU now: [the domain's vector, its own]. */
function injected({ domain }: Caller, index = 0): [number, number] {
  const entry = domain.vm.vcpu(index).beforeEntry();
  domain.vm.vcpu(index).afterExit();
  return entry.kind === 'enter' ? [entry.externalInterrupt, entry.lapicInterrupt] : [-1, -1];
}

/** The guest's handler: takes the ports of a vCPU. */
function handled(guest: Caller, index = 0): number[] {
  return drained(guest.domain.vm, index);
}

describe.each(CALLERS)('$caller caller, shared memory: $shared', ({ long, shared }) => {
  const make = (more = {}): Caller => makeCaller({ long, shared, vcpus: 2, ...more });
  const evtchn = (
    guest: Caller,
    op: number,
    size: number,
    fieldsOf: readonly (readonly [number, 2 | 4 | 8, number])[],
    portAt = -1,
  ) => {
    const at = put(guest, size, fieldsOf as never);
    const result = answer(guest, 32, [op, at]);
    return result < 0 || portAt < 0 ? result : u32(guest, at + portAt);
  };
  const bindVirq = (guest: Caller, virq: number, vcpu: number): number =>
    evtchn(
      guest,
      1,
      12,
      [
        [0, 4, virq],
        [4, 4, vcpu],
      ],
      8,
    );
  const bindIpi = (guest: Caller, vcpu: number): number => evtchn(guest, 7, 8, [[0, 4, vcpu]], 4);
  const setTimer = (guest: Caller, at: bigint, vcpu = 0): number => {
    const where = put(guest, long ? 16 : 12, [
      [0, 8, at],
      [8, 4, 0],
    ]);
    return answer(guest, 24, [8, vcpu, where], vcpu);
  };

  /** Rows 2 to 11 for vCPU 0; by the domain's vector unless told otherwise. */
  const begin = (guest: Caller, ownVector = false): void => {
    const features = put(guest, 8, [[0, 4, 0]]);
    expect(answer(guest, 17, [6, features])).toBe(0);
    expect(u32(guest, features + 4) & 0x304).toBe(0x304);
    expect(addToPhysmap(guest, 0, 0, SHARED_INFO_FRAME)).toBe(0);
    expect(answer(guest, 34, [9, put(guest, 16, [[0, 2, 0x7ff0]])])).toBeLessThan(0);
    expect(registerVcpuInfo(guest, 0, VCPU_INFO_FRAME, 0)).toBe(0);
    expect(
      evtchn(guest, 11, 24, [
        [0, 8, 6],
        [8, 4, 0],
        [12, 4, 0],
      ]),
    ).toBeLessThan(0);
    ram(guest.domain.vm).fill(
      0xff,
      SHARED_INFO_FRAME * 4096 + (long ? 0xa00 : 0x880),
      SHARED_INFO_FRAME * 4096 + (long ? 0xc00 : 0x900),
    );
    if (ownVector) {
      expect(
        answer(guest, 34, [
          23,
          put(guest, 8, [
            [0, 4, 0],
            [4, 2, VECTOR],
          ]),
        ]),
      ).toBe(0);
      expect(setParam(guest, 0, 1)).toBe(0);
    } else {
      expect(setParam(guest, 0, VECTOR_VIA)).toBe(0);
    }
  };
  const unmask = (guest: Caller, port: number): void => void guest.domain.vm.unmask(port);

  test('XE-BT-12 between the registration of vcpu_info and the callback nothing is delivered, whatever is pending', () => {
    const guest = make({ fifo: false });
    const channel = guest.xen.host.bindUnbound(guest.domain.domid, () => {});
    channel.notify();
    addToPhysmap(guest, 0, 0, SHARED_INFO_FRAME);
    registerVcpuInfo(guest, 0, VCPU_INFO_FRAME, 0);
    expect(guest.domain.vm.vcpu(0).upcallPending).toBe(true);
    expect(injected(guest)).toEqual([0, 0]);
    setParam(guest, 0, VECTOR_VIA);
    expect(injected(guest)).toEqual([VECTOR, 0]);
    expect(handled(guest)).toEqual([channel.port]);
  });

  test('XE-BT-11 XE-BT-14 XE-BT-22 rows 2 to 19: without FIFO, time areas and priorities the timer of CPU 0 ticks on CPU 0', () => {
    const guest = make({ fifo: false });
    begin(guest);
    handled(guest);
    expect(answer(guest, 24, [7, 0])).toBe(0);
    expect(answer(guest, 24, [5, 0, area(guest, AREA)])).toBe(0);
    const timer = bindVirq(guest, 0, 0);
    expect(
      evtchn(guest, 13, 8, [
        [0, 4, timer],
        [4, 4, 0],
      ]),
    ).toBeLessThan(0);
    unmask(guest, timer);
    expect(answer(guest, 24, [7, 0])).toBe(0);
    for (let tick = 1n; tick < 4n; tick++) {
      expect(setTimer(guest, START + tick * 4n * MS)).toBe(0);
      expect(injected(guest)).toEqual([0, 0]);
      guest.clock.advance(4n * MS);
      expect(guest.domain.vm.tick()).toBe(1);
      expect([injected(guest), handled(guest)]).toEqual([[VECTOR, 0], [timer]]);
    }
    expect(answer(guest, 24, [9, 0])).toBe(0);
  });

  test('XE-BT-22 what may be refused is refused without harm: all of them are ENOSYS here, and events arrive', () => {
    const guest = make({ fifo: false });
    begin(guest);
    handled(guest);
    for (const [number, params] of [
      [20, [8, LIST, 1]],
      [20, [6, LIST, 1]],
      [33, [13, LIST]],
      [33, [5, LIST]],
    ] as const) {
      expect(answer(guest, number, params)).toBe(-38);
    }
    const port = bindIpi(guest, 0);
    unmask(guest, port);
    expect(evtchn(guest, 4, 4, [[0, 4, port]])).toBe(0);
    expect([injected(guest), handled(guest)]).toEqual([[VECTOR, 0], [port]]);
  });

  test('XE-BT-13 with a vector for each vCPU the callback is set to GSI 1 as a sign: it is accepted, and no line moves', () => {
    const lines: number[] = [];
    const guest = make({
      fifo: false,
      hvm: { onGsi: (gsi: number) => void lines.push(gsi), cpuid: { upcallVectors: true } },
    });
    guest.domain.vm.setAttr({ type: 'long_mode', enabled: !long });
    begin(guest, true);
    expect(guest.domain.vm.region.longMode).toBe(long);
    injected(guest);
    handled(guest);
    const port = bindIpi(guest, 0);
    // The masks lie where the guest's own width has them.
    unmask(guest, port);
    expect(evtchn(guest, 4, 4, [[0, 4, port]])).toBe(0);
    expect([injected(guest), handled(guest), lines]).toEqual([[0, VECTOR], [port], []]);
  });

  test('rows 21 to 23: the second vCPU gets its areas from the first, its timer and its IPIs, and runs', () => {
    const guest = make({ fifo: false });
    begin(guest);
    handled(guest);
    expect(registerVcpuInfo(guest, 1, VCPU_INFO_FRAME, 64)).toBe(0);
    const timer = bindVirq(guest, 0, 1);
    const [resched, call1, single, lock] = [bindIpi(guest, 1), bindIpi(guest, 1), bindIpi(guest, 1), bindIpi(guest, 1)];
    expect([timer, resched, call1, single, lock]).toEqual([1, 2, 3, 4, 5]);
    for (const port of [timer, resched, call1, single]) unmask(guest, port);
    expect(answer(guest, 24, [3, 1])).toBe(0);
    expect(answer(guest, 24, [5, 1, area(guest, AREA)], 1)).toBe(0);
    expect(answer(guest, 24, [3, 1])).toBe(1);
    injected(guest, 1);
    handled(guest, 1);
    expect(setTimer(guest, START + MS, 1)).toBe(0);
    guest.clock.advance(MS);
    guest.domain.vm.tick();
    expect(evtchn(guest, 4, 4, [[0, 4, resched]])).toBe(0);
    expect([injected(guest, 1), handled(guest, 1), injected(guest)]).toEqual([
      [VECTOR, 0],
      [timer, resched],
      [0, 0],
    ]);
  });

  test('XE-BP-26 a poll in the lock code is 0, whether it sleeps, is kicked or finds its event', () => {
    const guest = make({ fifo: false });
    begin(guest);
    handled(guest);
    const lock = bindIpi(guest, 0);
    fields(guest.domain.vm).setUint32(LIST, lock, true);
    const poll = () => {
      const at = long
        ? put(guest, 24, [
            [0, 8, LIST],
            [8, 4, 1],
            [16, 8, 0],
          ])
        : put(guest, 16, [
            [0, 4, LIST],
            [4, 4, 1],
            [8, 8, 0],
          ]);
      const result = call(guest, 29, [3, at]);
      return [result.kind, guest.cpu.registers.rax];
    };
    expect(poll()).toEqual(['blocked', 0n]);
    expect(evtchn(guest, 4, 4, [[0, 4, lock]])).toBe(0);
    expect(guest.domain.vm.vcpu(0).runnable).toBe(true);
    guest.domain.vm.vcpu(0).beforeEntry();
    expect(poll()).toEqual(['handled', 0n]);
  });

  test('XE-BT-16 suspend: the call is made, the guest resumes elsewhere, and sets everything up again', () => {
    const told: string[] = [];
    const hvm = { onShutdown: (reason: string) => void told.push(reason) };
    const guest = make({ fifo: false, hvm });
    begin(guest);
    handled(guest);
    const before = bindVirq(guest, 0, 0);
    expect(answer(guest, 29, [2, put(guest, 4, [[0, 4, 2]])])).toBe(0);
    expect(told).toEqual(['suspend']);
    // A new domain with the same memory: nothing is set up but the RAM.
    guest.domain.hvm.softReset();
    begin(guest);
    handled(guest);
    expect(answer(guest, 24, [3, 0])).toBe(1);
    expect(answer(guest, 24, [5, 0, area(guest, AREA)])).toBe(0);
    expect(bindVirq(guest, 0, 0)).toBe(before);
    unmask(guest, before);
    setTimer(guest, 1n);
    expect([injected(guest), handled(guest)]).toEqual([[VECTOR, 0], [before]]);
    // One that was given up goes on as it was; the embedder lets the call answer 1.
    answer(guest, 29, [2, put(guest, 4, [[0, 4, 2]])]);
    guest.domain.hvm.resume();
    guest.domain.raiseVirq(0);
    expect(handled(guest)).toEqual([before]);
  });

  // ── clocks ───────────────────────────────────────────────────────────────────────────────────────────────────────

  test('XE-BP-40 XE-BP-41 the guest computes time from its record: system time, a scale that is not 0, a version that is even', () => {
    const guest = makeGuest({ long, shared });
    const { clock, domain } = guest;
    domain.vm.vcpu(0).setTsc({ hz: 2_500_000_000 });
    for (const passed of [0n, 1n, MS, 1_000_000_007n]) {
      clock.advance(passed);
      domain.vm.vcpu(0).beforeEntry();
      const at = info(0) + 32;
      expect(u32(guest, at) % 2).toBe(0);
      const [timestamp, systemTime, mul] = [u64(guest, at + 8), u64(guest, at + 16), u32(guest, at + 24)];
      const shift = fields(domain.vm).getInt8(at + 28);
      expect(mul).toBeGreaterThan(0);
      clock.advance(12_345_678n);
      const delta = domain.vm.vcpu(0).readTsc() - timestamp;
      const shifted = shift < 0 ? delta >> BigInt(-shift) : delta << BigInt(shift);
      const now = systemTime + ((shifted * BigInt(mul)) >> 32n);
      const error = now - domain.vm.kvmclock.now();
      expect(error <= 1n && error >= -1n).toBe(true);
      // kHz = (10^6 << 32) / mul, shifted.
      const kHz = ((1_000_000n << 32n) / BigInt(mul)) >> BigInt(shift < 0 ? 0 : shift);
      expect(Number(shift < 0 ? kHz << BigInt(-shift) : kHz)).toBeCloseTo(2_500_000, -1);
    }
  });

  test('XE-BP-42 the wall clock is Unix time at system time 0, and follows a clock that is set', () => {
    const guest = makeGuest({ long, shared });
    const page = SHARED_INFO_FRAME * 4096;
    const [at, high] = long ? [0xc00, 0xc0c] : [0x900, 0x924];
    const wallClock = (): bigint => (BigInt(u32(guest, page + high)) << 32n) * 1n + BigInt(u32(guest, page + at + 4));
    expect(u32(guest, page + at) % 2).toBe(0);
    const { clock, domain } = guest;
    const expected = clock.realtime() - domain.vm.kvmclock.now();
    expect([wallClock(), u32(guest, page + at + 8)]).toEqual([
      expected / 1_000_000_000n,
      Number(expected % 1_000_000_000n),
    ]);
    clock.advance(100n * 1_000_000_000n);
    domain.vm.kvmclock.set(3n * 1_000_000_000n);
    expect(wallClock()).toBe((clock.realtime() - 3n * 1_000_000_000n) / 1_000_000_000n);
  });

  // ── QEMU's dialect ───────────────────────────────────────────────────────────────────────────────────────────────

  test('XE-QE-33 in QEMU’s dialect a guest is a 32-bit one until it writes the page or sets its callback', () => {
    const guest = makeGuest({ long: false, shared, dialect: 'qemu' });
    const fresh = guest.xen.createDomain({ guestPages: 8, bare: true, shared, dialect: 'qemu' });
    expect(fresh.vm.region.longMode).toBe(false);
    expect(guest.xen.createDomain({ guestPages: 8, bare: true, shared }).vm.region.longMode).toBe(true);
    guest.cpu.longMode = long;
    expect(setParam(guest, 0, VECTOR_VIA)).toBe(0);
    expect(guest.domain.vm.region.longMode).toBe(long);
  });

  test('XE-QE-40 XE-QE-41 callbacks in QEMU’s dialect: a pin has to lead somewhere, a vector of vCPU 0 goes before a line', () => {
    const edges: [number, boolean][] = [];
    const hvm = {
      onGsi: (...edge: [number, boolean]) => void edges.push(edge),
      intxGsi: ({ pin }: { pin: number }) => (pin === 0 ? 10 : null),
    };
    const guest = makeGuest({ long, shared, vcpus: 2, dialect: 'qemu', hvm });
    const { domain } = guest;
    expect(setParam(guest, 0, (1n << 56n) | 1n)).toBe(-22);
    expect(domain.hvm.getParam(0)).toBe(VECTOR_VIA);
    expect(setParam(guest, 0, 1n << 56n)).toBe(0);
    // Moving away from a vector clears it.
    expect(domain.vm.getAttr('upcall_vector').vector).toBe(0);
    const port = bindIpi(guest, 0);
    domain.send(port);
    domain.hvm.updateCallback();
    domain.hvm.assertGsi(10);
    expect(edges).toEqual([[10, true]]);
    handled(guest);
    ram(domain.vm)[info(0)] = 0;
    domain.hvm.updateCallback();
    expect(edges).toEqual([[10, true]]);
    domain.hvm.deassertGsi(10);
    expect(edges.at(-1)).toEqual([10, false]);
    expect(
      answer(guest, 34, [
        23,
        put(guest, 8, [
          [0, 4, 0],
          [4, 2, 0x50],
        ]),
      ]),
    ).toBe(0);
    injected(guest);
    domain.send(port);
    domain.hvm.updateCallback();
    expect([edges.length, injected(guest)]).toEqual([2, [0, 0x50]]);
    expect(setParam(guest, 0, 9n << 56n)).toBe(0);
  });
});
