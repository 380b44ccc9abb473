// Every attribute by structure: what each value is answered with, in KVM's order, and what a refusal leaves. [kvm-xen 3 and 4]

import { describe, expect, test } from 'vitest';
import { hva, type Vcpu, VirtualClock, type Vm } from '../../src/index.ts';
import { fields, KINDS, makeVm, ram, SHARED_INFO_GFN, SHARED_INFO_GPA, vcpuInfoGpa } from '../support.ts';
import { changes, stateBytes } from './evidence.ts';
import { ALL1, attr, evtchn, get, HVM_SET_ATTR, runstate, set, timer, u8, u32, u64 } from './structures.ts';

const NOENT = -2;
const BADF = -9;
const FAULT = -14;
const EXIST = -17;
const INVAL = -22;
const OPNOTSUPP = -95;

/** Expects a SET to answer `errno`, without one byte changed. */
function refusesSet(of: Vm | Vcpu, bytes: Uint8Array, errno: number): void {
  const vm = 'vm' in of ? of.vm : of;
  const before = stateBytes(vm);
  expect(set(of, bytes)).toBe(errno);
  expect(changes(before, stateBytes(vm))).toEqual([]);
}

/** The u64 that a GET answers; it has to succeed. */
function value(of: Vm | Vcpu, type: number, at = 8): bigint {
  const { result, bytes } = get(of, type);
  expect(result).toBe(0);
  return new DataView(bytes.buffer).getBigUint64(at, true);
}
const byte = (of: Vm | Vcpu, type: number): number => Number(value(of, type) & 0xffn);
const word = (of: Vm | Vcpu, type: number): number => Number(value(of, type) & 0xffff_ffffn);

const address = (type: number, at: number | bigint): Uint8Array => attr(type, [[8, u64(at)]]);

/** Addresses that are in no slot: up to what a number holds, and beyond. */
const FAR = [
  16n * 4096n,
  2n ** 32n,
  2n ** 52n,
  2n ** 52n + 0x3000n,
  2n ** 53n - 0x1000n,
  2n ** 53n,
  2n ** 53n + 0x3040n,
  2n ** 54n + 0x3040n,
  2n ** 63n + 0x3041n,
  0xfffa_bcde_f012_3456n,
  2n ** 64n - 0x1000n,
];

