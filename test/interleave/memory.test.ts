// Changes of the memory map against its users, at every shared access of either side. [known faults KF-01..12]

import { afterEach, describe, expect, test, vi } from 'vitest';
import { AGENT_READER, GPC_MODE_BITS, GPC_TOKEN_SHIFT, REGION_MEMSLOT_COUNT } from '../../src/abi/region.ts';
import { PAGE_SIZE } from '../../src/abi/shared_info.ts';
import { attachVm, gfn, gpa, hpa, type Memslot, type Vm } from '../../src/index.ts';
import { drained, errorOf, kernelBytes, LAYOUTS, makeVm } from '../support.ts';
import {
  type Actor,
  carry,
  drain,
  GUEST_PAGES,
  give,
  hostPage,
  INFO,
  type Meeting,
  MemoryWorld,
  page,
  type Scene,
  SPARE,
  VCPU,
} from './memory_world.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

const world = new MemoryWorld();
const CANARY = 0xee;
const PORT = 70;
const OTHER_PORT = 200;
/** of a second page table entry and a second slot */
const ELSEWHERE = 0x100000;
const TIME_INFO = { tscTimestamp: 1n, systemTime: 2n, mul: 3, shift: 0 };

function explore(meeting: Meeting): void {
  for (const { longMode } of LAYOUTS) {
    const { faults, ran } = world.explore(meeting, longMode);
    expect(faults).toEqual([]);
    // At the least before the first step and after the last: a bracket in between would be waited for.
    expect(ran).toBeGreaterThan(1);
  }
}

// ── the owner’s changes ──────────────────────────────────────────────────────────────────────────────────────────────

const frameAt = (vm: Vm, n: number) => hpa(vm.guestBase + n * PAGE_SIZE);
const slot0 = (vm: Vm): Memslot => vm.memslots.list()[0] as Memslot;

/** Each carries what the page holds to another frame, as an embedder that moves a guest’s pages does, and gives the old one away. */
const moves: readonly [string, Actor][] = [
  [
    'the host page of shared_info moves',
    (s) => {
      s.owner.hostPages.move(hostPage(s.owner, INFO), 1, frameAt(s.owner, SPARE));
      give(s, INFO);
    },
  ],
  [
    'the host page of vcpu_info moves',
    (s) => {
      s.owner.hostPages.move(hostPage(s.owner, VCPU), 1, frameAt(s.owner, SPARE));
      give(s, VCPU);
    },
  ],
  [
    'the host page of shared_info goes, and comes back elsewhere',
    (s) => {
      s.owner.hostPages.unmap(hostPage(s.owner, INFO), 1);
      carry(s, INFO, SPARE);
      s.owner.hostPages.map(hostPage(s.owner, INFO), 1, frameAt(s.owner, SPARE));
    },
  ],
  [
    'an invalidation is announced, the page is moved by hand, and it is ended',
    (s) => {
      const at = hostPage(s.owner, INFO);
      s.owner.invalidateStart(at, at);
      carry(s, INFO, SPARE);
      s.owner.hostPages.map(at, 1, frameAt(s.owner, SPARE));
      s.owner.invalidateEnd();
    },
  ],
  [
    'the slot is deleted and made again over other pages',
    (s) => {
      const slot = slot0(s.owner);
      s.owner.memslots.delete(0);
      carry(s, INFO, INFO + 8);
      carry(s, VCPU, VCPU + 8);
      s.owner.memslots.set({ ...slot, bytes: 8 * PAGE_SIZE, hva: hostPage(s.owner, 8) });
    },
  ],
  [
    'the slot moves in guest addresses, and shared_info with it',
    (s) => {
      const slot = slot0(s.owner);
      s.owner.memslots.set({ ...slot, gpa: gpa(ELSEWHERE) });
      s.owner.setAttr({ type: 'shared_info', gfn: gfn(ELSEWHERE / PAGE_SIZE + INFO) });
      s.owner.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(ELSEWHERE + VCPU * PAGE_SIZE) });
    },
  ],
  [
    'shared_info is unregistered, carried and registered elsewhere',
    (s) => {
      s.owner.setAttr({ type: 'shared_info', gfn: null });
      carry(s, INFO, SPARE);
      s.owner.setAttr({ type: 'shared_info', gfn: gfn(SPARE) });
    },
  ],
  [
    'vcpu_info is registered elsewhere, and the old page is given away',
    (s) => {
      s.owner.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(SPARE * PAGE_SIZE + 256) });
      give(s, VCPU);
    },
  ],
  [
    'shared_info is registered by host address, then the slot goes and comes',
    (s) => {
      const slot = slot0(s.owner);
      s.owner.setAttr({ type: 'shared_info_hva', hva: hostPage(s.owner, INFO) });
      s.owner.memslots.delete(0);
      s.owner.memslots.set(slot);
    },
  ],
];

