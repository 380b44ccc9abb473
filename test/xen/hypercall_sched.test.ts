// sched_op: block, poll, shutdown, watchdogs. [XE-BP-01..06, XE-BP-20..26]

import { describe, expect, test } from 'vitest';
import { REGION_POLLERS, VCPU_POLL, VCPU_POLLER } from '../../src/abi/region.ts';
import { VCPU_INFO_UPCALL_MASK } from '../../src/abi/vcpu_info.ts';
import type { HypercallResult } from '../../src/index.ts';
import type { ShutdownReason } from '../../src/xen/index.ts';
import { fields, ram } from '../support.ts';
import {
  ARGUMENT,
  answer,
  CALLERS,
  type Caller,
  call,
  END,
  LIST,
  makeGuest,
  put,
  quiet,
  registerVcpuInfo,
  SELF,
  START,
  VCPU_INFO_FRAME,
} from './caller.ts';

const SCHED = 29;
const [YIELD, BLOCK, SHUTDOWN, POLL, REMOTE_SHUTDOWN, SHUTDOWN_CODE, WATCHDOG, PIN_OVERRIDE] = [0, 1, 2, 3, 4, 5, 6, 7];
const [EPERM, ESRCH, EFAULT, EINVAL, ENOSPC, ENOSYS] = [-1, -3, -14, -22, -28, -38];
const MS = 1_000_000n;
const SECOND = 1_000_000_000n;