describe.each(KINDS)('$layout layout, shared memory: $shared', ({ longMode, shared, maxPorts }) => {
  const make = (options = {}): Vm => makeVm({ longMode, shared, vcpus: 2, ...options });

  describe('VM attributes', () => {
    test('KX-VMA-02 LONG_MODE: any byte but 0 is true; the GET says 1', () => {
      const vm = make();
      for (const payload of [0, 1, 2, 0x80, 0xff, 0]) {
        expect(set(vm, attr(0, [[8, u8(payload)]]))).toBe(0);
        expect(byte(vm, 0)).toBe(payload ? 1 : 0);
        expect(vm.getAttr('long_mode').enabled).toBe(payload !== 0);
      }
    });

    test('KX-VMA-02 LONG_MODE where the wall clock cannot be written: EFAULT, the mode stays changed', () => {
      const vm = make();
      expect(set(vm, address(1, 16))).toBe(FAULT);
      expect(set(vm, attr(0, [[8, u8(longMode ? 0 : 1)]]))).toBe(FAULT);
      expect(byte(vm, 0)).toBe(longMode ? 0 : 1);
    });

    test('KX-VMA-04 KX-VMA-06 SHARED_INFO: ALL1 takes it away, twice as well; the GET says where it is', () => {
      const vm = make();
      expect(value(vm, 1)).toBe(BigInt(SHARED_INFO_GFN));
      for (let i = 0; i < 2; i++) {
        expect(set(vm, address(1, ALL1))).toBe(0);
        expect(value(vm, 1)).toBe(ALL1);
      }
      expect(set(vm, address(1, 5))).toBe(0);
      expect(value(vm, 1)).toBe(5n);
      expect(set(vm, address(6, vm.guestBase))).toBe(0);
      expect(value(vm, 1)).toBe(ALL1);
    });

    test('KX-VMA-05 X-06 SHARED_INFO at a frame that is in no slot: EFAULT, the GET says it, exactly; sends fail until it moves', () => {
      const vm = make();
      for (const at of FAR) {
        const frame = at >> 12n;
        const before = ram(vm).slice();
        expect(set(vm, address(1, frame)), String(frame)).toBe(FAULT);
        expect(value(vm, 1)).toBe(frame);
        expect(value(vm, 6)).toBe(0n);
        expect(vm.send(5)).toBe(FAULT);
        expect(changes(before, ram(vm))).toEqual([]);
      }
      expect(set(vm, address(1, SHARED_INFO_GFN))).toBe(0);
      expect(value(vm, 1)).toBe(BigInt(SHARED_INFO_GFN));
      expect(vm.send(5)).toBe(1);
    });

    test('KX-VMA-05 SHARED_INFO: the address of a frame is computed modulo 2^64, so frame 2^52 is frame 0', () => {
      const vm = make();
      expect(set(vm, address(1, 2n ** 52n + 5n))).toBe(0);
      expect(value(vm, 1)).toBe(5n);
      expect(set(vm, address(1, 2n ** 63n))).toBe(0);
      expect(value(vm, 1)).toBe(0n);
      expect(set(vm, address(1, ALL1 - 1n))).toBe(FAULT);
      expect(value(vm, 1)).toBe(2n ** 52n - 2n);
    });

    test('KX-VMA-05 X-08 SHARED_INFO in a slot that is read-only: EFAULT, and the GET says it', () => {
      const vm = make();
      vm.memslots.set({ id: 1, gpa: 0x10_0000 as never, bytes: 4096, hva: hva(vm.guestBase), readonly: true });
      expect(set(vm, address(1, 0x100))).toBe(FAULT);
      expect(value(vm, 1)).toBe(0x100n);
    });

    test('KX-VMA-08 KX-VMA-09 SHARED_INFO_HVA: alignment, then 0, then the range, then the page', () => {
      const vm = make();
      const end = 0x7fff_ffff_f000n;
      for (const at of [1n, 8n, BigInt(vm.guestBase) + 1n, end + 1n, 2n ** 53n + 1n, 2n ** 63n + 2048n, ALL1]) {
        refusesSet(vm, address(6, at), INVAL);
      }
      for (const at of [end, 2n ** 47n, 2n ** 48n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 4096n]) {
        refusesSet(vm, address(6, at), INVAL);
      }
      expect(set(vm, address(6, vm.guestBase + 0x5000))).toBe(0);
      expect(value(vm, 6)).toBe(BigInt(vm.guestBase + 0x5000));
      for (const at of [BigInt(vm.guestBase + vm.guestBytes), 2n ** 32n, end - 4096n]) {
        expect(set(vm, address(6, at))).toBe(FAULT);
        expect(value(vm, 6)).toBe(at);
        expect(value(vm, 1)).toBe(ALL1);
      }
      expect(set(vm, address(6, 0))).toBe(0);
      expect(value(vm, 6)).toBe(0n);
    });

    test('KX-VMA-10 the last SET decides the base, also after an address that no number holds', () => {
      const vm = make();
      expect(set(vm, address(1, 2n ** 50n + 3n))).toBe(FAULT);
      // By object: where the wire had put it is forgotten.
      vm.setAttr({ type: 'shared_info', gfn: 4 as never });
      expect(value(vm, 1)).toBe(4n);
      expect(set(vm, address(1, 2n ** 50n + 3n))).toBe(FAULT);
      vm.setAttr({ type: 'shared_info', gfn: null });
      expect(value(vm, 1)).toBe(ALL1);
      expect(set(vm, address(1, 2n ** 50n + 3n))).toBe(FAULT);
      expect(set(vm, address(6, vm.guestBase))).toBe(0);
      expect(value(vm, 1)).toBe(ALL1);
      expect(value(vm, 6)).toBe(BigInt(vm.guestBase));
    });

    test('KX-VMA-13 UPCALL_VECTOR: 1..15 refused, all others stored', () => {
      const vm = make();
      for (let vector = 0; vector < 256; vector++) {
        const bytes = attr(2, [[8, u8(vector)]]);
        if (vector >= 1 && vector < 16) refusesSet(vm, bytes, INVAL);
        else {
          expect(set(vm, bytes)).toBe(0);
          expect(byte(vm, 2)).toBe(vector);
        }
      }
    });

    test('KX-VMA-14 XEN_VERSION: any u32', () => {
      const vm = make();
      for (const version of [0, 1, 0x0004_0011, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff]) {
        expect(set(vm, attr(4, [[8, u32(version)]]))).toBe(0);
        expect(word(vm, 4)).toBe(version);
      }
    });

    test('KX-VMA-15 S-01 RUNSTATE_UPDATE_FLAG: any byte but 0 is 1; EOPNOTSUPP without scheduler statistics', () => {
      const vm = make();
      for (const payload of [1, 0, 2, 0xff]) {
        expect(set(vm, attr(5, [[8, u8(payload)]]))).toBe(0);
        expect(byte(vm, 5)).toBe(payload ? 1 : 0);
      }
      const without = make({ schedInfo: false });
      for (const payload of [0, 1]) refusesSet(without, attr(5, [[8, u8(payload)]]), OPNOTSUPP);
      expect(get(without, 5).result).toBe(OPNOTSUPP);
    });

    test('KX-CAP-18 other types: ENOENT', () => {
      const vm = make();
      for (const type of [7, 8, 255, 256, 0xffff]) {
        refusesSet(vm, attr(type, [], 0xff), NOENT);
        expect(get(vm, type).result).toBe(NOENT);
      }
    });
  });

  describe('EVTCHN', () => {
    /** Send port 5 raises port 6, send port 7 is an IPI, send port 9 signals an eventfd. `closed` is none any more. */
    function channels(): { vm: Vm; fd: number; closed: number } {
      const vm = make();
      const { fd } = vm.eventfds.create();
      const other = vm.eventfds.create();
      const closed = other.fd;
      other.close();
      expect(set(vm, evtchn({ sendPort: 5, type: 2, port: 6, vcpu: 1 }))).toBe(0);
      expect(set(vm, evtchn({ sendPort: 7, type: 5, port: 7, vcpu: 0 }))).toBe(0);
      expect(set(vm, evtchn({ sendPort: 9, type: 2, port: 0, vcpu: fd }))).toBe(0);
      return { vm, fd, closed };
    }
    const ASSIGN = 0;
    const DEASSIGN = 1;
    const UPDATE = 2;
    const RESET = 4;

    test('KX-EVA-01 X-18 flags are an enumeration: combinations and strangers are EINVAL', () => {
      const { vm } = channels();
      for (const flags of [3, 5, 6, 7, 8, 0x10, 0x104, 0x8000_0000, 0xffff_ffff]) {
        refusesSet(vm, evtchn({ flags, sendPort: 20, type: 2, port: 21 }), INVAL);
        refusesSet(vm, evtchn({ flags, sendPort: 5, type: 2, port: 6, vcpu: 1 }), INVAL);
      }
    });

    test('KX-EVA-02 the send port is looked at before the flags, and by the mode', () => {
      const { vm } = channels();
      for (const sendPort of [0, maxPorts, 4096, 2 ** 31, 2 ** 32 - 1]) {
        for (const flags of [ASSIGN, DEASSIGN, UPDATE, 3]) {
          refusesSet(vm, evtchn({ flags, sendPort, type: 2, port: 6 }), INVAL);
        }
      }
      expect(set(vm, evtchn({ sendPort: maxPorts - 1, type: 2, port: maxPorts - 1 }))).toBe(0);
    });

    test('KX-EVA-02 KX-EVA-15 S-42 RESET ignores the send port and all else, and succeeds when there is none', () => {
      const { vm } = channels();
      for (const rest of [{}, { sendPort: 0xffff_ffff, type: 77, port: 88, vcpu: 99, priority: 0 }]) {
        expect(set(vm, evtchn({ ...rest, flags: RESET }))).toBe(0);
        expect(vm.getAttr('evtchn')).toEqual({ type: 'evtchn', action: 'set', ports: [] });
      }
    });

    test('KX-EVA-10 X-18 types that are no send ports: closed, unbound, pirq, virq and strangers', () => {
      const { vm } = channels();
      for (const type of [0, 1, 3, 4, 6, 0x100, 0x8000_0002]) {
        refusesSet(vm, evtchn({ sendPort: 20, type, port: 20 }), INVAL);
        // Before what is there.
        refusesSet(vm, evtchn({ sendPort: 5, type, port: 6 }), INVAL);
      }
    });

    test('KX-EVA-07 an IPI raises its own port only', () => {
      const { vm } = channels();
      for (const port of [0, 1, 21, 0xffff_ffff]) refusesSet(vm, evtchn({ sendPort: 20, type: 5, port }), INVAL);
      expect(set(vm, evtchn({ sendPort: 20, type: 5, port: 20 }))).toBe(0);
    });

    test('KX-EVA-08 the target of an interdomain channel is a port of the mode, its own or another', () => {
      const { vm } = channels();
      for (const port of [maxPorts, 4096, 0x8000_0000, 0xffff_ffff]) {
        refusesSet(vm, evtchn({ sendPort: 20, type: 2, port }), INVAL);
      }
      expect(set(vm, evtchn({ sendPort: 20, type: 2, port: maxPorts - 1 }))).toBe(0);
      expect(set(vm, evtchn({ sendPort: 21, type: 2, port: 21 }))).toBe(0);
    });

    test('KX-EVA-11 the priority of a port is 2LEVEL; an eventfd is not asked', () => {
      const { vm, fd } = channels();
      for (const priority of [0, 1, 0x7fff_ffff, 0xffff_fffe]) {
        refusesSet(vm, evtchn({ sendPort: 20, type: 2, port: 21, priority }), INVAL);
        refusesSet(vm, evtchn({ sendPort: 20, type: 5, port: 20, priority }), INVAL);
      }
      expect(set(vm, evtchn({ sendPort: 20, type: 2, port: 0, vcpu: fd, priority: 0 }))).toBe(0);
    });

    test('KX-EVA-09 X-18 an eventfd: EBADF when it is not open, EINVAL when the descriptor is none', () => {
      const { vm, fd, closed } = channels();
      for (const bad of [closed, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff]) {
        refusesSet(vm, evtchn({ sendPort: 20, type: 2, port: 0, vcpu: bad }), BADF);
      }
      for (const stream of [0, 1, 2]) refusesSet(vm, evtchn({ sendPort: 20, type: 2, port: 0, vcpu: stream }), INVAL);
      expect(set(vm, evtchn({ sendPort: 20, type: 2, port: 0, vcpu: fd }))).toBe(0);
    });

    test('KX-EVA-03 X-18 a send port that is there: EEXIST, behind all that is wrong with the target', () => {
      const { vm, fd, closed } = channels();
      for (const sendPort of [5, 7, 9]) {
        refusesSet(vm, evtchn({ sendPort, type: 2, port: 6 }), EXIST);
        refusesSet(vm, evtchn({ sendPort, type: 5, port: sendPort }), EXIST);
        refusesSet(vm, evtchn({ sendPort, type: 2, port: 0, vcpu: fd }), EXIST);
        refusesSet(vm, evtchn({ sendPort, type: 5, port: 6 }), INVAL);
        refusesSet(vm, evtchn({ sendPort, type: 2, port: maxPorts }), INVAL);
        refusesSet(vm, evtchn({ sendPort, type: 2, port: 6, priority: 0 }), INVAL);
        refusesSet(vm, evtchn({ sendPort, type: 2, port: 0, vcpu: closed }), BADF);
      }
    });

    test('KX-EVA-12 S-05 the vCPU is not looked at, neither at assign nor at update', () => {
      const { vm } = channels();
      for (const vcpu of [2, 1000, 0x8000_0000, 0xffff_ffff]) {
        expect(set(vm, evtchn({ sendPort: 20, type: 2, port: 21, vcpu }))).toBe(0);
        expect(set(vm, evtchn({ sendPort: 20, type: 2, port: 21, vcpu: vcpu - 1, flags: UPDATE }))).toBe(0);
        expect(vm.getAttr('evtchn')).toMatchObject({
          ports: [{}, {}, {}, { sendPort: 20, target: { port: 21, vcpu: vcpu - 1 } }],
        });
        expect(set(vm, evtchn({ sendPort: 20, flags: DEASSIGN }))).toBe(0);
      }
    });

    test('KX-EVA-13 UPDATE of what is not there: ENOENT, whatever else is wrong', () => {
      const { vm, closed } = channels();
      refusesSet(vm, evtchn({ flags: UPDATE, sendPort: 20, type: 2, port: 21 }), NOENT);
      for (const type of [0, 4, 5, 99]) refusesSet(vm, evtchn({ flags: UPDATE, sendPort: 20, type, port: 21 }), NOENT);
      refusesSet(vm, evtchn({ flags: UPDATE, sendPort: 20, type: 2, port: 21, priority: 0 }), NOENT);
      refusesSet(vm, evtchn({ flags: UPDATE, sendPort: 20, type: 2, port: 0xffff_ffff }), NOENT);
      refusesSet(vm, evtchn({ flags: UPDATE, sendPort: 20, type: 2, port: 0, vcpu: closed }), NOENT);
    });

    test('KX-EVA-13 X-18 UPDATE: type, kind, target port and priority have to be as they are', () => {
      const { vm, fd, closed } = channels();
      for (const type of [0, 1, 3, 4, 5, 99])
        refusesSet(vm, evtchn({ flags: UPDATE, sendPort: 5, type, port: 6 }), INVAL);
      refusesSet(vm, evtchn({ flags: UPDATE, sendPort: 7, type: 2, port: 7 }), INVAL);
      for (const port of [0, 5, 7, 0xffff_ffff])
        refusesSet(vm, evtchn({ flags: UPDATE, sendPort: 5, type: 2, port }), INVAL);
      for (const priority of [0, 1])
        refusesSet(vm, evtchn({ flags: UPDATE, sendPort: 5, type: 2, port: 6, priority }), INVAL);
      for (const [port, vcpu] of [
        [0, fd],
        [0, closed],
        [6, 0],
        [9, 0],
      ] as const) {
        refusesSet(vm, evtchn({ flags: UPDATE, sendPort: 9, type: 2, port, vcpu }), INVAL);
      }
      // An eventfd is not looked at by an update: it never takes one. [KX-EVA-22]
      refusesSet(vm, evtchn({ flags: UPDATE, sendPort: 5, type: 2, port: 0, vcpu: closed }), INVAL);
      expect(set(vm, evtchn({ flags: UPDATE, sendPort: 5, type: 2, port: 6, vcpu: 0 }))).toBe(0);
      expect(set(vm, evtchn({ flags: UPDATE, sendPort: 7, type: 5, port: 7, vcpu: 1 }))).toBe(0);
    });

    test('KX-EVA-14 X-18 DEASSIGN: once 0, then ENOENT; only the send port counts', () => {
      const { vm } = channels();
      for (const sendPort of [5, 7, 9]) {
        const bytes = evtchn({
          flags: DEASSIGN,
          sendPort,
          type: 99,
          port: 0xffff_ffff,
          vcpu: 0xffff_ffff,
          priority: 0,
        });
        expect(set(vm, bytes)).toBe(0);
        refusesSet(vm, bytes, NOENT);
      }
      refusesSet(vm, evtchn({ flags: DEASSIGN, sendPort: 20 }), NOENT);
    });

    test('KX-EVA-16 ports that are out of range after a change of mode: EINVAL for all but RESET', () => {
      if (!longMode) return;
      const { vm } = channels();
      expect(set(vm, evtchn({ sendPort: 2000, type: 2, port: 2001 }))).toBe(0);
      expect(set(vm, attr(0))).toBe(0);
      refusesSet(vm, evtchn({ flags: UPDATE, sendPort: 2000, type: 2, port: 2001 }), INVAL);
      refusesSet(vm, evtchn({ flags: DEASSIGN, sendPort: 2000 }), INVAL);
      expect(set(vm, attr(0, [[8, [1]]]))).toBe(0);
      expect(set(vm, evtchn({ flags: DEASSIGN, sendPort: 2000 }))).toBe(0);
    });

    test('the GET of EVTCHN is ENOENT, although an object can be read', () => {
      const { vm } = channels();
      expect(get(vm, 3)).toEqual({ result: NOENT, bytes: attr(3, [], 0xa5) });
      expect(vm.getAttr('evtchn')).toMatchObject({ ports: [{ sendPort: 5 }, { sendPort: 7 }, { sendPort: 9 }] });
    });
  });

  describe('vCPU attributes', () => {
    /** Attribute, its length in one page, and where it is on a fresh VM. */
    const PLACES = [
      ['VCPU_INFO', 0, 64, vcpuInfoGpa(0)],
      ['VCPU_TIME_INFO', 1, 32, null],
    ] as const;

    test.each(PLACES)(
      'KX-VCA-01 KX-VCA-03 KX-VCA-04 X-09 %s: any byte of a page but across its end',
      (_, type, length, at) => {
        const vcpu = make().vcpu(0);
        expect(value(vcpu, type)).toBe(at === null ? ALL1 : BigInt(at));
        for (const offset of [4096 - length + 1, 4095]) {
          refusesSet(vcpu, address(type, 0x5000 + offset), INVAL);
          // Also where there is no page at all, and for addresses that no number holds.
          for (const far of FAR) {
            const at = (far & ~0xfffn) + BigInt(offset);
            // The last byte of all means nowhere.
            if (at !== ALL1) refusesSet(vcpu, address(type, at), INVAL);
          }
        }
        for (const good of [0x5000, 0x5001, 0x5000 + 4096 - length, 0]) {
          expect(set(vcpu, address(type, good))).toBe(0);
          expect(value(vcpu, type)).toBe(BigInt(good));
        }
        for (let i = 0; i < 2; i++) {
          expect(set(vcpu, address(type, ALL1))).toBe(0);
          expect(value(vcpu, type)).toBe(ALL1);
        }
      },
    );

    test.each(PLACES)(
      'KX-VCA-01 KX-VCA-03 KX-VCA-04 %s in no slot: EFAULT, and the GET says it, exactly',
      (_, type) => {
        const vm = make();
        const vcpu = vm.vcpu(1);
        for (const far of FAR) {
          const before = ram(vm).slice();
          expect(set(vcpu, address(type, far))).toBe(FAULT);
          expect(value(vcpu, type)).toBe(far);
          expect(changes(before, ram(vm))).toEqual([]);
          // Events are delivered without it.
          expect(vm.send(5)).toBeGreaterThanOrEqual(0);
        }
        expect(set(vcpu, address(type, 0x5000))).toBe(0);
        expect(value(vcpu, type)).toBe(0x5000n);
        expect(value(vm.vcpu(0), 0)).toBe(BigInt(vcpuInfoGpa(0)));
      },
    );

    test('KX-VCA-02 KX-VCA-03 VCPU_INFO_HVA: 0 takes it away, range and page EINVAL, no such page EFAULT', () => {
      const vm = make();
      const vcpu = vm.vcpu(0);
      expect(value(vcpu, 9)).toBe(0n);
      for (const at of [
        0x7fff_ffff_f000n,
        2n ** 47n,
        2n ** 53n,
        2n ** 53n + 1n,
        2n ** 63n,
        ALL1,
        BigInt(vm.guestBase) + 0xfc1n,
      ]) {
        refusesSet(vcpu, address(9, at), INVAL);
      }
      const good = BigInt(vm.guestBase) + 0x5fc0n;
      expect(set(vcpu, address(9, good))).toBe(0);
      expect(value(vcpu, 9)).toBe(good);
      expect(value(vcpu, 0)).toBe(ALL1);
      expect(set(vcpu, address(9, 2n ** 40n))).toBe(FAULT);
      expect(value(vcpu, 9)).toBe(2n ** 40n);
      expect(set(vcpu, address(9, 0))).toBe(0);
      expect(value(vcpu, 9)).toBe(0n);
    });

    test('KX-VCA-05 RUNSTATE_ADDR: the GET is ENOENT while there is none; ALL1 takes it away', () => {
      const vcpu = make().vcpu(0);
      expect(get(vcpu, 2).result).toBe(NOENT);
      expect(set(vcpu, address(2, 0x2ff1))).toBe(0);
      expect(value(vcpu, 2)).toBe(0x2ff1n);
      for (let i = 0; i < 2; i++) {
        expect(set(vcpu, address(2, ALL1))).toBe(0);
        expect(get(vcpu, 2).result).toBe(NOENT);
      }
    });

    test('KX-VCA-05 X-15 RUNSTATE_ADDR that cannot be reached, or half of it: EFAULT, and then there is none', () => {
      const vm = make();
      const vcpu = vm.vcpu(0);
      for (const at of [...FAR, BigInt(vm.guestBytes) - 15n, ALL1 - 1n]) {
        expect(set(vcpu, address(2, 0x5000))).toBe(0);
        expect(set(vcpu, address(2, at))).toBe(FAULT);
        expect(get(vcpu, 2)).toEqual({ result: NOENT, bytes: attr(2, [], 0xa5) });
      }
    });

    test('KX-VCA-07 RUNSTATE_CURRENT: 0..3, and the GET says the state only', () => {
      const vcpu = make().vcpu(0);
      for (const state of [4n, 5n, 0xffn, 2n ** 32n, 2n ** 32n + 1n, 2n ** 63n, ALL1])
        refusesSet(vcpu, runstate(3, [state]), INVAL);
      for (const state of [3, 2, 1, 0]) {
        expect(set(vcpu, runstate(3, [state]))).toBe(0);
        expect(value(vcpu, 3)).toBe(BigInt(state));
      }
      const { bytes } = get(vcpu, 3);
      expect([...bytes.subarray(16)].every((b) => b === 0xa5)).toBe(true);
    });

    test('KX-VCA-08 X-26 RUNSTATE_DATA: state, sum and future are EINVAL; else all six are replaced', () => {
      const clock = new VirtualClock();
      const vm = make({ clock });
      const vcpu = vm.vcpu(0);
      clock.advance(1000n);
      for (const values of [
        [4, 0, 0, 0, 0, 0],
        [ALL1, 0, 0, 0, 0, 0],
        [2n ** 32n, 0, 0, 0, 0, 0],
        [0, 10, 1, 2, 3, 5],
        [0, 10, 1, 2, 3, 2n ** 32n + 4n],
        [0, 1001, 1001, 0, 0, 0],
        [0, ALL1, ALL1, 0, 0, 0],
      ]) {
        refusesSet(vcpu, runstate(4, values), INVAL);
      }
      for (const values of [
        [2, 10, 1, 2, 3, 4],
        [3, 1000, 1000, 0, 0, 0],
        // They add up modulo 2^64.
        [1, 5, ALL1, 6, 0, 0],
      ]) {
        expect(set(vcpu, runstate(4, values))).toBe(0);
        expect(values.map((_, i) => value(vcpu, 4, 8 + 8 * i))).toEqual(values.map(BigInt));
      }
    });

    test('KX-VCA-09 X-26 RUNSTATE_ADJUST: state, sum and future are EINVAL; the GET always is', () => {
      const clock = new VirtualClock();
      const vm = make({ clock });
      const vcpu = vm.vcpu(0);
      clock.advance(1000n);
      expect(set(vcpu, runstate(4, [2, 100, 100, 0, 0, 0]))).toBe(0);
      for (const values of [
        [4, 0, 0, 0, 0, 0],
        [ALL1 - 1n, 0, 0, 0, 0, 0],
        [2n ** 32n, 0, 0, 0, 0, 0],
        [ALL1, 1, 0, 0, 0, 0],
        [ALL1, 0, 1, 0, 0, 0],
        [ALL1, 901, 901, 0, 0, 0],
        [3, 901, 901, 0, 0, 0],
        // Back to before 0 is far in the future.
        [ALL1, -101n, -101n, 0, 0, 0],
      ]) {
        refusesSet(vcpu, runstate(5, values), INVAL);
      }
      expect(set(vcpu, runstate(5, [ALL1, 0, -30n, 10, 20, 0]))).toBe(0);
      expect([8, 16, 24, 32, 40, 48].map((at) => value(vcpu, 4, at))).toEqual([2n, 100n, 70n, 10n, 20n, 0n]);
      expect(set(vcpu, runstate(5, [3, -100n, -70n, -10n, -20n, 0]))).toBe(0);
      expect(value(vcpu, 3)).toBe(3n);
      expect(get(vcpu, 5)).toEqual({ result: INVAL, bytes: attr(5, [], 0xa5) });
    });

    test('KX-CAP-18 runstate without scheduler statistics: EOPNOTSUPP before anything else is looked at', () => {
      const vcpu = make({ schedInfo: false }).vcpu(0);
      for (const bytes of [
        address(2, 0x5000),
        address(2, ALL1),
        address(2, ALL1 - 1n),
        runstate(3, [0]),
        runstate(3, [4]),
        runstate(4, [ALL1, 1, 0, 0, 0, 0]),
        runstate(5, [4, 1, 0, 0, 0, 0]),
      ]) {
        refusesSet(vcpu, bytes, OPNOTSUPP);
      }
      for (const type of [2, 3, 4]) expect(get(vcpu, type)).toEqual({ result: OPNOTSUPP, bytes: attr(type, [], 0xa5) });
      expect(get(vcpu, 5).result).toBe(INVAL);
    });

    test('KX-VCA-11 VCPU_ID: 0..1023; the index until it is set', () => {
      const vcpu = make().vcpu(1);
      expect(word(vcpu, 6)).toBe(1);
      for (const id of [1024, 4095, 4096, 0x8000_0000, 0xffff_ffff]) refusesSet(vcpu, attr(6, [[8, u32(id)]]), INVAL);
      for (const id of [0, 1023, 5]) {
        expect(set(vcpu, attr(6, [[8, u32(id)]]))).toBe(0);
        expect(word(vcpu, 6)).toBe(id);
      }
    });

    test('KX-VCA-12 KX-TMR-02 KX-TMR-25 S-07 TIMER: the priority of a port is 2LEVEL; port 0 is not asked', () => {
      const clock = new VirtualClock(1000n);
      const vcpu = make({ clock }).vcpu(0);
      const read = (): bigint[] => [BigInt(word(vcpu, 7)), value(vcpu, 7) >> 32n, value(vcpu, 7, 16)];
      expect(read()).toEqual([0n, 0xffff_ffffn, 0n]);
      for (const priority of [0, 1, 0x7fff_ffff, 0xffff_fffe]) {
        refusesSet(vcpu, timer(13, priority, 0), INVAL);
        refusesSet(vcpu, timer(13, priority, 2n ** 40n), INVAL);
      }
      expect(set(vcpu, timer(13, 0xffff_ffff, 2n ** 40n))).toBe(0);
      expect(read()).toEqual([13n, 0xffff_ffffn, 2n ** 40n]);
      // No range of ports.
      expect(set(vcpu, timer(0xffff_ffff, 0xffff_ffff, 0))).toBe(0);
      expect(read()).toEqual([0xffff_ffffn, 0xffff_ffffn, 0n]);
      for (const priority of [0, 7, 0xffff_ffff]) expect(set(vcpu, timer(0, priority, 2n ** 40n))).toBe(0);
      expect(read()).toEqual([0n, 0xffff_ffffn, 0n]);
    });

    test('KX-TMR-02 S-37 TIMER that is not in the future: raised at once', () => {
      const clock = new VirtualClock();
      const vm = make({ clock });
      clock.advance(1000n);
      expect(set(vm.vcpu(0), timer(13, 0xffff_ffff, 999))).toBe(0);
      expect(fields(vm).getUint16(SHARED_INFO_GPA + 0x800, true)).toBe(1 << 13);
      expect(value(vm.vcpu(0), 7, 16)).toBe(0n);
    });

    test('KX-VCA-13 UPCALL_VECTOR: 1..15 refused, all others stored, each vCPU its own', () => {
      const vm = make();
      for (let vector = 0; vector < 256; vector++) {
        const bytes = attr(8, [[8, u8(vector)]]);
        if (vector >= 1 && vector < 16) refusesSet(vm.vcpu(1), bytes, INVAL);
        else {
          expect(set(vm.vcpu(1), bytes)).toBe(0);
          expect(byte(vm.vcpu(1), 8)).toBe(vector);
        }
      }
      expect([byte(vm.vcpu(0), 8), byte(vm, 2)]).toEqual([0, 0]);
    });

    test('KX-CAP-18 other types: ENOENT', () => {
      const vcpu = make().vcpu(0);
      for (const type of [10, 11, 255, 256, 0xffff]) {
        refusesSet(vcpu, attr(type, [], 0xff), NOENT);
        expect(get(vcpu, type).result).toBe(NOENT);
      }
    });
  });
});

