// The v86 adapter, by guests of a few instructions: CPUID, hypercalls, upcalls, time, saving. No Linux, nothing fetched.

import { afterEach, describe, expect, test } from 'vitest';
import { createXen } from '../../src/xen/index.ts';
import { errorOf } from '../support.ts';
import { code, fields, type TinyCode, TinyGuest, type TinyOptions, toUser, VECTOR } from './tiny_guest.ts';

const XEN_VERSION = 17;
const MEMORY_OP = 12;
const VCPU_OP = 24;
const EVENT_CHANNEL_OP = 32;
const HVM_OP = 34;

const EPERM = 1;
const EFAULT = 14;
const ENOSYS = 38;

const SELF = 0x7ff0;

/** Where guests leave what they have found. */
const OUT = 0x1000;
const COUNT = 0x1100;
const ARGS = 0x2000;
/** shared_info is put at this frame. */
const SHARED_FRAME = 0x10;
const SHARED_INFO = SHARED_FRAME * 4096;

const made: TinyGuest[] = [];
afterEach(async () => {
  for (const guest of made.splice(0)) await guest.destroy();
});

async function guestOf(tiny: TinyCode, options?: TinyOptions): Promise<TinyGuest> {
  const guest = await TinyGuest.make(tiny, options);
  made.push(guest);
  return guest;
}

/** shared_info placed, and VECTOR as the callback. */
const setUp = [...code.hypercall(MEMORY_OP, [7, ARGS], OUT), ...code.hypercall(HVM_OP, [0, ARGS + 0x20], OUT + 4)];
const setUpArguments = {
  // domid and space 0, index 0, frame
  [ARGS]: fields(SELF, 0, 0, SHARED_FRAME),
  // domid, parameter 0, value: type 2, vector
  [ARGS + 0x20]: fields(SELF, 0, VECTOR, 0x0200_0000),
};
/** What a guest does in an upcall: counts it, and clears the byte that has asked for it, then the selector. */
const handler = [
  ...code.increment(COUNT),
  ...code.storeByte(SHARED_INFO, 0),
  ...code.storeWord(SHARED_INFO + 4, 0),
  ...code.iret,
];

describe('CPUID', () => {
  test('XE-BT-04 the leaves of Xen, and no others, are the engine’s', async () => {
    const leaf = (number: number, at: number): number[] => [
      ...code.set('eax', number),
      ...code.set('ecx', 0),
      ...code.cpuid,
      ...(['eax', 'ebx', 'ecx', 'edx'] as const).flatMap((r, i) => code.store(at + 4 * i, r)),
    ];
    const guest = await guestOf({
      main: [...leaf(0x40000000, OUT), ...leaf(0x40000001, OUT + 16), ...leaf(1, OUT + 32), ...code.idle],
    });
    await guest.untilHalted();
    expect(guest.word(OUT)).toBeGreaterThanOrEqual(0x40000002);
    expect([4, 8, 12].map((at) => guest.word(OUT + at))).toEqual([0x566e6558, 0x65584d4d, 0x4d4d566e]);
    expect(guest.word(OUT + 16)).toBe((4 << 16) | 17);
    // v86's own: a hypervisor is there.
    expect(guest.word(OUT + 32 + 8) >>> 31).toBe(1);
  });
});

