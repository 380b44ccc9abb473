// The surface of a domain: who may call, how arguments come and results go, what is not known. [XE-OP-01..03, XE-BT-01, XE-BT-02]

import { describe, expect, test } from 'vitest';
import { attachVm, FlatCpu, type XenGuestCpu } from '../../src/index.ts';
import { createXen } from '../../src/xen/index.ts';
import { errorOf } from '../support.ts';
import {
  ARGUMENT,
  answer,
  CALLERS,
  call,
  END,
  expectUntouched,
  type Field,
  load,
  makeCaller,
  makeGuest,
  put,
  RIP,
  SELF,
  u16,
  u32,
} from './caller.ts';

const EVTCHN = 32;
const EFAULT = -14;
const EINVAL = -22;
const ENOSYS = -38;
const EPERM = -1;

/** Every operation of event_channel_op: its number, the size of its structure, and whether it is written back. */
const OPERATIONS = [
  { op: 'bind_interdomain', number: 0, size: 12, out: true },
  { op: 'bind_virq', number: 1, size: 12, out: true },
  { op: 'bind_pirq', number: 2, size: 12, out: true },
  { op: 'close', number: 3, size: 4, out: false },
  { op: 'send', number: 4, size: 4, out: false },
  { op: 'status', number: 5, size: 24, out: true },
  { op: 'alloc_unbound', number: 6, size: 8, out: true },
  { op: 'bind_ipi', number: 7, size: 8, out: true },
  { op: 'bind_vcpu', number: 8, size: 8, out: false },
  { op: 'unmask', number: 9, size: 4, out: false },
  { op: 'reset', number: 10, size: 2, out: false },
  { op: 'init_control', number: 11, size: 24, out: true },
  { op: 'expand_array', number: 12, size: 8, out: false },
  { op: 'set_priority', number: 13, size: 8, out: false },
  { op: 'reset_cont', number: 14, size: 2, out: false },
] as const;