test('a SET while its page is being changed: EAGAIN, and the GET says the address, also one that no number holds', () => {
  const vm = makeVm();
  const far = 2n ** 60n + 0x3040n;
  vm.invalidateStart(vm.guestBase, vm.guestBase + 4095);
  expect(set(vm.vcpu(0), address(0, far))).toBe(-11);
  expect(value(vm.vcpu(0), 0)).toBe(far);
  expect(set(vm, address(1, 2n ** 50n))).toBe(-11);
  expect(value(vm, 1)).toBe(2n ** 50n);
  vm.invalidateEnd();
  expect(vm.send(5)).toBe(FAULT);
});

test('a SET inside a bracket: EBUSY, and the address is the old one', () => {
  const vm = makeVm();
  vm.enter();
  refusesSet(vm.vcpu(0), address(0, 2n ** 60n), -16);
  refusesSet(vm, address(1, 2n ** 50n), -16);
  vm.leave();
  expect(value(vm.vcpu(0), 0)).toBe(BigInt(vcpuInfoGpa(0)));
  expect(value(vm, 1)).toBe(BigInt(SHARED_INFO_GFN));
});

test('KX-ABI-46 the structure of a SET is only read', () => {
  const vm = makeVm();
  const bytes = attr(2, [[8, [0x20]]], 0xa5);
  const copy = bytes.slice();
  expect(vm.ioctl(HVM_SET_ATTR, bytes)).toBe(0);
  expect(bytes).toEqual(copy);
});