// ── the users ────────────────────────────────────────────────────────────────────────────────────────────────────────

const sends: Actor = (s) => {
  s.results.push(s.other.send(PORT));
};
const sendsMany: Actor = (s) => {
  s.results.push(s.other.sendMany([PORT, PORT]));
};
const drains: Actor = (s) => drain(s, s.other);

/** The guest answers what it is asked for; then nothing is lost and nothing invented. */
function accounted(sent: readonly number[]) {
  return (s: Scene): string | null => {
    for (let i = 0; i < 4 && s.owner.vcpu(0).upcallPending; i++) drain(s, s.owner);
    const accepted = s.results.filter((result) => result === 1).length;
    if (s.results.some((result) => ![1, 0, -11, -14, -22].includes(result))) return `results ${s.results.join(' ')}`;
    const expected = [...sent, ...Array.from({ length: accepted }, () => PORT)].sort();
    const handled = [...s.handled].sort();
    return JSON.stringify(handled) === JSON.stringify(expected) ? null : `handled ${handled}, sent ${expected}`;
  };
}

describe.each(moves)('R3 KF-01 KF-03 %s', (_what, move) => {
  test.each([
    ['a send', sends, []],
    ['a batch', sendsMany, []],
    ['a drain', drains, [OTHER_PORT]],
  ] as const)('inside every step of %s', (_user, a, pending) => {
    explore({
      setup: (s) => {
        for (const port of pending) s.owner.send(port);
      },
      who: 'other',
      a,
      b: move,
      waits: true,
      judge: accounted(pending),
    });
  });

  test('inside every step of a send that has to map its pages first', () => {
    explore({
      setup: (s) => {
        s.owner.invalidateStart(0, 2 ** 40);
        s.owner.invalidateEnd();
      },
      who: 'other',
      a: sends,
      b: move,
      waits: true,
      judge: accounted([]),
    });
  });

  test.each([
    ['a send', sends, []],
    ['a batch', sendsMany, []],
    ['a drain', drains, [OTHER_PORT]],
  ] as const)('with %s inside every step of it', (_user, b, pending) => {
    explore({
      setup: (s) => {
        for (const port of pending) s.owner.send(port);
      },
      who: 'owner',
      a: move,
      b,
      waits: false,
      judge: accounted(pending),
    });
  });
});

// ── KF-01..KF-03: refresh ────────────────────────────────────────────────────────────────────────────────────────────

describe('refresh', () => {
  const refreshes: Actor = (s) => {
    s.results.push(s.other.gpcs.refresh(s.other.region.sharedInfo) === 0 ? 0 : -11);
  };
  const drops: Actor = (s) => {
    s.owner.invalidateStart(0, 2 ** 40);
    s.owner.invalidateEnd();
  };

  test('KF-01 three parties: an invalidation in a refresh, with a user that looks at its begin and at its end', () => {
    const looks = (s: Scene): void => {
      s.results.push(s.third.kernel.send(s.third.vmBase, s.third.agent, PORT));
    };
    explore({
      setup: drops,
      who: 'other',
      a: refreshes,
      b: (s) => {
        const at = hostPage(s.owner, INFO);
        looks(s);
        s.owner.invalidateStart(at, at);
        looks(s);
        carry(s, INFO, SPARE);
        s.owner.hostPages.map(at, 1, frameAt(s.owner, SPARE));
        s.owner.invalidateEnd();
        looks(s);
      },
      waits: true,
      judge: (s) => (s.results.includes(0) ? accounted([])(s) : `the refresh gave up: ${s.results.join(' ')}`),
    });
  });

  test('KF-02 a second refresh and a change of slots inside every step: no success with the older translation', () => {
    explore({
      setup: drops,
      who: 'other',
      a: refreshes,
      b: (s) => {
        s.third.gpcs.refresh(s.third.region.sharedInfo);
        const slot = slot0(s.owner);
        s.owner.memslots.delete(0);
        carry(s, INFO, INFO + 8);
        s.owner.memslots.set({ ...slot, bytes: 8 * PAGE_SIZE, hva: hostPage(s.owner, 8) });
        s.third.gpcs.refresh(s.third.region.sharedInfo);
      },
      waits: true,
      judge: (s) => {
        const word = s.owner.region.words.load(s.owner.region.sharedInfo) >>> 0;
        // Mapped, by either, to where the page is now; `consistent` compares the place.
        return s.results[0] === 0 && word < 2 ** 32 - PAGE_SIZE ? null : 'not mapped';
      },
    });
  });

  test('KF-03 a deactivation inside every step, the frame given away, another registration, a send', () => {
    explore({
      setup: drops,
      who: 'other',
      a: refreshes,
      b: (s) => {
        s.owner.setAttr({ type: 'shared_info', gfn: null });
        give(s, INFO);
        s.owner.setAttr({ type: 'shared_info', gfn: gfn(SPARE) });
        s.results.push(s.owner.send(PORT));
      },
      waits: true,
      judge: (s) => {
        const bit = page(s.owner, SPARE)[0x800 + (PORT >> 3)];
        if (s.given.length > 0 && bit !== 1 << (PORT & 7)) return 'the event is not at the new place';
        // The ledger at the end: everything that was mapped can be unmapped, and then nothing is.
        s.owner.setAttr({ type: 'shared_info', gfn: null });
        s.owner.vcpu(0).setAttr({ type: 'vcpu_info', gpa: null });
        const mapped = [...s.owner.region.gpcs()].filter(
          (gpc) => s.owner.region.words.load(gpc) >>> 0 < 2 ** 32 - PAGE_SIZE,
        );
        return mapped.length === 0 ? null : 'something is still mapped';
      },
    });
  });

  test('KF-12 a foreign invalidation, begun and ended, inside every step: the refresh neither fails nor begins again', () => {
    let begun = 0;
    explore({
      setup: (s) => {
        drops(s);
        begun = 0;
        countBegins(s.other, () => {
          begun++;
        });
      },
      who: 'other',
      a: refreshes,
      b: (s) => {
        const at = hostPage(s.owner, 12);
        s.owner.invalidateStart(at, at);
        s.owner.invalidateEnd();
      },
      waits: true,
      judge: (s) => (s.results[0] === 0 && begun === 1 ? null : `result ${s.results[0]} after ${begun} begins`),
    });
  });
});

