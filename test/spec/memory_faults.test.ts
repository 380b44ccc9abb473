// A call that fails leaves nothing behind, and what is unregistered is never written again: by injection, at every place where an
// operation can fail. [known faults KF-09, KF-10]

import { afterEach, describe, expect, test, vi } from 'vitest';
import { VCPU_RUNSTATE1_GPC, VCPU_RUNSTATE2_GPC } from '../../src/abi/region.ts';
import { PAGE_SIZE } from '../../src/abi/shared_info.ts';
import { EvtchnError, gfn, gpa, hva, type Memslot, type Vm } from '../../src/index.ts';
import { drained, KINDS, ram, SHARED_INFO_GFN, VCPU_INFO_GPA } from '../support.ts';
import { CANARY } from './evidence.ts';
import { ELSEWHERE, framePage, hostPage, makePaged, slotAt } from './pages.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

// ── KF-09 ────────────────────────────────────────────────────────────────────────────────────────────────────────────

describe.each(KINDS)('$layout layout, shared memory: $shared', ({ longMode, shared }) => {
  test('KF-09 every area is unregistered, the memory is used for something else: nothing of it is written any more', () => {
    const vm = makePaged({ longMode, shared, vcpus: 2 });
    vm.setConfig({ msr: 0x40000000, interceptHypercalls: true, evtchnSend: true });
    for (const vcpu of [vm.vcpu(0), vm.vcpu(1)]) {
      const page = 5 + vcpu.index;
      vcpu.setAttr({ type: 'vcpu_time_info', gpa: gpa(page * PAGE_SIZE) });
      vcpu.setAttr({ type: 'runstate_addr', gpa: gpa(page * PAGE_SIZE + PAGE_SIZE - 20) });
      vcpu.setAttr({ type: 'timer', port: 9 + vcpu.index, expires: 1000n });
      vm.sendPorts.ring(9);
    }
    vm.sendMany([5, 6, 70]);
    for (const vcpu of [vm.vcpu(0), vm.vcpu(1)]) {
      vcpu.setAttr({ type: 'vcpu_info', gpa: null });
      vcpu.setAttr({ type: 'vcpu_time_info', gpa: null });
      vcpu.setAttr({ type: 'runstate_addr', gpa: null });
    }
    vm.setAttr({ type: 'shared_info', gfn: null });
    ram(vm).fill(CANARY);
    const uses: (() => unknown)[] = [
      () => vm.send(5),
      () => vm.sendMany([1, 2, 3, 900]),
      () => vm.unmask(5),
      () => vm.bindVcpu(70, 1),
      () => vm.setAttr({ type: 'long_mode', enabled: !longMode }),
      () => vm.kvmclock.now(),
    ];
    for (const vcpu of [vm.vcpu(0), vm.vcpu(1)]) {
      uses.push(
        () => vcpu.load(10n),
        () => vcpu.enterRunstate('blocked', 5000n),
        () => vcpu.setAttr({ type: 'runstate_current', state: 'offline' }),
        () => vcpu.writeTime({ tscTimestamp: 1n, systemTime: 2n, mul: 3, shift: 0 }),
        () => vcpu.setAttr({ type: 'timer', port: 9, expires: 1n }),
        () => vm.tick(10_000_000n),
        () => vcpu.beforeEntry(),
        () => vcpu.afterExit(),
        () => vcpu.resync(),
        () => vcpu.flushShadow(),
        () => vcpu.drain(),
        () => vcpu.unload(),
      );
    }
    for (let round = 0; round < 2; round++) {
      for (const use of uses) {
        try {
          use();
        } catch (error) {
          expect(error).toBeInstanceOf(EvtchnError);
        }
      }
    }
    vm.close();
    expect(ram(vm).every((byte) => byte === CANARY)).toBe(true);
  });
});

