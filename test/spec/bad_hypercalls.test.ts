// Every hypercall with every argument at its limits, called in both ways in both layouts: what the guest gets, and that a call which
// fails, or is the embedder's, leaves the whole VM as it was.

import { describe, expect, test } from 'vitest';
import { VCPU_HYPERCALL_RIP, VCPU_MODE } from '../../src/abi/region.ts';
import type { GuestRegisters } from '../../src/index.ts';
import { errorOf, fields, LAYOUTS, pendingBit } from '../support.ts';
import { EDGES, expectSame, numbers } from './bad_input.ts';
import { cast, stateBytes } from './evidence.ts';
import {
  ARGUMENT,
  argument32,
  CALLERS,
  END,
  type Guest,
  load,
  loopback,
  makeGuest,
  PORT_LIST,
  pollStructure,
  RIP,
} from './guest.ts';
import { assign, NO_VCPU, toEventfd } from './ports.ts';
import { STRANGE, show } from './values.ts';

const EFAULT = -14;
const EINVAL = -22;

/** What a call leads to: the guest's result, the embedder, or a sleep. */
type Outcome = number | 'exit' | 'blocked';

interface Call {
  readonly what: string;
  readonly params: readonly (number | bigint)[];
  readonly outcome: Outcome;
  /** puts the arguments that pointers lead to, and what the call needs */
  arrange?(guest: Guest): void;
}

const SET_TIMER_OP = 15;
const XEN_VERSION = 17;
const VCPU_OP = 24;
const SCHED_OP = 29;
const EVENT_CHANNEL_OP = 32;
const HANDLED = [SET_TIMER_OP, XEN_VERSION, VCPU_OP, SCHED_OP, EVENT_CHANNEL_OP];
const TIMER_PORT = 5;
/** Ports that are rung: the first and the last of the layout, one whose vCPU there is not, and one that counts. */
const GHOST = 40;
const COUNTER = 41;

const WIDE = [...EDGES.map(BigInt).filter((edge) => edge < 2n ** 64n), 2n ** 63n - 1n, 2n ** 64n - 1n];