describe('hypercalls', () => {
  test('XE-BT-01, XE-BT-02 VMCALL and VMMCALL are answered in eax, and the guest goes on behind them', async () => {
    const seen: unknown[] = [];
    const guest = await guestOf(
      {
        main: [
          ...code.hypercall(XEN_VERSION, [0], OUT),
          ...code.set('eax', XEN_VERSION),
          ...code.set('ebx', 0),
          ...code.vmmcall,
          ...code.store(OUT + 4, 'eax'),
          ...code.idle,
        ],
      },
      { observer: { hypercall: (number, params, result) => seen.push([number, params[0], result]) } },
    );
    await guest.untilHalted();
    expect([guest.word(OUT), guest.word(OUT + 4)]).toEqual([0x40011, 0x40011]);
    expect(seen).toEqual([
      [XEN_VERSION, 0, 0x40011],
      [XEN_VERSION, 0, 0x40011],
    ]);
  });

  test('XE-OP-03 one that nobody knows is -ENOSYS', async () => {
    const guest = await guestOf({ main: [...code.hypercall(55, [], OUT), ...code.idle] });
    await guest.untilHalted();
    expect(guest.word(OUT) | 0).toBe(-ENOSYS);
  });

  test('XE-OP-01 one of privilege level 3 is -EPERM', async () => {
    const guest = await guestOf({
      main: [...toUser],
      // Its own data segment first: that of the kernel was taken away.
      user: [0x66, 0xb8, 0x23, 0x00, 0x8e, 0xd8, ...code.hypercall(XEN_VERSION, [0], OUT), 0xeb, 0xfe],
    });
    await guest.until(() => guest.word(OUT) !== 0);
    expect(guest.word(OUT) | 0).toBe(-EPERM);
  });

  test('XE-BT-03 the page of stubs is written by its MSR, and is code at once', async () => {
    const page = 0x20000;
    const stub = page + 32 * XEN_VERSION;
    const main = [
      // Other code before, often enough for v86 to compile it.
      ...code.repeat(2_000_000, code.call(stub)),
      ...code.set('ecx', 0x40000000),
      ...code.set('eax', page),
      ...code.set('edx', 0),
      ...code.wrmsr,
      ...code.set('ebx', 0),
      ...code.call(stub),
      ...code.store(OUT, 'eax'),
      ...code.idle,
    ];
    const guest = await guestOf({ main }, { ram: { [stub]: [0xb8, 1, 0, 0, 0, 0xc3] } });
    await guest.untilHalted();
    expect(guest.word(OUT)).toBe(0x40011);
  });

  test('XE-OP-02 arguments are read and written through the guest’s page tables; what is not mapped is -EFAULT', async () => {
    // 4 MB pages: the first where it is, the fourth at physical 0 as well, the fifth read-only, the sixth absent.
    const [mapped, readOnly, absent] = [3 << 22, 4 << 22, 5 << 22];
    const directory = 0x30000;
    const alloc = (at: number, out: number): number[] => code.hypercall(EVENT_CHANNEL_OP, [6, at + ARGS], out);
    const guest = await guestOf(
      {
        main: [
          ...code.paging(directory, 1 << 4),
          ...alloc(mapped, OUT),
          ...alloc(readOnly, OUT + 4),
          ...alloc(absent, OUT + 8),
          ...code.idle,
        ],
      },
      { ram: { [directory]: fields(0x83, 0, 0, 0x83, 0x81, 0), [ARGS]: fields(SELF | (0 << 16), 0) } },
    );
    await guest.untilHalted();
    expect([OUT, OUT + 4, OUT + 8].map((at) => guest.word(at) | 0)).toEqual([0, -EFAULT, -EFAULT]);
    // The first has got a port.
    expect(guest.word(ARGS + 4)).toBe(1);
    // Both were read, and the first of them was written.
    expect([3, 4].map((i) => guest.word(directory + 4 * i) & 0x60)).toEqual([0x60, 0x20]);
  });
});