describe.each(CALLERS)('$caller caller, shared memory: $shared', ({ long, shared }) => {
  const make = (more = {}): Caller => makeGuest({ long, shared, vcpus: 2, ...more });
  const ipi = ({ domain }: Caller, vcpu = 0): number => domain.evtchn.bindIpi({ vcpu });

  /** Polls for ports with an absolute timeout. */
  const poll = (
    guest: Caller,
    ports: readonly number[],
    timeout = 0n,
    count = ports.length,
    list = LIST,
  ): HypercallResult => {
    const view = fields(guest.domain.vm);
    ports.forEach((port, i) => void view.setUint32(list + 4 * i, port, true));
    const at = long
      ? put(guest, 24, [
          [0, 8, list],
          [8, 4, count],
          [16, 8, timeout],
        ])
      : put(guest, 16, [
          [0, 4, list],
          [4, 4, count],
          [8, 8, timeout],
        ]);
    return call(guest, SCHED, [POLL, at]);
  };
  const polled = (guest: Caller, ports: readonly number[], timeout?: bigint, count?: number, list?: number): number => {
    const result = poll(guest, ports, timeout, count, list);
    if (result.kind !== 'handled') expect.fail(`handled was expected, it is ${result.kind}`);
    return Number(BigInt.asIntN(64, result.result));
  };
  const sleeps = (guest: Caller, ports: readonly number[], timeout?: bigint): bigint | null => {
    const result = poll(guest, ports, timeout);
    if (result.kind !== 'blocked') expect.fail(`blocked was expected, it is ${JSON.stringify(result.kind)}`);
    expect(guest.cpu.registers.rax).toBe(0n);
    expect(guest.domain.vm.vcpu(0).runnable).toBe(false);
    return result.deadline;
  };
  /** The vCPU goes on; nothing of a poll is left. */
  const goesOn = ({ domain: { vm } }: Caller): void => {
    expect(vm.vcpu(0).runnable).toBe(true);
    vm.vcpu(0).beforeEntry();
    const { words } = vm.region;
    expect([words.load(vm.vcpu(0).line + VCPU_POLL), words.load(vm.vcpu(0).line + VCPU_POLLER)]).toEqual([0, 0]);
    expect(words.load(vm.vmBase + REGION_POLLERS)).toBe(0);
  };

  test('XE-BP-01 yield is 0, an unknown command ENOSYS, pinning is not for guests', () => {
    const guest = make();
    expect(answer(guest, SCHED, [YIELD, END])).toBe(0);
    expect(answer(guest, SCHED, [8, END])).toBe(ENOSYS);
    expect(answer(guest, SCHED, [PIN_OVERRIDE, END])).toBe(EPERM);
  });

  // ── block ────────────────────────────────────────────────────────────────────────────────────────────────────────

  test('XE-BP-02 block halts the vCPU until an event; it clears the upcall mask', () => {
    const guest = make();
    const { domain } = guest;
    ram(domain.vm)[VCPU_INFO_FRAME * 4096 + VCPU_INFO_UPCALL_MASK] = 1;
    expect(call(guest, SCHED, [BLOCK])).toEqual({ kind: 'blocked', deadline: null });
    expect(guest.cpu.registers.rax).toBe(0n);
    expect(ram(domain.vm)[VCPU_INFO_FRAME * 4096 + VCPU_INFO_UPCALL_MASK]).toBe(0);
    expect(domain.vm.vcpu(0).runnable).toBe(false);
    domain.send(ipi(guest));
    expect(domain.vm.vcpu(0).runnable).toBe(true);
  });

  test('XE-BP-02 with an upcall that can be taken block returns at once; while interrupts are off it halts', () => {
    const guest = make();
    guest.domain.send(ipi(guest));
    expect(answer(guest, SCHED, [BLOCK])).toBe(0);
    guest.cpu.interruptible = false;
    expect(call(guest, SCHED, [BLOCK]).kind).toBe('blocked');
  });

  // ── poll ─────────────────────────────────────────────────────────────────────────────────────────────────────────

  test('XE-BP-20 more than 128 ports are EINVAL before the list is read, a list that cannot be read is EFAULT', () => {
    const guest = make();
    expect(polled(guest, [], 0n, 129, END)).toBe(EINVAL);
    expect(polled(guest, [], 0n, 2 ** 32 - 1, END)).toBe(EINVAL);
    expect(polled(guest, [], 0n, 128, END)).toBe(EFAULT);
    expect(answer(guest, SCHED, [POLL, END - (long ? 23 : 15)])).toBe(EFAULT);
  });

  test('XE-BP-21 KF-58 ports are looked at in their order: the first that is pending, unusable or unreadable decides', () => {
    const guest = make();
    const { domain } = guest;
    const [a, b] = [ipi(guest), ipi(guest)];
    for (const bad of [0, 63, 64, 1023, 1024, 4095, 4096, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1]) {
      expect(polled(guest, [a, bad])).toBe(EINVAL);
    }
    domain.vm.mask(a);
    domain.send(a);
    expect(polled(guest, [a, 0])).toBe(0);
    expect(polled(guest, [b, 0, a])).toBe(EINVAL);
    expect(polled(guest, [b, a])).toBe(0);
    // Of a list at the end of RAM what is there counts.
    expect(polled(guest, [b, a], 0n, 3, END - 8)).toBe(0);
    expect(polled(guest, [b], 0n, 2, END - 4)).toBe(EFAULT);
    domain.evtchn.close(a);
    expect(polled(guest, [b, a])).toBe(EINVAL);
  });

  test('XE-BP-21 an event that can be taken anyway comes first: 0, whatever the ports', () => {
    const guest = make();
    guest.domain.send(ipi(guest));
    expect(polled(guest, [0])).toBe(0);
    expect(polled(guest, [], 0n, 3, END)).toBe(0);
    guest.cpu.interruptible = false;
    expect(polled(guest, [0])).toBe(EINVAL);
  });

  test.each([true, false])('XE-BP-22 with one port only that one wakes it, masked: %s', (masked) => {
    const guest = make();
    const { domain } = guest;
    const [awaited, other] = [ipi(guest, 1), ipi(guest, 1)];
    if (masked) domain.vm.mask(awaited);
    domain.vm.mask(other);
    sleeps(guest, [awaited]);
    domain.send(other);
    expect(domain.vm.vcpu(0).runnable).toBe(false);
    domain.send(awaited);
    goesOn(guest);
  });

  test('XE-BP-24 XE-TC-12 with several ports any event of the domain does, on whatever vCPU', () => {
    const guest = make();
    const { domain } = guest;
    const [a, b, stranger] = [ipi(guest, 1), ipi(guest, 1), ipi(guest, 1)];
    domain.vm.mask(stranger);
    sleeps(guest, [a, b]);
    domain.send(stranger);
    goesOn(guest);
    // Pending already: no edge, nobody wakes. [XE-TC-13]
    sleeps(guest, [a, b]);
    domain.send(stranger);
    expect(domain.vm.vcpu(0).runnable).toBe(false);
    domain.raiseVirq(0, 0);
    expect(domain.vm.vcpu(0).runnable).toBe(false);
    domain.evtchn.bindVirq({ virq: 1, vcpu: 1 });
    domain.raiseVirq(1, 1);
    goesOn(guest);
  });

  test('XE-BP-25 with no port it sleeps until its time or any event', () => {
    const guest = make();
    const port = ipi(guest, 1);
    sleeps(guest, []);
    guest.domain.send(port);
    goesOn(guest);
  });

  test('XE-BP-23 KF-76 the timeout is absolute system time; 0 is for ever; one that is past does not sleep', () => {
    const guest = make();
    const { clock, domain } = guest;
    const port = ipi(guest);
    const now = domain.vm.kvmclock.now();
    expect(now).toBe(START);
    expect(sleeps(guest, [port], now + MS)).toBe(clock.now() + MS);
    clock.advance(MS - 1n);
    domain.vm.tick();
    expect(domain.vm.vcpu(0).runnable).toBe(false);
    clock.advance(1n);
    expect(domain.vm.tick()).toBe(1);
    goesOn(guest);
    expect(sleeps(guest, [port])).toBeNull();
    domain.send(port);
    goesOn(guest);
    for (const past of [1n, now, 2n ** 63n, 2n ** 64n - 1n]) {
      const fresh = make();
      expect(polled(fresh, [ipi(fresh)], past)).toBe(0);
    }
  });

  test('XE-BP-21 a port that is bound and beyond the guest’s layout cannot be waited for', () => {
    const guest = make();
    const { domain } = guest;
    domain.vm.setAttr({ type: 'long_mode', enabled: true });
    let port = 0;
    while (port < 1500) port = ipi(guest);
    domain.vm.setAttr({ type: 'long_mode', enabled: false });
    expect(polled(guest, [1500])).toBe(EINVAL);
  });

  // ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────────

  test('XE-BP-03 shutdown: the embedder is told once; the first reason counts; further calls are 0', () => {
    const told: [ShutdownReason, number][] = [];
    const guest = make({ hvm: { onShutdown: (...what: [ShutdownReason, number]) => void told.push(what) } });
    expect(guest.domain.hvm.shutdownReason).toBeNull();
    expect(answer(guest, SCHED, [SHUTDOWN, END])).toBe(EFAULT);
    const shutdown = (reason: number): number => answer(guest, SCHED, [SHUTDOWN, put(guest, 4, [[0, 4, reason]])]);
    expect(shutdown(1)).toBe(0);
    expect(shutdown(3)).toBe(0);
    expect(told).toEqual([['reboot', 1]]);
    expect(guest.domain.hvm.shutdownReason).toBe('reboot');
    guest.domain.hvm.resume();
    expect(guest.domain.hvm.shutdownReason).toBeNull();
    expect(() => guest.domain.hvm.resume()).toThrow('not shut down');
    expect(shutdown(2)).toBe(0);
    expect(told.at(-1)).toEqual(['suspend', 2]);
  });

  test('XE-BP-03 the reasons have names; one that has none counts as a crash, with its number', () => {
    const names = ['poweroff', 'reboot', 'suspend', 'crash', 'watchdog', 'soft_reset', 'crash', 'crash'];
    const codes = [0, 1, 2, 3, 4, 5, 6, 255];
    for (const [i, code] of codes.entries()) {
      const told: unknown[] = [];
      const guest = make({ hvm: { onShutdown: (...what: unknown[]) => void told.push(what) } });
      // A byte: what is above it is cut off.
      expect(answer(guest, SCHED, [SHUTDOWN, put(guest, 4, [[0, 4, code + 0x100]])])).toBe(0);
      expect(told).toEqual([[names[i], code]]);
    }
  });

  test('XE-BP-03 a shutdown code is kept for the end that comes later', () => {
    const told: unknown[] = [];
    const guest = make({ hvm: { onShutdown: (...what: unknown[]) => void told.push(what) } });
    expect(answer(guest, SCHED, [SHUTDOWN_CODE, put(guest, 4, [[0, 4, 3]])])).toBe(0);
    expect(told).toEqual([]);
    expect(guest.domain.hvm.shutdownReason).toBeNull();
    expect(answer(guest, SCHED, [SHUTDOWN, put(guest, 4, [[0, 4, 0]])])).toBe(0);
    expect(told).toEqual([['crash', 3]]);
  });

  test('remote_shutdown is for domains with privilege, and SELF is no id in it', () => {
    const guest = make();
    const other = guest.xen.createDomain();
    const shutdown = (caller: Caller, domid: number): number => {
      return answer(caller, SCHED, [
        REMOTE_SHUTDOWN,
        put(caller, 8, [
          [0, 2, domid],
          [4, 4, 3],
        ]),
      ]);
    };
    expect(shutdown(guest, SELF)).toBe(ESRCH);
    expect(shutdown(guest, 99)).toBe(ESRCH);
    expect(shutdown(guest, other.domid)).toBe(EPERM);
    expect(shutdown(guest, guest.domain.domid)).toBe(EPERM);
    const master = make({ privileged: true });
    const victim = master.xen.createDomain();
    expect(shutdown(master, victim.domid)).toBe(0);
    expect(victim.hvm.shutdownReason).toBe('crash');
  });

  // ── watchdogs ────────────────────────────────────────────────────────────────────────────────────────────────────

  test('XE-BP-04 two watchdogs: taken by id 0, set again, given back, refused', () => {
    const guest = make();
    const watchdog = (id: number, seconds: number): number => {
      return answer(guest, SCHED, [
        WATCHDOG,
        put(guest, 8, [
          [0, 4, id],
          [4, 4, seconds],
        ]),
      ]);
    };
    expect(watchdog(1, 5)).toBe(EINVAL);
    expect(watchdog(0, 10)).toBe(1);
    expect(watchdog(0, 10)).toBe(2);
    expect(watchdog(0, 10)).toBe(ENOSPC);
    for (const id of [3, 2 ** 31, 2 ** 32 - 1]) expect(watchdog(id, 10)).toBe(EINVAL);
    expect(watchdog(1, 0)).toBe(0);
    expect(watchdog(1, 0)).toBe(EINVAL);
    expect(watchdog(0, 10)).toBe(1);
    expect(answer(guest, SCHED, [WATCHDOG, END])).toBe(EFAULT);
  });

  test('XE-BP-04 one that is not set again in time ends the domain; one that is, or was given back, does not', () => {
    const told: ShutdownReason[] = [];
    const guest = make({ hvm: { onShutdown: (reason: ShutdownReason) => void told.push(reason) } });
    const { clock, domain } = guest;
    const watchdog = (id: number, seconds: number): number => {
      return answer(guest, SCHED, [
        WATCHDOG,
        put(guest, 8, [
          [0, 4, id],
          [4, 4, seconds],
        ]),
      ]);
    };
    expect([watchdog(0, 2), watchdog(0, 2)]).toEqual([1, 2]);
    expect(domain.vm.nextDeadline()).toBe(clock.now() + 2n * SECOND);
    clock.advance(SECOND);
    expect([watchdog(1, 2), watchdog(2, 0)]).toEqual([0, 0]);
    clock.advance(2n * SECOND - 1n);
    expect(domain.vm.tick()).toBe(0);
    clock.advance(1n);
    expect(domain.vm.tick()).toBe(1);
    expect([told, domain.hvm.shutdownReason]).toEqual([['watchdog'], 'watchdog']);
    expect(domain.vm.nextDeadline()).toBeNull();
    expect(domain.vm.tick()).toBe(0);
  });
});