describe.each(CALLERS)('$caller caller, shared memory: $shared', ({ long, shared }) => {
  const make = (more = {}) => makeGuest({ long, shared, pirqs: 32, ...more });

  test('XE-OP-01 XE-BT-01 the number is in RAX, the parameters where the width has them; the result is in RAX, RIP behind', () => {
    const guest = make();
    const at = put(guest, 8, [[0, 4, 0]]);
    load(guest, EVTCHN, [7, at]);
    guest.cpu.rip = RIP;
    expect(guest.domain.hypercall(guest.domain.vm.vcpu(0), guest.cpu)).toEqual({ kind: 'handled', result: 0n });
    expect([guest.cpu.registers.rax, guest.cpu.rip]).toEqual([0n, RIP + 3n]);
    expect(u32(guest, at + 4)).toBe(1);
    expectUntouched(guest, at + 8);
  });

  test('XE-OP-01 KF-59 code without privilege is refused with EPERM, whatever it asks, and nothing happens', () => {
    const guest = make({ hvm: { onHypercall: () => 0 } });
    for (const cpl of [1, 2, 3]) {
      guest.cpu.cpl = cpl;
      for (const number of [EVTCHN, 17, 0, 63, 2 ** 31]) expect(answer(guest, number, [7, ARGUMENT])).toBe(EPERM);
    }
    guest.cpu.cpl = 0;
    expect(guest.domain.evtchn.status({ port: 1 })).toMatchObject({ status: 'closed' });
  });

  test('XE-OP-01 number 16, the form from before Xen 3.2, is not there', () => {
    const guest = make();
    expect(answer(guest, 16, [7, put(guest, 8, [[0, 4, 0]])])).toBe(ENOSYS);
  });

  test('XE-OP-03 an operation, command or hypercall that is not known is ENOSYS; its argument is not read', () => {
    const guest = make();
    for (const number of [EVTCHN, 12, 17, 18, 20, 21, 24, 29, 33, 34]) {
      // vm_assist has its type second, vcpu_op its vCPU.
      const second = number === 21 ? 5 : number === 24 ? 0 : END;
      for (const command of [61, 2 ** 31 - 1]) expect(answer(guest, number, [command, second, END])).toBe(ENOSYS);
    }
    for (const number of [0, 1, 13, 22, 23, 31, 63, 64, 127, 2 ** 31, 2 ** 32 - 1]) {
      expect(answer(guest, number, [0, END])).toBe(ENOSYS);
    }
  });

  test('XE-OP-03 a command is an int: what a 64-bit caller leaves above it does not count', () => {
    const guest = make();
    if (long) expect(answer(guest, 17, [(0xabcdn << 32n) | 0n])).toBe(0x40011);
    expect(answer(guest, 17, [0xffffffff])).toBe(ENOSYS);
  });

  test('what the engine does not do is the embedder’s: it gets the call and gives the result', () => {
    const seen: unknown[] = [];
    const onHypercall = (exit: unknown, _cpu: XenGuestCpu, vcpu: { index: number }): bigint | number | null => {
      seen.push([exit, vcpu.index]);
      return seen.length === 1 ? 0xffff_ffff_ffffn : seen.length === 2 ? -11 : null;
    };
    const guest = make({ hvm: { onHypercall } });
    expect(call(guest, 55, [1, 2, 3])).toEqual({ kind: 'handled', result: 0xffff_ffff_ffffn });
    expect(answer(guest, 29, [99, 0])).toBe(-11);
    expect(answer(guest, 55, [])).toBe(ENOSYS);
    expect(seen[0]).toEqual([{ longMode: long, cpl: 0, input: 55n, params: [1n, 2n, 3n, 0n, 0n, 0n] }, 0]);
  });

  test('a result of the embedder’s that is no integer is its fault: nothing of the guest has changed', () => {
    const guest = make({ hvm: { onHypercall: () => 0.5 } });
    load(guest, 55, []);
    const before = { ...guest.cpu.registers };
    expect(errorOf(() => guest.domain.hypercall(0, guest.cpu)).code).toBe('EINVAL');
    expect(guest.cpu.registers).toEqual(before);
  });

  test('a processor that cannot write to the guest is refused before anything happens', () => {
    const guest = make();
    load(guest, EVTCHN, [7, put(guest, 8, [[0, 4, 0]])]);
    const { readVirtual, longMode, lma, cpl, rip, instructionLength, registers } = guest.cpu;
    const bad = { readVirtual, longMode, lma, cpl, rip, instructionLength, registers } as unknown as XenGuestCpu;
    expect(errorOf(() => guest.domain.hypercall(0, bad)).message).toContain('writeVirtual');
    expect(guest.domain.evtchn.status({ port: 1 })).toMatchObject({ status: 'closed' });
  });

  test.each(OPERATIONS)(
    'XE-OP-02 $op: an argument that cannot be read whole is EFAULT, up to its last byte',
    ({ number, size }) => {
      const guest = make();
      for (const at of [END, END - size + 1, END - 1, 2 ** 32 - 1])
        expect(answer(guest, EVTCHN, [number, at])).toBe(EFAULT);
      const structure: Field[] = Array.from({ length: size }, (_, i) => [i, 1, 0] as const);
      expect(answer(guest, EVTCHN, [number, put(guest, size, structure, ARGUMENT)])).not.toBe(EFAULT);
      // At the very end of RAM, so that one byte more could not be read.
      const at = END - size;
      for (let i = 0; i < size; i++) guest.cpu.writeVirtual(BigInt(at + i), Uint8Array.of(0));
      expect(answer(guest, EVTCHN, [number, at])).not.toBe(EFAULT);
    },
  );

  test('XE-OP-02 an output that cannot be written is EFAULT, and what was done stays done', () => {
    const guest = make();
    const { cpu } = guest;
    cpu.writeVirtual = () => false;
    expect(answer(guest, EVTCHN, [7, put(guest, 8, [[0, 4, 0]])])).toBe(EFAULT);
    expect(guest.domain.evtchn.status({ port: 1 })).toEqual({ status: 'ipi', vcpu: 0 });
  });

  test('XE-OP-02 on failure nothing is written back', () => {
    const guest = make();
    const at = put(guest, 12, [
      [0, 4, 24],
      [4, 4, 0],
    ]);
    expect(answer(guest, EVTCHN, [1, at])).toBe(EINVAL);
    expectUntouched(guest, at + 8, 20);
  });

  test('XE-OP-02 an argument is read once: what is changed meanwhile is not seen', () => {
    const guest = make();
    const { cpu } = guest;
    const at = put(guest, 12, [
      [0, 4, 0],
      [4, 4, 0],
    ]);
    const reads: number[] = [];
    const read = cpu.readVirtual.bind(cpu);
    cpu.readVirtual = (address, length) => {
      reads.push(length);
      return read(address, length);
    };
    expect(answer(guest, EVTCHN, [1, at])).toBe(0);
    expect(reads).toEqual([12]);
  });
});