describe('upcalls', () => {
  test('XE-CB-03 a guest that halts is woken by its vector, once for one event', async () => {
    const guest = await guestOf({ main: [...setUp, ...code.sti, ...code.idle], handler }, { ram: setUpArguments });
    await guest.untilHalted();
    expect([guest.word(OUT), guest.word(OUT + 4)]).toEqual([0, 0]);
    // A structure that is placed may ask for one upcall by itself.
    const before = guest.word(COUNT);
    const { xen, domid } = guest.machine.domain;
    const channel = xen.host.bindUnbound(domid, () => {});
    channel.notify();
    await guest.until(() => guest.word(COUNT) > before);
    expect(guest.machine.domain.vm.portStatus(channel.port)).toMatchObject({ pending: true, upcallPending: false });
    // Pending still: another is no edge.
    channel.notify();
    await guest.untilHalted();
    expect(guest.word(COUNT)).toBe(before + 1);
  });

  test('XE-TC-21 it is a level: a handler that leaves the byte set is called again', async () => {
    const guest = await guestOf(
      { main: [...setUp, ...code.sti, ...code.idle], handler: [...code.increment(COUNT), ...code.iret] },
      { ram: setUpArguments },
    );
    guest.machine.domain.xen.host.bindUnbound(1, () => {}).notify();
    await guest.until(() => guest.word(COUNT) > 10);
  });

  test('XE-CB-03 not while the guest takes no interrupts; then at once', async () => {
    const guest = await guestOf(
      {
        main: [
          ...setUp,
          ...code.hypercall(EVENT_CHANNEL_OP, [7, ARGS + 0x40], OUT + 8),
          ...code.hypercall(EVENT_CHANNEL_OP, [4, ARGS + 0x44], OUT + 12),
          ...code.load('eax', COUNT),
          ...code.store(OUT + 16, 'eax'),
          ...code.sti,
          // STI holds for one instruction.
          0x90,
          ...code.load('eax', COUNT),
          ...code.store(OUT + 20, 'eax'),
          ...code.idle,
        ],
        handler,
      },
      { ram: { ...setUpArguments, [ARGS + 0x40]: fields(0, 0) } },
    );
    await guest.untilHalted();
    expect([8, 12, 16, 20].map((at) => guest.word(OUT + at))).toEqual([0, 0, 0, 1]);
  });

  test('XE-CB-03 and right behind the hypercall that raises it, if it does', async () => {
    const guest = await guestOf(
      {
        main: [
          ...setUp,
          ...code.hypercall(EVENT_CHANNEL_OP, [7, ARGS + 0x40], OUT + 8),
          ...code.sti,
          0x90,
          ...code.load('eax', COUNT),
          ...code.store(OUT + 12, 'eax'),
          ...code.set('ebx', 4),
          ...code.set('ecx', ARGS + 0x44),
          ...code.set('eax', EVENT_CHANNEL_OP),
          ...code.vmcall,
          ...code.load('eax', COUNT),
          ...code.store(OUT + 16, 'eax'),
          ...code.idle,
        ],
        handler,
      },
      { ram: { ...setUpArguments, [ARGS + 0x40]: fields(0, 0) } },
    );
    await guest.untilHalted();
    expect(guest.word(OUT + 16)).toBe(guest.word(OUT + 12) + 1);
  });

  test('XE-CB-01 none without a callback', async () => {
    const guest = await guestOf(
      { main: [...code.hypercall(MEMORY_OP, [7, ARGS], OUT), ...code.sti, ...code.idle], handler },
      { ram: setUpArguments },
    );
    await guest.untilHalted();
    guest.machine.domain.xen.host.bindUnbound(1, () => {}).notify();
    await guest.untilHalted();
    expect(guest.machine.domain.vm.vcpu(0).upcallPending).toBe(true);
    expect(guest.word(COUNT)).toBe(0);
  });
});