/** Counts the tokens that an agent puts into words: each refresh begins with one. */
function countBegins(vm: Vm, count: () => void): void {
  const { words } = vm.region;
  const load = words.load.bind(words);
  const token = (-4096 | ((vm.agentNumber + 1) << GPC_TOKEN_SHIFT)) >>> 0;
  // After each begin the TypeScript half looks whether its token stands.
  words.load = (at: number) => {
    const value = load(at);
    if (at === vm.region.sharedInfo && (value & ~GPC_MODE_BITS) >>> 0 === token) count();
    return value;
  };
}

// ── KF-05, KF-07, KF-08 ──────────────────────────────────────────────────────────────────────────────────────────────

test('KF-05 a reader inside, activations by the owner: its word is its own, and after it has left nobody waits', () => {
  const vm = makeVm({ shared: true });
  const reader = attachVm(vm.handle());
  const word = (): number => vm.region.words.load(reader.agent + AGENT_READER);
  vi.spyOn(Atomics, 'wait').mockReturnValue('timed-out');
  const before = word();
  reader.enter();
  for (let i = 0; i < 2; i++) {
    expect(errorOf(() => vm.setAttr({ type: 'shared_info', gfn: gfn(5 + i) })).code).toBe('EBUSY');
    expect(word()).toBe(before + 1);
  }
  reader.leave();
  expect(word()).toBe(before + 2);
  vm.setAttr({ type: 'shared_info', gfn: gfn(6) });
  expect(word()).toBe(before + 2);
  expect(reader.send(5)).toBe(1);
  expect(drained(vm)).toEqual([5]);
});