describe.each(CALLERS)('event_channel_op, $caller caller, shared memory: $shared', ({ long, shared }) => {
  const make = (more = {}) => makeGuest({ long, shared, pirqs: 32, vcpus: 2, ...more });
  const op = (
    guest: ReturnType<typeof make>,
    number: number,
    size: number,
    structure: readonly Field[],
  ): [number, number] => {
    const at = put(guest, size, structure);
    return [answer(guest, EVTCHN, [number, at]), at];
  };

  test('XE-OP-10 XE-OP-20 XE-OP-80 alloc_unbound, bind_interdomain, status of both ends', () => {
    const guest = make();
    const [allocated, a] = op(guest, 6, 8, [
      [0, 2, SELF],
      [2, 2, SELF],
    ]);
    expect([allocated, u32(guest, a + 4)]).toEqual([0, 1]);
    const status = (port: number): number[] => {
      const [result, at] = op(guest, 5, 24, [
        [0, 2, SELF],
        [4, 4, port],
      ]);
      return [result, u32(guest, at + 8), u32(guest, at + 12), u16(guest, at + 16), u32(guest, at + 20)];
    };
    expect(status(1)).toEqual([0, 1, 0, 1, 0xa5a5a5a5]);
    const [bound, b] = op(guest, 0, 12, [
      [0, 2, SELF],
      [4, 4, 1],
    ]);
    expect([bound, u32(guest, b + 8)]).toEqual([0, 2]);
    expect(status(1)).toEqual([0, 2, 0, 1, 2]);
    expect(status(2)).toEqual([0, 2, 0, 1, 1]);
    expect(status(0)).toEqual([0, 0, 0, 0xa5a5, 0xa5a5a5a5]);
    expect(status(5000)[0]).toBe(EINVAL);
  });

  test('XE-OP-30 XE-OP-40 XE-OP-50 XE-OP-80 bind_virq, bind_ipi, bind_pirq, and what status says of them', () => {
    const guest = make();
    expect(
      u32(
        guest,
        op(guest, 1, 12, [
          [0, 4, 1],
          [4, 4, 1],
        ])[1] + 8,
      ),
    ).toBe(1);
    expect(u32(guest, op(guest, 7, 8, [[0, 4, 1]])[1] + 4)).toBe(2);
    expect(
      u32(
        guest,
        op(guest, 2, 12, [
          [0, 4, 17],
          [4, 4, 1],
        ])[1] + 8,
      ),
    ).toBe(3);
    const status = (port: number): number[] => {
      const [, at] = op(guest, 5, 24, [
        [0, 2, SELF],
        [4, 4, port],
      ]);
      return [u32(guest, at + 8), u32(guest, at + 12), u32(guest, at + 16)];
    };
    expect(status(1)).toEqual([4, 1, 1]);
    expect(status(2)).toEqual([5, 1, 0xa5a5a5a5]);
    expect(status(3)).toEqual([3, 0, 17]);
  });

  test('XE-OP-60 XE-OP-70 XE-OP-90 XE-OP-100 XE-OP-110 send, bind_vcpu, unmask, close, reset', () => {
    const guest = make();
    const { domain } = guest;
    op(guest, 7, 8, [[0, 4, 0]]);
    op(guest, 6, 8, [
      [0, 2, SELF],
      [2, 2, 0],
    ]);
    expect(op(guest, 4, 4, [[0, 4, 1]])[0]).toBe(0);
    expect(domain.vm.vcpu(0).upcallPending).toBe(true);
    expect(op(guest, 4, 4, [[0, 4, 77]])[0]).toBe(EINVAL);
    expect(
      op(guest, 8, 8, [
        [0, 4, 2],
        [4, 4, 1],
      ])[0],
    ).toBe(0);
    expect(domain.evtchn.status({ port: 2 })).toMatchObject({ vcpu: 1 });
    expect(
      op(guest, 8, 8, [
        [0, 4, 2],
        [4, 4, 2],
      ])[0],
    ).toBe(-2);
    domain.vm.mask(2);
    expect(op(guest, 9, 4, [[0, 4, 2]])[0]).toBe(0);
    expect(op(guest, 9, 4, [[0, 4, 9999]])[0]).toBe(EINVAL);
    expect(op(guest, 3, 4, [[0, 4, 2]])[0]).toBe(0);
    expect(op(guest, 3, 4, [[0, 4, 2]])[0]).toBe(EINVAL);
    expect(op(guest, 10, 2, [[0, 2, SELF]])[0]).toBe(0);
    expect(domain.evtchn.status({ port: 1 })).toMatchObject({ status: 'closed' });
    expect(op(guest, 14, 2, [[0, 2, SELF]])[0]).toBe(-16);
  });

  test('XE-OP-127 a domain without the FIFO ABI says that it is not supported', () => {
    const guest = make({ fifo: false });
    expect(
      op(guest, 11, 24, [
        [0, 8, 6],
        [8, 4, 0],
        [12, 4, 0],
      ])[0],
    ).toBe(-95);
  });
});