describe('time', () => {
  /** VIRQ_TIMER bound, and a deadline that is past: it fires at once. */
  const timer = [
    ...setUp,
    ...code.hypercall(EVENT_CHANNEL_OP, [1, ARGS + 0x60], OUT + 8),
    ...code.hypercall(VCPU_OP, [8, 0, ARGS + 0x80], OUT + 12),
  ];
  const timerArguments = { ...setUpArguments, [ARGS + 0x60]: fields(0, 0, 0), [ARGS + 0x80]: fields(2_000_000, 0, 0) };

  test('XE-BP-50 a single-shot timer wakes a guest that halts', async () => {
    const guest = await guestOf({ main: [...timer, ...code.sti, ...code.idle], handler }, { ram: timerArguments });
    const { vm, evtchn } = guest.machine.domain;
    const port = (): number => guest.word(ARGS + 0x60 + 8);
    await guest.until(() => port() !== 0 && vm.portStatus(port()).pending && !vm.vcpu(0).upcallPending);
    expect(evtchn.status({ port: port() })).toMatchObject({ status: 'virq', virq: 0 });
    expect([guest.word(OUT + 8), guest.word(OUT + 12)]).toEqual([0, 0]);
    expect(guest.word(COUNT)).toBeGreaterThan(0);
    expect(guest.machine.domain.vm.nextDeadline()).toBeNull();
  });

  test('XE-BT-10, XE-BP-41 the clock is there when shared_info is', async () => {
    const [mul, version] = [SHARED_INFO + 32 + 24, SHARED_INFO + 32];
    const guest = await guestOf(
      {
        main: [
          ...code.hypercall(MEMORY_OP, [7, ARGS], OUT),
          ...code.load('eax', mul),
          ...code.store(OUT + 4, 'eax'),
          ...code.load('eax', version),
          ...code.store(OUT + 8, 'eax'),
          ...code.idle,
        ],
      },
      { ram: setUpArguments },
    );
    await guest.untilHalted();
    expect(guest.word(OUT + 4)).not.toBe(0);
    expect(guest.word(OUT + 8) % 2).toBe(0);
    expect(guest.word(OUT + 8)).toBeGreaterThan(0);
  });

  test('KX-CLK-10 a guest that sets its TSC has a clock that goes on', async () => {
    const guest = await guestOf(
      {
        main: [
          ...setUp,
          ...code.set('ecx', 0x10),
          ...code.set('eax', 0),
          ...code.set('edx', 0x100),
          ...code.wrmsr,
          ...code.idle,
        ],
      },
      { ram: setUpArguments },
    );
    await guest.untilHalted();
    const vcpu = guest.machine.domain.vm.vcpu(0);
    vcpu.beforeEntry();
    const tsc = vcpu.readTsc();
    expect(tsc >> 40n).toBe(1n);
    const [before, now] = [vcpu.readTime(tsc), guest.machine.domain.vm.kvmclock.now()];
    const difference = now > before ? now - before : before - now;
    expect(difference).toBeLessThan(1_000_000_000n);
  });
});