for (const { caller, long } of CALLERS) {
  describe.each(LAYOUTS)(`a ${caller} caller, $layout layout`, ({ longMode, maxPorts }) => {
    const make = (): Guest => {
      const guest = makeGuest({ longMode, long, shared: false, eventfds: 1, agents: 1 });
      const { vm } = guest;
      vm.setAttr({ type: 'xen_version', version: 0x40011 });
      vm.vcpu(0).setAttr({ type: 'timer', port: TIMER_PORT, expires: 0n });
      loopback(guest, 1, maxPorts - 1);
      loopback(guest, maxPorts - 1, 1);
      loopback(guest, GHOST, 7, NO_VCPU);
      assign(vm, toEventfd(COUNTER, vm.eventfds.create().fd));
      return guest;
    };
    /** A value as this caller's registers hold it. */
    const seen = (value: bigint): bigint => (long ? value : BigInt.asUintN(32, value));
    const asInt = (value: bigint): number => Number(BigInt.asIntN(32, value));

    /** Pointers to `size` bytes that cannot be read: at and over the end of RAM, and where no RAM can be. */
    const unreadable = (size: number): bigint[] =>
      [
        BigInt(END - size + 1),
        BigInt(END - 1),
        ...[END, ...EDGES.slice(2)].map(BigInt),
        2n ** 63n - 1n,
        2n ** 64n - 1n,
      ].filter((at, i, all) => at < 2n ** 64n && seen(at) + BigInt(size) > BigInt(END) && all.indexOf(at) === i);

    /** Makes the call from a fresh guest; unless it is done, all stays as it was. */
    const tryCall = (number: bigint, { what, params, outcome, arrange }: Call): void => {
      const guest = make();
      arrange?.(guest);
      load(guest, seen(number), ...params.map((param) => seen(BigInt(param))));
      const { vm, vcpu, cpu } = guest;
      const registers = { ...cpu.registers };
      const before = stateBytes(vm);
      const result = vcpu.hypercall(cpu);
      const name = `${number}: ${what}`;
      expect(result.kind === 'handled' ? Number(BigInt.asIntN(64, result.result)) : result.kind, name).toBe(outcome);
      if (outcome === 'exit') expect([cpu.registers, cpu.rip], name).toEqual([registers, RIP]);
      else
        expect([cpu.registers.rax, cpu.rip], name).toEqual([
          BigInt.asUintN(64, outcome === 'blocked' ? 0n : BigInt(outcome)),
          RIP + 3n,
        ]);
      // What waits for the embedder's answer is remembered. [KX-HCL-14]
      const exit = [
        [vcpu.record + VCPU_MODE, 4],
        [vcpu.record + VCPU_HYPERCALL_RIP, 8],
      ] as const;
      if (outcome === 'exit') expectSame(before, stateBytes(vm), name, exit);
      if (typeof outcome === 'number' && outcome < 0) expectSame(before, stateBytes(vm), name);
    };
    const tryAll = (number: number, calls: readonly Call[]): void => {
      for (const call of calls) tryCall(BigInt(number), call);
    };

    test('KX-HCL-20 KX-HCL-24 every other number is the embedder’s', () => {
      const others = [...Array.from({ length: 64 }, (_, i) => BigInt(i)), ...WIDE];
      for (const number of others.filter((n) => !HANDLED.includes(Number(seen(n))))) {
        tryCall(number, { what: 'no such hypercall', params: [0, 0, 0, 0, 0, 0], outcome: 'exit' });
        tryCall(number, { what: 'no such hypercall', params: Array(6).fill(2n ** 64n - 1n), outcome: 'exit' });
      }
    });

    test('KX-HCL-20 xen_version: every command', () => {
      tryAll(
        XEN_VERSION,
        [...new Set([...numbersOf(12), ...WIDE])].map((command) => ({
          what: `command ${command}`,
          params: [command, 2n ** 64n - 1n],
          outcome: seen(command) === 0n ? 0x40011 : 'exit',
        })),
      );
    });

    test('KX-HCL-40 event_channel_op: every command', () => {
      tryAll(
        EVENT_CHANNEL_OP,
        [...new Set([...numbersOf(16), ...WIDE, 2n ** 32n + 4n])].map((command) => ({
          what: `command ${command}`,
          params: [command, ARGUMENT],
          outcome: seen(command) === 4n ? 0 : 'exit',
          arrange: (guest) => argument32(guest, 1),
        })),
      );
    });

    test('KX-HCL-40 KX-HCL-41 KX-HCL-42 EVTCHNOP_send: every port', () => {
      const last = maxPorts - 1;
      const there = [1, last, COUNTER];
      const ports = [...numbers(1, last, GHOST, COUNTER, 4095)].filter(
        (port) => Number.isInteger(port) && (port as number) >= 0 && (port as number) < 2 ** 32,
      ) as number[];
      tryAll(
        EVENT_CHANNEL_OP,
        ports.map((port) => ({
          what: `port ${port}`,
          params: [4, ARGUMENT],
          outcome: there.includes(port) ? 0 : 'exit',
          arrange: (guest) => argument32(guest, port),
        })),
      );
      const guest = make();
      for (const port of there) {
        argument32(guest, port);
        load(guest, BigInt(EVENT_CHANNEL_OP), 4n, BigInt(ARGUMENT));
        guest.vcpu.hypercall(guest.cpu);
      }
      expect([pendingBit(guest.vm, 1), pendingBit(guest.vm, last), pendingBit(guest.vm, GHOST)]).toEqual([
        true,
        true,
        false,
      ]);
      expect(guest.vm.eventfds.list()[0]?.counter).toBe(1n);
    });

    test('KX-HCL-41 KX-HCL-30 KX-HCL-51 arguments that cannot be read', () => {
      const bad = (size: number, params: (at: bigint) => readonly (number | bigint)[]): Call[] =>
        unreadable(size).map((at) => ({ what: `argument at ${at}`, params: params(at), outcome: EFAULT }));
      tryAll(
        EVENT_CHANNEL_OP,
        bad(4, (at) => [4, at]),
      );
      tryAll(
        SCHED_OP,
        bad(long ? 24 : 16, (at) => [3, at]),
      );
      tryAll(
        VCPU_OP,
        bad(long ? 16 : 12, (at) => [8, 0, at]),
      );
    });

    test('KX-HCL-41 KX-HCL-30 KX-HCL-51 arguments at the very end of what can be read', () => {
      const arrange = (guest: Guest): void => void fields(guest.vm).setUint32(END - 4, 1, true);
      tryAll(EVENT_CHANNEL_OP, [{ what: 'at the end', params: [4, END - 4], outcome: 0, arrange }]);
      tryAll(VCPU_OP, [{ what: 'at the end', params: [8, 0, END - (long ? 16 : 12)], outcome: 0 }]);
      const at = END - (long ? 24 : 16);
      tryAll(SCHED_OP, [
        {
          what: 'at the end',
          params: [3, at],
          outcome: 'blocked',
          arrange: (guest) => void pollStructure(guest, 0, 0, 1n, at),
        },
      ]);
    });

    test('KX-HCL-22 sched_op: every command, an int', () => {
      tryAll(
        SCHED_OP,
        [...new Set([...numbersOf(8), ...WIDE])].map((command) => {
          const is = asInt(command);
          return {
            what: `command ${command}`,
            params: [command, ARGUMENT],
            outcome: is === 0 ? 0 : is === 3 ? 'blocked' : 'exit',
            arrange: (guest: Guest) => void pollStructure(guest, 0, 0, 1n),
          } as const;
        }),
      );
    });

    test('KX-HCL-32 SCHEDOP_poll: how many ports', () => {
      const counts = [0, 1, 2, 127, 128, 129, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1];
      tryAll(
        SCHED_OP,
        counts.map((count) => ({
          what: `${count} ports`,
          params: [3, ARGUMENT],
          outcome: count > 128 ? EINVAL : 'blocked',
          arrange: (guest) => {
            for (let i = 0; i < 128; i++) fields(guest.vm).setUint32(PORT_LIST + 4 * i, 1 + i, true);
            pollStructure(guest, PORT_LIST, count, 1n);
          },
        })),
      );
    });

    test('KX-HCL-32 SCHEDOP_poll: every port, first and last in a list', () => {
      const ports = [0, 1, maxPorts - 1, maxPorts, 4095, 4096, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1];
      for (const [count, place] of [
        [1, 0],
        [128, 127],
      ] as const) {
        tryAll(
          SCHED_OP,
          ports.map((port) => ({
            what: `port ${port} at ${place} of ${count}`,
            params: [3, ARGUMENT],
            outcome: port < maxPorts ? 'blocked' : EINVAL,
            arrange: (guest) => {
              for (let i = 0; i < count; i++)
                fields(guest.vm).setUint32(PORT_LIST + 4 * i, i === place ? port : 1, true);
              pollStructure(guest, PORT_LIST, count, 1n);
            },
          })),
        );
      }
    });

    test('KX-HCL-32 SCHEDOP_poll: a list that cannot be read, unless it is empty', () => {
      for (const count of [0, 1, 128]) {
        const pointers = unreadable(4 * Math.max(count, 1)).filter((at) => at < 2n ** 53n || !long);
        tryAll(
          SCHED_OP,
          pointers.map((at) => ({
            what: `${count} ports at ${at}`,
            params: [3, ARGUMENT],
            outcome: count === 0 ? 'blocked' : EFAULT,
            arrange: (guest) => void pollStructure(guest, Number(seen(at)), count, 1n),
          })),
        );
      }
    });

    test('KX-HCL-50 vcpu_op: every command, an int', () => {
      tryAll(
        VCPU_OP,
        [...new Set([...numbersOf(16), ...WIDE])].map((command) => ({
          what: `command ${command}`,
          params: [command, 0, ARGUMENT],
          outcome: asInt(command) === 8 || asInt(command) === 9 ? 0 : 'exit',
        })),
      );
    });

    test('KX-HCL-51 vcpu_op: every id but its own, an int', () => {
      for (const command of [8, 9]) {
        tryAll(
          VCPU_OP,
          WIDE.map((id) => ({
            what: `command ${command}, vCPU ${id}`,
            params: [command, id, ARGUMENT],
            outcome: asInt(id) === 0 ? 0 : EINVAL,
          })),
        );
      }
    });

    test('KX-HCL-51 KX-HCL-52 every expiry is taken', () => {
      tryAll(
        VCPU_OP,
        WIDE.map((expires) => ({
          what: `expires ${expires}`,
          params: [8, 0, ARGUMENT],
          outcome: 0,
          arrange: (guest) => fields(guest.vm).setBigUint64(ARGUMENT, expires, true),
        })),
      );
      for (const expires of WIDE) {
        const params = long ? [expires] : [expires & 0xffffffffn, expires >> 32n];
        tryAll(SET_TIMER_OP, [{ what: `expires ${expires}`, params, outcome: 0 }]);
      }
    });

    test('KX-HCL-53 KX-HCL-20 without a timer port or a version the calls are the embedder’s', () => {
      const arrange = ({ vm }: Guest): void => {
        vm.vcpu(0).setAttr({ type: 'timer', port: 0, expires: 0n });
        vm.setAttr({ type: 'xen_version', version: 0 });
      };
      const left = { what: 'not handled', outcome: 'exit', arrange } as const;
      for (const edge of WIDE) {
        tryAll(SET_TIMER_OP, [{ ...left, params: [edge, edge] }]);
        tryAll(
          VCPU_OP,
          [8, 9, edge].map((command) => ({ ...left, params: [command, edge, edge] })),
        );
        tryAll(XEN_VERSION, [{ ...left, params: [0, edge] }]);
      }
    });

    test('KX-HCL-12 from every other privilege level every call is the embedder’s', () => {
      for (const cpl of [1, 2, 3]) {
        for (const number of HANDLED) {
          const arrange = ({ cpu }: Guest): void => {
            cpu.cpl = cpl;
          };
          tryAll(number, [{ what: `level ${cpl}`, params: [0, ARGUMENT, ARGUMENT], outcome: 'exit', arrange }]);
        }
      }
    });

    // ── what the embedder gets wrong ───────────────────────────────────────────────────────────────────────────────

    const refused = (
      break_: (guest: Guest) => void,
      call = (guest: Guest): unknown => guest.vcpu.hypercall(guest.cpu),
    ) => {
      const guest = make();
      load(guest, BigInt(SCHED_OP), 0n);
      break_(guest);
      const before = stateBytes(guest.vm);
      const error = errorOf(() => call(guest));
      expect(error.code).toBe('EINVAL');
      expectSame(before, stateBytes(guest.vm), error.message);
      return error;
    };

    test('KX-HCL-11 registers, RIP, instruction length and privilege level that are none', () => {
      const strange = [...STRANGE, 0, 5, 2n ** 64n, -1n];
      const names = long
        ? ['rax', 'rdi', 'rsi', 'rdx', 'r10', 'r8', 'r9']
        : ['rax', 'rbx', 'rcx', 'rdx', 'rsi', 'rdi', 'rbp'];
      for (const value of strange) {
        for (const name of names) {
          const error = refused(({ cpu }) => {
            cpu.registers[name as keyof GuestRegisters] = cast(value);
          });
          expect(error.message).toContain(`${name} is ${String(value)}`);
        }
        expect(
          refused(({ cpu }) => {
            cpu.rip = cast(value);
          }).message,
        ).toContain(String(value));
      }
      for (const cpl of [-1, 4, 2 ** 31, 2 ** 32, ...STRANGE]) {
        expect(
          refused(({ cpu }) => {
            cpu.cpl = cast(cpl);
          }).message,
          show(cpl),
        ).toContain('integers from 0 to 3');
      }
      for (const length of [-1, 16, 2 ** 31, ...STRANGE]) {
        expect(
          refused(({ cpu }) => {
            cpu.instructionLength = cast(length);
          }).message,
          show(length),
        ).toContain('from 0 to 15');
      }
    });

    test('KX-HCL-14 results that are no u64, and one that nobody waits for', () => {
      for (const result of [...STRANGE, 0, -1n, 2n ** 64n]) {
        const wait = ({ vcpu, cpu }: Guest): void => {
          cpu.registers.rax = 99n;
          vcpu.hypercall(cpu);
        };
        const error = refused(wait, ({ vcpu, cpu }) => vcpu.completeHypercall(cpu, cast(result)));
        expect(error.message).toContain(String(result));
      }
      refused(
        () => {},
        ({ vcpu, cpu }) => vcpu.completeHypercall(cpu, 0n),
      );
      for (const result of [0n, 1n, 2n ** 63n, 2n ** 64n - 1n]) {
        const { vcpu, cpu } = make();
        cpu.registers.rax = 99n;
        vcpu.hypercall(cpu);
        expect(vcpu.completeHypercall(cpu, result)).toBe(true);
        expect(cpu.registers.rax).toBe(result);
      }
    });
  });
}

/** 0..n-1. */
function numbersOf(n: number): bigint[] {
  return Array.from({ length: n }, (_, i) => BigInt(i));
}