describe('another thread', () => {
  test('XE-OP-02 what changes the configuration is the owner’s: it exits with nothing done, and the owner does it', () => {
    const guest = makeGuest({ shared: true });
    const xen = createXen({ clock: guest.clock });
    const other = xen.attachDomain(guest.domain.vm.handle(), { clock: guest.clock });
    const cpu = new FlatCpu(other.vm, { rip: RIP });
    const there = { ...guest, domain: other, cpu };
    const at = put(guest, 8, [[0, 4, 0]]);
    const result = call(there, EVTCHN, [7, at]);
    expect(result).toMatchObject({ kind: 'exit', exit: { input: 32n } });
    expect(cpu.rip).toBe(RIP);
    expect(guest.domain.evtchn.status({ port: 1 })).toMatchObject({ status: 'closed' });
    // The owner, with a processor that stands for the other one.
    expect(guest.domain.hypercall(0, cpu)).toEqual({ kind: 'handled', result: 0n });
    expect([cpu.rip, cpu.registers.rax]).toEqual([RIP + 3n, 0n]);
    expect(guest.domain.evtchn.status({ port: 1 })).toMatchObject({ status: 'ipi' });
    // Sends, status and timers need nobody.
    expect(answer(there, EVTCHN, [4, put(guest, 4, [[0, 4, 1]])])).toBe(0);
    expect(guest.domain.vm.vcpu(0).upcallPending).toBe(true);
    expect(
      answer(there, EVTCHN, [
        5,
        put(guest, 24, [
          [0, 2, SELF],
          [4, 4, 1],
        ]),
      ]),
    ).toBe(0);
    expect(answer(there, 15, [0])).toBe(0);
    for (const [number, params] of [
      [12, [7, at]],
      [34, [0, at]],
      [24, [10, 0, at]],
      [24, [5, 0, at]],
      [21, [0, 5]],
    ] as const) {
      expect(call(there, number, params).kind).toBe('exit');
    }
    other.vm.detach();
    expect(errorOf(() => call(there, EVTCHN, [4, at])).code).toBe('EBADF');
  });

  test('XE-OP-70 a send to code on the host, or to a domain that is not attached there, is the owner’s as well', () => {
    const guest = makeGuest({ shared: true });
    let events = 0;
    const { port } = guest.xen.host.bindUnbound(guest.domain.domid, () => events++);
    const other = createXen({ clock: guest.clock }).attachDomain(guest.domain.vm.handle(), { clock: guest.clock });
    const cpu = new FlatCpu(other.vm, { rip: RIP });
    const there = { ...guest, domain: other, cpu };
    const result = call(there, EVTCHN, [4, put(guest, 4, [[0, 4, port]])]);
    expect([result.kind, events]).toEqual(['exit', 0]);
    expect(guest.domain.hypercall(0, cpu)).toEqual({ kind: 'handled', result: 0n });
    expect(events).toBe(1);
  });

  test('XE-BT-02 a call on a VM that is closed throws', () => {
    const guest = makeCaller();
    guest.domain.destroy();
    expect(errorOf(() => call(guest, 17, [0])).code).toBe('EBADF');
    expect(() => attachVm(guest.domain.vm.handle())).toThrow();
  });
});