describe('sleeping', () => {
  const SCHED_OP = 29;
  const [POLL, LIST] = [ARGS + 0xa0, ARGS + 0xc0];
  /** An unbound port for the host; then a poll of it, for at most `timeout` ns of system time. */
  const pollFor = (timeout: readonly [number, number]) => ({
    main: [
      ...setUp,
      ...code.hypercall(EVENT_CHANNEL_OP, [6, ARGS + 0x40], OUT + 8),
      ...code.load('eax', ARGS + 0x44),
      ...code.store(LIST, 'eax'),
      ...code.storeWord(OUT + 12, 1),
      // Nothing is left of the upcall that placing the page has asked for.
      ...code.storeByte(SHARED_INFO, 0),
      ...code.storeWord(SHARED_INFO + 4, 0),
      ...code.hypercall(SCHED_OP, [3, POLL], OUT + 12),
      ...code.storeWord(OUT + 16, 1),
      ...code.idle,
    ],
    ram: {
      ...setUpArguments,
      [ARGS + 0x40]: fields(SELF, 0),
      [POLL]: fields(LIST, 1, ...timeout),
      // Masked, as a guest that polls has it.
      [SHARED_INFO + 2176]: fields(0xffffffff),
    },
  });

  test('XE-BP-22, XE-BP-24 a poll sleeps with interrupts off, until its masked port is raised', async () => {
    const { main, ram } = pollFor([0, 0]);
    const guest = await guestOf({ main }, { ram });
    await guest.until(() => guest.word(OUT + 12) === 1 && guest.machine.cpu.in_hlt[0] === 1);
    // It stays asleep for as long as it is not woken: some rounds of the machine's loop.
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect([guest.word(OUT + 12), guest.word(OUT + 16)]).toEqual([1, 0]);
    const channel = guest.machine.domain.xen.host.bind(1, guest.word(LIST), () => {});
    channel.notify();
    await guest.until(() => guest.word(OUT + 16) === 1);
    expect(guest.word(OUT + 12)).toBe(0);
  });

  test('XE-BP-23 or until its time is over', async () => {
    // 300 ms of the guest's clock, which began when its machine was made.
    const { main, ram } = pollFor([300_000_000, 0]);
    const guest = await guestOf({ main }, { ram });
    await guest.until(() => guest.word(OUT + 16) === 1);
    expect(guest.word(OUT + 12)).toBe(0);
    expect(guest.machine.domain.vm.kvmclock.now() >= 300_000_000n).toBe(true);
  });

  test('R13 a guest that is saved while it polls looks again where it is restored', async () => {
    const { main, ram } = pollFor([0, 0]);
    const guest = await guestOf({ main }, { ram });
    await guest.until(() => guest.word(OUT + 12) === 1 && guest.machine.cpu.in_hlt[0] === 1);
    const saved = await guest.save();
    const other = await guestOf({ main });
    other.machine.restore(saved);
    await other.until(() => other.word(OUT + 16) === 1);
    expect(other.word(OUT + 12)).toBe(0);
  });
});

describe('saving', () => {
  test('R13, KF-79 ports, callback, pending events and counters go on in another machine; host end points bind again', async () => {
    const guest = await guestOf({ main: [...setUp, ...code.sti, ...code.idle], handler }, { ram: setUpArguments });
    await guest.untilHalted();
    const { xen } = guest.machine.domain;
    const channel = xen.host.bindUnbound(1, () => {});
    const { port } = channel;
    const before = guest.word(COUNT);
    channel.notify();
    await guest.until(() => guest.word(COUNT) === before + 1);
    const saved = await guest.save();

    const other = await guestOf({ main: [0xf4], handler });
    other.machine.restore(saved);
    expect(other.word(COUNT)).toBe(before + 1);
    const { domain } = other.machine;
    expect(domain.vm.portStatus(port)).toMatchObject({ pending: true });
    const again = domain.xen.host.bind(1, port, () => {});
    expect([again.port, domain.evtchn.status({ port })]).toMatchObject([port, { status: 'interdomain' }]);
    domain.xen.host.bindUnbound(1, () => {}).notify();
    await other.until(() => other.word(COUNT) > before + 1);
  });

  test('R4 a running machine is neither saved nor restored; what is no saved machine is refused, and nothing changes', async () => {
    const guest = await guestOf({ main: [...setUp, ...code.sti, ...code.idle], handler }, { ram: setUpArguments });
    await guest.untilHalted();
    expect(errorOf(() => guest.machine.save()).code).toBe('EBUSY');
    expect(errorOf(() => guest.machine.restore(new Uint8Array(64))).code).toBe('EBUSY');
    const saved = await guest.save();
    const bad = [
      new Uint8Array(0),
      saved.slice(0, 15),
      saved.slice(0, saved.length - 1),
      saved.map((byte, i) => (i === 0 ? byte ^ 1 : byte)),
      saved.map((byte, i) => (i === 4 ? 99 : byte)),
      // Within the domain's part, which has a checksum.
      saved.map((byte, i) => (i === saved.length - 20 ? byte ^ 1 : byte)),
    ];
    for (const bytes of bad) expect(errorOf(() => guest.machine.restore(bytes)).code).toBe('EINVAL');
    // It goes on as if nothing had been.
    const before = guest.word(COUNT);
    guest.machine.domain.xen.host.bindUnbound(1, () => {}).notify();
    await guest.until(() => guest.word(COUNT) === before + 1);
  });
});