describe('KF-07 the page that is marked is the page that is written', () => {
  /** pages of areas, before and after */
  const AREAS = [5, 6, 7, SPARE, 10];
  const LOGGED: Actor = (s) => {
    s.owner.memslots.set({ ...slot0(s.owner), logDirty: true });
    s.owner.vcpu(0).setAttr({ type: 'vcpu_time_info', gpa: gpa(6 * PAGE_SIZE) });
    s.owner.vcpu(0).setAttr({ type: 'runstate_addr', gpa: gpa(7 * PAGE_SIZE) });
    for (const gpc of s.owner.region.gpcs()) s.owner.gpcs.refresh(gpc);
    s.owner.dirtyLog.take(0);
    for (const n of AREAS) page(s.owner, n).fill(CANARY);
  };

  /** Pages whose bytes are not those any more, against those that are marked. */
  const compares = (s: Scene): string | null => {
    const written = AREAS.filter((n) => page(s.owner, n).some((byte) => byte !== CANARY));
    const bits = s.owner.dirtyLog.take(0);
    const marked = AREAS.filter((n) => ((bits[n >> 3] ?? 0) >> (n & 7)) & 1);
    return JSON.stringify(written) === JSON.stringify(marked) ? null : `written ${written}, marked ${marked}`;
  };

  const writes: readonly [string, Actor][] = [
    ['a clock record', (s) => s.other.vcpu(0).writeTime(TIME_INFO)],
    ['a runstate', (s) => s.other.vcpu(0).enterRunstate('blocked', 0x0101010101010101n)],
    ['guest RAM', (s) => s.other.guestMemory.write(gpa(5 * PAGE_SIZE), new Uint8Array([1, 2, 3]))],
  ];
  const changes: readonly [string, Actor][] = [
    [
      'the areas are registered elsewhere',
      (s) => {
        s.owner.vcpu(0).setAttr({ type: 'vcpu_time_info', gpa: gpa(SPARE * PAGE_SIZE) });
        s.owner.vcpu(0).setAttr({ type: 'runstate_addr', gpa: gpa(10 * PAGE_SIZE) });
      },
    ],
    [
      'an unrelated slot comes',
      (s) => s.owner.memslots.set({ id: 5, gpa: gpa(ELSEWHERE), bytes: PAGE_SIZE, hva: hostPage(s.owner, 1) }),
    ],
    [
      'slots of the other address space come and go',
      (s) => {
        const slot = { addressSpace: 1, gpa: gpa(0), bytes: PAGE_SIZE, hva: hostPage(s.owner, 1), logDirty: true };
        s.owner.memslots.set({ id: 0, ...slot });
        s.owner.memslots.set({ id: 1, ...slot, gpa: gpa(PAGE_SIZE) });
        s.owner.memslots.delete(0, 1);
      },
    ],
  ];
  for (const [what, write] of writes) {
    test.each(changes)(`${what} is written, %s inside every step`, (_change, change) => {
      explore({ setup: LOGGED, who: 'other', a: write, b: change, waits: true, judge: compares });
    });
    test.each(changes)(`%s, ${what} is written inside every step`, (_change, change) => {
      explore({ setup: LOGGED, who: 'owner', a: change, b: write, waits: false, judge: compares });
    });
  }

  test('the slot is made again over other pages inside every step of a write: the bytes are where the guest sees them', () => {
    explore({
      setup: LOGGED,
      who: 'other',
      a: (s) => {
        s.results.push(s.other.guestMemory.write(gpa(5 * PAGE_SIZE), new Uint8Array([1, 2, 3])) ? 1 : 0);
      },
      b: (s) => {
        const slot = slot0(s.owner);
        s.owner.memslots.delete(0);
        s.owner.memslots.set({ ...slot, bytes: 8 * PAGE_SIZE, hva: hostPage(s.owner, 8), logDirty: true });
      },
      waits: true,
      judge: (s) => {
        const [first, second] = [page(s.owner, 5)[1] === 2, page(s.owner, 13)[1] === 2];
        const mark = ((s.owner.dirtyLog.take(0)[0] ?? 0) >> 5) & 1;
        if (s.results[0] !== 1 || first === second) return `result ${s.results[0]}, written ${first} ${second}`;
        // What was written before went with the old slot, its log and all.
        return mark === (second ? 1 : 0) || first ? null : `written, but marked ${mark}`;
      },
    });
  });
});

test('KF-08 nobody reads the slots outside a bracket, but for the owner and for a refresh that holds a token', () => {
  const reads: string[] = [];
  let what = '';
  const vm = makeVm({
    shared: true,
    guestPages: GUEST_PAGES,
    trace: {
      module: new WebAssembly.Module(kernelBytes('trace-shared')),
      onStep: (_kind, at) => {
        if (what === '' || at !== vm.vmBase + REGION_MEMSLOT_COUNT) return;
        reads.push(`${what} ${vm.region.bracketOpen(vm.agent)}`);
      },
    },
  });
  vm.memslots.set({ ...(vm.memslots.list()[0] as Memslot), logDirty: true });
  const vcpu = vm.vcpu(0);
  vcpu.setAttr({ type: 'vcpu_time_info', gpa: gpa(0x5000) });
  vcpu.setAttr({ type: 'runstate_addr', gpa: gpa(0x5ff0) });
  const uses: [string, () => unknown][] = [
    ['send', () => vm.send(5)],
    ['batch', () => vm.sendMany([1, 2, 3, 400])],
    ['drain', () => vcpu.drain()],
    ['flush', () => vcpu.resync()],
    ['halt', () => vcpu.enterRunstate('blocked', 5n)],
    ['block', () => vcpu.hasEvents],
    ['poll', () => vcpu.poll([1], 0)],
    ['time', () => vcpu.writeTime(TIME_INFO)],
    ['write', () => vm.guestMemory.write(gpa(0x5000), new Uint8Array(8))],
    ['entry', () => vcpu.beforeEntry()],
  ];
  for (const [name, use] of uses) {
    what = name;
    use();
  }
  what = '';
  // They do read them, to mark what they have written; and each in a bracket.
  expect(reads.length).toBeGreaterThan(4);
  expect(reads.filter((read) => read.endsWith('false'))).toEqual([]);
});