describe('poll in QEMU’s dialect, and beside other vCPUs', () => {
  test('XE-QE-04 a poll is a yield: 0, nothing is read', () => {
    const guest = makeGuest({ dialect: 'qemu' });
    expect(answer(guest, SCHED, [POLL, END])).toBe(0);
    expect(answer(guest, SCHED, [BLOCK])).toBe(ENOSYS);
  });

  test('XE-BP-24 each poller is woken for itself, and by its own port', () => {
    const guest = makeGuest({ vcpus: 3, shared: true });
    const { domain } = guest;
    for (const vcpu of [1, 2]) expect(registerVcpuInfo(guest, vcpu, VCPU_INFO_FRAME, vcpu * 64)).toBe(0);
    for (const vcpu of [0, 1, 2]) quiet(guest, vcpu, VCPU_INFO_FRAME * 4096 + vcpu * 64);
    const ports = [0, 1, 2].map((vcpu) => domain.evtchn.bindIpi({ vcpu }));
    for (const port of ports) domain.vm.mask(port);
    for (const [vcpu, port] of ports.entries()) {
      fields(domain.vm).setUint32(LIST, port, true);
      const at = put(
        guest,
        24,
        [
          [0, 8, LIST],
          [8, 4, 1],
          [16, 8, 0],
        ],
        ARGUMENT,
      );
      expect(call(guest, SCHED, [POLL, at], vcpu).kind).toBe('blocked');
    }
    const awake = (): boolean[] => [0, 1, 2].map((vcpu) => domain.vm.vcpu(vcpu).runnable);
    expect(awake()).toEqual([false, false, false]);
    domain.send(ports[1] as number);
    expect(awake()).toEqual([false, true, false]);
    domain.send(ports[2] as number);
    expect(awake()).toEqual([false, true, true]);
  });
});