describe('memory', () => {
  test('the engine’s records lie behind what v86 had, and stay when the memory grows', async () => {
    const guest = await guestOf({ main: [...setUp, ...code.sti, ...code.idle], handler }, { ram: setUpArguments });
    const { vm } = guest.machine.domain;
    expect(vm.vmBase % 65536).toBe(0);
    expect(vm.guestBase % 4096).toBe(0);
    await guest.untilHalted();
    const before = guest.word(COUNT);
    vm.memory.grow(16);
    guest.machine.domain.xen.host.bindUnbound(1, () => {}).notify();
    await guest.until(() => guest.word(COUNT) === before + 1);
  });

  test('XE-OP-20 two machines are two memories, and one rings the other', async () => {
    const xen = createXen();
    const domid = (id: number): TinyOptions => ({ xen, domain: { domid: id } });
    const waiting = await guestOf(
      {
        main: [...setUp, ...code.hypercall(EVENT_CHANNEL_OP, [6, ARGS + 0x40], OUT + 8), ...code.sti, ...code.idle],
        handler,
      },
      { ...domid(1), ram: { ...setUpArguments, [ARGS + 0x40]: fields(SELF | (2 << 16), 0) } },
    );
    await waiting.untilHalted();
    const before = waiting.word(COUNT);
    const ringing = await guestOf(
      {
        main: [
          ...code.hypercall(MEMORY_OP, [7, ARGS], OUT),
          ...code.hypercall(EVENT_CHANNEL_OP, [0, ARGS + 0x40], OUT + 8),
          ...code.hypercall(EVENT_CHANNEL_OP, [4, ARGS + 0x48], OUT + 12),
          ...code.idle,
        ],
      },
      { ...domid(2), ram: { ...setUpArguments, [ARGS + 0x40]: fields(1, waiting.word(ARGS + 0x44), 0) } },
    );
    expect(ringing.machine.domain.vm.memory).not.toBe(waiting.machine.domain.vm.memory);
    await ringing.untilHalted();
    expect([8, 12].map((at) => ringing.word(OUT + at))).toEqual([0, 0]);
    await waiting.until(() => waiting.word(COUNT) === before + 1);
  });
});

describe('power', () => {
  test('XE-BP-03 a guest that resets itself has shut down, for a domain is not started again in its old memory', async () => {
    const reasons: unknown[] = [];
    // The reset register of the chip set: a hard reset, then the pulse; not again when it is started again.
    const reset = [...code.increment(COUNT), 0x66, 0xba, 0xf9, 0x0c, 0xb0, 0x02, 0xee, 0xb0, 0x06, 0xee];
    const guest = await guestOf(
      { main: [0x83, 0x3d, ...fields(COUNT), 0x00, 0x75, reset.length, ...reset, ...code.idle] },
      { domain: { hvm: { onShutdown: (reason, number) => reasons.push([reason, number]) } } },
    );
    await guest.untilHalted();
    expect(reasons).toEqual([['reboot', 1]]);
  });

  test('XE-BP-03 a guest that switches itself off has shut down', async () => {
    const reasons: unknown[] = [];
    const guest = await guestOf(
      // PM1 control: sleep type 0, enable
      { main: [0x66, 0xba, 0x04, 0xb0, ...code.set('eax', 1 << 13), 0x66, 0xef, ...code.idle] },
      { domain: { hvm: { onShutdown: (reason, number) => reasons.push([reason, number]) } } },
    );
    await guest.untilHalted();
    expect(reasons).toEqual([['poweroff', 0]]);
    expect(guest.machine.domain.hvm.shutdownReason).toBe('poweroff');
  });
});