// ── KF-10 ────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** What can be seen of the configuration, as text. */
function seen(vm: Vm): string {
  const vcpu = vm.vcpu(0);
  return JSON.stringify([
    vm.getAttr('shared_info'),
    vm.getAttr('shared_info_hva'),
    vm.getAttr('long_mode'),
    vcpu.getAttr('vcpu_info'),
    vcpu.getAttr('vcpu_info_hva'),
    vcpu.getAttr('vcpu_time_info'),
    vm.gpcs.gpaOf(vcpu.record + VCPU_RUNSTATE1_GPC),
    vm.gpcs.gpaOf(vcpu.record + VCPU_RUNSTATE2_GPC),
    vm.memslots.list(),
    String(vm.memslots.generation()),
    Array.from({ length: 16 }, (_, page) => vm.hostPages.lookup(hostPage(vm, page))),
  ]);
}

interface Operation {
  readonly name: string;
  run(vm: Vm): unknown;
  /** what an EFAULT leaves, where KVM says that it is not what was before: the new base, or nothing registered [KX-VMA-05, KX-VCA-05] */
  readonly after?: (vm: Vm) => unknown;
}

function runstateCaches(vm: Vm): boolean[] {
  return [VCPU_RUNSTATE1_GPC, VCPU_RUNSTATE2_GPC].map((at) => vm.gpcs.isActive(vm.vcpu(0).record + at));
}

const slot0 = (vm: Vm): Memslot => vm.memslots.list()[0] as Memslot;

const RUNSTATE = 'runstate across two pages';
const OPERATIONS: readonly Operation[] = [
  {
    name: 'shared_info by frame',
    run: (vm) => vm.setAttr({ type: 'shared_info', gfn: gfn(9) }),
    after: (vm) => expect(vm.getAttr('shared_info').gfn).toBe(9),
  },
  {
    name: 'shared_info by host address',
    run: (vm) => vm.setAttr({ type: 'shared_info_hva', hva: hostPage(vm, 9) }),
    after: (vm) => expect(vm.getAttr('shared_info_hva').hva).toBe(hostPage(vm, 9)),
  },
  { name: 'shared_info goes', run: (vm) => vm.setAttr({ type: 'shared_info', gfn: null }) },
  {
    name: 'vcpu_info by guest address',
    run: (vm) => vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(0x9040) }),
    after: (vm) => expect(vm.vcpu(0).getAttr('vcpu_info').gpa).toBe(0x9040),
  },
  {
    name: 'vcpu_info by host address',
    run: (vm) => vm.vcpu(0).setAttr({ type: 'vcpu_info_hva', hva: hva(hostPage(vm, 9) + 64) }),
    after: (vm) => expect(vm.vcpu(0).getAttr('vcpu_info_hva').hva).toBe(hostPage(vm, 9) + 64),
  },
  { name: 'vcpu_info goes', run: (vm) => vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: null }) },
  {
    name: 'vcpu_time_info',
    run: (vm) => vm.vcpu(0).setAttr({ type: 'vcpu_time_info', gpa: gpa(0xa000) }),
    after: (vm) => expect(vm.vcpu(0).getAttr('vcpu_time_info').gpa).toBe(0xa000),
  },
  {
    name: RUNSTATE,
    run: (vm) => vm.vcpu(0).setAttr({ type: 'runstate_addr', gpa: gpa(0xaff0) }),
    after: (vm) => expect(runstateCaches(vm)).toEqual([false, false]),
  },
  { name: 'a slot comes', run: (vm) => vm.memslots.set(slotAt(vm, 8)) },
  { name: 'the slot logs', run: (vm) => vm.memslots.set({ ...slot0(vm), logDirty: true }) },
  { name: 'the slot moves', run: (vm) => vm.memslots.set({ ...slot0(vm), gpa: gpa(ELSEWHERE) }) },
  { name: 'the slot goes', run: (vm) => vm.memslots.delete(0) },
  { name: 'a page is mapped', run: (vm) => vm.hostPages.map(hostPage(vm, 3), 1, framePage(vm, 12)) },
  { name: 'a page goes', run: (vm) => vm.hostPages.unmap(hostPage(vm, 3), 2) },
  { name: 'pages move', run: (vm) => vm.hostPages.move(hostPage(vm, 3), 2, framePage(vm, 12)) },
  {
    name: 'an invalidation',
    run: (vm) => {
      vm.invalidateStart(0, 2 ** 40);
      vm.invalidateEnd();
    },
  },
];

describe.each([true, false])('fault injection, shared memory: %s', (shared) => {
  /** Makes the `k`-th call fail. @returns whether it came to that */
  const injections: readonly [string, (vm: Vm, k: number) => () => boolean][] = [
    [
      'a page that is not there',
      (vm, k) => {
        const faultIn = vm.gpcs.faultIn.bind(vm.gpcs);
        let calls = 0;
        vi.spyOn(vm.gpcs, 'faultIn').mockImplementation((at, writable) =>
          ++calls === k ? null : faultIn(at, writable),
        );
        return () => calls >= k;
      },
    ],
    [
      'a reader that does not leave',
      (vm, k) => {
        const awaitReaders = vm.changes.awaitReaders.bind(vm.changes);
        let calls = 0;
        vi.spyOn(vm.changes, 'awaitReaders').mockImplementation((mayBlock) => {
          if (++calls === k) throw new EvtchnError('EBUSY', 'agent 1 has held its bracket too long');
          awaitReaders(mayBlock);
        });
        return () => calls >= k;
      },
    ],
  ];

  for (const [kind, inject] of injections) {
    test.each(OPERATIONS)(`KF-10 ${kind}, at each place of: $name`, ({ name, run, after }) => {
      for (let k = 1; ; k++) {
        const vm = makePaged({ shared });
        vm.send(5);
        vm.vcpu(0).setAttr({ type: 'runstate_addr', gpa: gpa(0xbff0) });
        const before = seen(vm);
        const bytes = ram(vm).slice();
        const came = inject(vm, k);
        let failed: EvtchnError | null = null;
        try {
          run(vm);
        } catch (error) {
          expect(error).toBeInstanceOf(EvtchnError);
          failed = error as EvtchnError;
        }
        vi.restoreAllMocks();
        if (!came()) {
          expect(failed).toBeNull();
          expect(k).toBeGreaterThan(kind.startsWith('a reader') ? 1 : 0);
          break;
        }
        if (failed?.code === 'EFAULT' && after) after(vm);
        // A runstate is in two caches: any failure takes both away, and nothing else. [KX-VCA-05]
        else if (failed && seen(vm) !== before) expect([name, runstateCaches(vm)]).toEqual([RUNSTATE, [false, false]]);
        // Of the guest's memory a registration that failed has written nothing.
        if (failed) expect(ram(vm)).toEqual(bytes);
        // And everything works once after it: nothing is held, nothing half done.
        for (const operation of OPERATIONS) {
          try {
            operation.run(vm);
          } catch (error) {
            // One of them may have taken what the next one needs.
            expect(['EFAULT', 'EINVAL']).toContain((error as EvtchnError).code);
          }
        }
        restore(vm);
        expect(vm.send(70)).toBe(1);
        expect(drained(vm)).toContain(70);
      }
    });
  }

  function restore(vm: Vm): void {
    for (const { id } of vm.memslots.list()) vm.memslots.delete(id);
    vm.memslots.set({ id: 0, gpa: gpa(0), bytes: 16 * PAGE_SIZE, hva: hostPage(vm, 0) });
    vm.hostPages.map(hostPage(vm, 0), 16, framePage(vm, 0));
    vm.setAttr({ type: 'shared_info', gfn: gfn(SHARED_INFO_GFN) });
    vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(VCPU_INFO_GPA) });
  }
});
