// What others can see of a change while it is made: one agent works step by step, another looks or acts inside every step.

import { readdirSync, readFileSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { afterEach, describe, expect, test, vi } from 'vitest';
import {
  AGENT_READER,
  REGION_INVALIDATE_ACTIVE,
  REGION_INVALIDATE_SEQ,
  VCPU_KICK,
  VCPU_RUNSTATE1_GPC,
  VCPU_RUNSTATE2_GPC,
  VCPU_SHADOW_HI,
  VCPU_SHADOW_LO,
} from '../../src/abi/region.ts';
import { STEP_LOAD, STEP_NOTIFY, STEP_PLAIN, STEP_RMW, STEP_STORE } from '../../src/abi/step.ts';
import { attachVm, gfn, type Vm, type VmAttr } from '../../src/index.ts';
import { Words } from '../../src/memory/words.ts';
import { drained, KINDS, LAYOUTS, makeVm, pendingBit, ram, SHARED_INFO_GPA, VCPU_INFO_GPA } from '../support.ts';
import {
  dropMappings,
  guestSets,
  guestTakes,
  layoutOf,
  noNaps,
  shadow,
  traceOf,
  tracing,
  unregister,
} from './evidence.ts';
import { EDGE, runstateAddr } from './runstate_record.ts';
import { everyStep, Steps } from './steps.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

interface Step {
  readonly kind: number;
  readonly address: number;
}

/** A VM whose kernel takes notes while `record` runs a call. */
function recorder(
  options: Parameters<typeof makeVm>[0] & { shared: boolean },
  onStep: (step: Step) => void = () => {},
) {
  const steps: Step[] = [];
  let recording = false;
  const trace = tracing(options.shared, {
    onStep: (kind, address) => {
      if (!recording) return;
      steps.push({ kind, address });
      recording = false;
      onStep({ kind, address });
      recording = true;
    },
  });
  const vm = makeVm({ ...options, ...trace });
  const record = (call: () => unknown): Step[] => {
    steps.length = 0;
    recording = true;
    call();
    recording = false;
    return [...steps];
  };
  return { vm, record };
}

// ── how words change ─────────────────────────────────────────────────────────────────────────────────────────────────

describe.each(KINDS)('$layout layout, shared memory: $shared', ({ longMode, shared, maxPorts }) => {
  const PORT = 77;

  /** Addresses of the words that an event of PORT changes. */
  function wordsOf(vm: Vm) {
    const { pending, selector, wordBytes, bits } = layoutOf(vm);
    const index = Math.floor(PORT / bits);
    return {
      pending: vm.guestBase + SHARED_INFO_GPA + pending + index * wordBytes,
      selector: vm.guestBase + VCPU_INFO_GPA + selector,
      byte: vm.guestBase + VCPU_INFO_GPA,
      shadowLo: vm.vcpu(0).line + VCPU_SHADOW_LO,
      shadowHi: vm.vcpu(0).line + VCPU_SHADOW_HI,
    };
  }
  const changesOf = (steps: readonly Step[], address: number): number[] =>
    steps.filter((step) => step.address === address && step.kind !== STEP_LOAD).map(({ kind }) => kind);

  test('KX-EVT-67 a send changes pending and selector by one read-modify-write each, and the upcall byte by a store', () => {
    const { vm, record } = recorder({ longMode, shared });
    const at = wordsOf(vm);
    const steps = record(() => vm.send(PORT));
    expect(changesOf(steps, at.pending)).toEqual([STEP_RMW]);
    expect(changesOf(steps, at.selector)).toEqual([STEP_RMW]);
    expect(changesOf(steps, at.byte)).toEqual([STEP_STORE]);
    // One byte: its neighbour, the guest's own, stays.
    expect([...ram(vm).subarray(VCPU_INFO_GPA, VCPU_INFO_GPA + 4)]).toEqual([1, 0, 0, 0]);
    expect(steps.filter(({ kind }) => kind === STEP_PLAIN)).toEqual([]);
  });

  test('KX-EVT-67 so do a batch and an unmask, and the shadow changes by read-modify-writes', () => {
    const { vm, record } = recorder({ longMode, shared });
    const at = wordsOf(vm);
    const batch = record(() => vm.sendMany([PORT, PORT + 1]));
    expect(changesOf(batch, at.pending)).toEqual([STEP_RMW]);
    expect(changesOf(batch, at.selector)).toEqual([STEP_RMW]);
    expect(changesOf(batch, at.byte)).toEqual([STEP_STORE]);
    guestTakes(vm);
    guestSets(vm, 'mask', PORT);
    const unmask = record(() => vm.unmask(PORT));
    expect(changesOf(unmask, at.selector)).toEqual([STEP_RMW]);
    expect(changesOf(unmask, at.byte)).toEqual([STEP_STORE]);

    const away = recorder({ longMode, shared });
    unregister(away.vm);
    const send = away.record(() => away.vm.send(PORT));
    expect(changesOf(send, at.shadowLo)).toEqual([STEP_RMW]);
    expect(changesOf(send, at.shadowHi).filter((kind) => kind !== STEP_RMW)).toEqual([]);
  });

  test('KX-EVT-67 whatever is done, these words change by read-modify-writes only', () => {
    const { vm, record } = recorder({ longMode, shared });
    const at = wordsOf(vm);
    const last = maxPorts - 1;
    const all = record(() => {
      for (let round = 0; round < 2; round++) {
        vm.send(PORT);
        vm.sendMany(Array.from({ length: 900 }, (_, i) => (i % last) + 1));
        vm.mask(PORT);
        vm.unmask(PORT);
        vm.vcpu(0).resync();
        dropMappings(vm);
        vm.send(PORT + 1);
        vm.vcpu(0).flushShadow();
        vm.vcpu(0).drain(() => {});
      }
    });
    for (const address of [at.pending, at.selector, at.shadowLo, ...(longMode ? [at.shadowHi] : [])]) {
      expect(new Set(changesOf(all, address)), String(address)).toEqual(new Set([STEP_RMW]));
    }
    expect(new Set(changesOf(all, at.byte))).toEqual(new Set([STEP_STORE]));
  });

  test('KX-MEM-04 who sees the count of invalidations fall sees the sequence risen', () => {
    const seen: [active: number, seq: number][] = [];
    let look = (): void => {};
    const { vm, record } = recorder({ longMode, shared }, () => look());
    const { words, base } = vm.region;
    look = () => seen.push([words.load(base + REGION_INVALIDATE_ACTIVE), words.load(base + REGION_INVALIDATE_SEQ)]);
    vm.invalidateStart(vm.guestBase, vm.guestBase + 4095);
    vm.invalidateStart(vm.guestBase, vm.guestBase + 4095);
    const before = words.load(base + REGION_INVALIDATE_SEQ);
    const steps = record(() => vm.invalidateEnd());
    look();
    for (const [active, seq] of seen) expect(active < 2 ? seq : before + 1).toBe(before + 1);
    expect(seen[0]).toEqual([2, before]);
    expect(seen.at(-1)).toEqual([1, before + 1]);
    expect(steps.filter(({ kind }) => kind === STEP_RMW).map(({ address }) => address - base)).toEqual([
      REGION_INVALIDATE_SEQ,
      REGION_INVALIDATE_ACTIVE,
    ]);
    vm.invalidateEnd();
  });

  // ── one area over two pages ────────────────────────────────────────────────────────────────────────────────────────

  test('KX-RUN-44 KX-ABI-24 a runstate over two pages: both mappings are held before the first byte is written', () => {
    const { vm, record } = recorder({ longMode, shared });
    const { record: at } = vm.vcpu(0);
    for (let place = EDGE - 43; place < EDGE; place++) {
      runstateAddr(vm, place);
      const steps = record(() => vm.vcpu(0).enterRunstate(place % 2 ? 'blocked' : 'running', BigInt(place)));
      const inRam = (address: number): boolean =>
        address >= vm.guestBase + place && address < vm.guestBase + place + 48;
      const firstWrite = steps.findIndex(({ kind, address }) => kind !== STEP_LOAD && inRam(address));
      expect(firstWrite).toBeGreaterThan(0);
      for (const gpc of [at + VCPU_RUNSTATE1_GPC, at + VCPU_RUNSTATE2_GPC]) {
        const looks = steps.flatMap(({ kind, address }, i) => (kind === STEP_LOAD && address === gpc ? [i] : []));
        expect(looks.length).toBeGreaterThan(0);
        for (const i of looks) expect(i).toBeLessThan(firstWrite);
      }
      // Held: one bracket, entered before the looks and left after the last byte.
      const brackets = steps
        .map(({ address }, i) => (address === vm.agent + AGENT_READER ? i : -1))
        .filter((i) => i >= 0);
      const inside = brackets.filter((i) => i > firstWrite);
      const lastWrite = steps.findLastIndex(({ kind, address }) => kind !== STEP_LOAD && inRam(address));
      for (const i of inside) expect(i).toBeGreaterThan(lastWrite);
    }
  });

  // ── kicks ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Steps that touch what a mapping leads to. */
  const ofGuest = (vm: Vm, { address }: Step): boolean =>
    address >= vm.guestBase && address < vm.guestBase + vm.guestBytes;

  test('KX-EVT-19 a kick is asked for and given after the last access to the guest’s pages', () => {
    const calls: ((vm: Vm) => unknown)[] = [
      (vm) => vm.send(PORT),
      (vm) => vm.sendMany([PORT, 3]),
      (vm) => vm.evtchnSend({ port: PORT, vcpu: 0 }),
    ];
    for (const away of [false, true]) {
      for (const call of calls) {
        const { vm, record } = recorder({ longMode, shared });
        if (away) unregister(vm);
        if (shared) vm.kernel.sleepBegin(vm.vmBase, vm.agent, 0);
        else vm.vcpu(0).onUpcall(() => {});
        const steps = record(() => call(vm));
        const kick = steps.findIndex(({ address }) => address === vm.vcpu(0).line + VCPU_KICK);
        expect(kick).toBeGreaterThan(0);
        expect(steps.slice(0, kick).some((step) => ofGuest(vm, step))).toBe(true);
        expect(steps.slice(kick).filter((step) => ofGuest(vm, step))).toEqual([]);
        if (shared) expect(steps.slice(kick).filter(({ kind }) => kind === STEP_NOTIFY)).toHaveLength(1);
      }
    }
  });

  // The reference lets go of its locks before a kick because the vCPU that it wakes would take them. Here the sender's bracket is
  // still open at the notify, and nobody who delivers or receives waits for a bracket: only a change of mappings does.
  test('KX-EVT-19 KF-25 who is kicked can take the event at once, although the sender has not returned: it and its payload are there', () => {
    let atKick = (): void => {};
    const { vm, record } = recorder({ longMode, shared, vcpus: 2 }, ({ kind }) => {
      if (kind === STEP_NOTIFY) atKick();
    });
    const receiver = shared ? attachVm(vm.handle(), { trace: traceOf(shared, {}) }) : vm;
    const payload = 0x8000;
    const found: unknown[] = [];
    const consume = (): void => {
      found.push(pendingBit(vm, PORT), ram(vm)[VCPU_INFO_GPA], ram(vm)[payload]);
      found.push(drained(receiver));
    };
    if (shared) vm.kernel.sleepBegin(vm.vmBase, receiver.agent, 0);
    else vm.vcpu(0).onUpcall(consume);
    atKick = consume;
    record(() => {
      ram(vm)[payload] = 42;
      expect(vm.send(PORT)).toBe(1);
    });
    expect(found).toEqual([true, 1, 42, [PORT]]);
    expect(drained(vm)).toEqual([]);
  });

  test('KF-25 a batch notifies when all its events of the vCPU are there', () => {
    let atKick = (): void => {};
    const { vm, record } = recorder({ longMode, shared }, ({ kind }) => {
      if (kind === STEP_NOTIFY) atKick();
    });
    const ports = [5, 6, 70, 300, maxPorts - 1];
    const found: number[][] = [];
    const receiver = shared ? attachVm(vm.handle(), { trace: traceOf(shared, {}) }) : vm;
    const consume = (): void => void found.push(drained(receiver));
    if (shared) vm.kernel.sleepBegin(vm.vmBase, receiver.agent, 0);
    else vm.vcpu(0).onUpcall(consume);
    atKick = consume;
    record(() => vm.sendMany(ports));
    expect(found).toEqual([ports]);
  });

  test('KF-25 with vcpu_info away the event and its shadow are there at the notify', () => {
    let atKick = (): void => {};
    const { vm, record } = recorder({ longMode, shared }, ({ kind }) => {
      if (kind === STEP_NOTIFY) atKick();
    });
    unregister(vm);
    const found: unknown[] = [];
    const look = (): void => void found.push(pendingBit(vm, PORT), shadow(vm) !== 0n);
    if (shared) vm.kernel.sleepBegin(vm.vmBase, vm.agent, 0);
    else vm.vcpu(0).onUpcall(look);
    atKick = look;
    record(() => vm.send(PORT));
    expect(found).toEqual([true, true]);
  });
});

// ── attributes are one step for others ───────────────────────────────────────────────────────────────────────────────

describe.each(LAYOUTS)('attributes in steps, $layout layout', ({ longMode }) => {
  const PORT = 33;

  function world(inside: Steps): { owner: Vm; other: Vm } {
    noNaps();
    const owner = makeVm({ longMode, shared: true, ...{ trace: inside.trace(true) } });
    inside.watch(owner);
    return { owner, other: attachVm(owner.handle(), { trace: traceOf(true, {}) }) };
  }

  /** What is left of a send and a set: the result, and where the event is. */
  function outcome(owner: Vm, result: number): string {
    return JSON.stringify([result, owner.maxPorts, Buffer.from(ram(owner)).toString('base64')]);
  }

  const SETS: [string, VmAttr][] = [
    ['long_mode', { type: 'long_mode', enabled: !longMode }],
    ['shared_info', { type: 'shared_info', gfn: gfn(9) }],
    ['shared_info, taken away', { type: 'shared_info', gfn: null }],
    ['upcall_vector', { type: 'upcall_vector', vector: 0x51 }],
    ['xen_version', { type: 'xen_version', version: 0x40011 }],
    ['runstate_update_flag', { type: 'runstate_update_flag', enabled: true }],
  ];

  test.each(SETS)('KX-VMA-01 a send inside every step of a set of %s: as if before or after it', (_, attr) => {
    for (const port of [PORT, 2000]) {
      const pure = (first: (owner: Vm, other: Vm) => number, then: (owner: Vm, other: Vm) => number): string => {
        const { owner, other } = world(new Steps());
        const results = [first(owner, other), then(owner, other)];
        return outcome(owner, Math.max(...results.filter((result) => result !== Number.NEGATIVE_INFINITY)));
      };
      const set = (owner: Vm): number => {
        owner.setAttr(attr);
        return Number.NEGATIVE_INFINITY;
      };
      const send = (_owner: Vm, other: Vm): number => other.send(port);
      const unsent = (): string => {
        const { owner } = world(new Steps());
        owner.setAttr(attr);
        // While the mapping changes a send finds none; it gives up before the set can go on, with nothing changed. [KX-EVT-12]
        return outcome(owner, -11);
      };
      const allowed = [pure(set, send), pure(send, set), ...(attr.type === 'shared_info' ? [unsent()] : [])];
      const steps = everyStep((at) => {
        const inside = new Steps();
        const { owner, other } = world(inside);
        let result = Number.NaN;
        inside.run(
          at,
          () => owner.setAttr(attr),
          () => {
            result = other.send(port);
          },
        );
        if (at < 0) return inside;
        expect(allowed.indexOf(outcome(owner, result)), `step ${at}: ${result}`).toBeGreaterThanOrEqual(0);
        return inside;
      });
      expect(steps).toBeGreaterThan(0);
    }
  });

  test.each(SETS)('KX-VMA-01 a get inside every step of a set of %s: the old value or the new one', (_, attr) => {
    const { owner: before } = world(new Steps());
    const old = before.getAttr(attr.type);
    let different = 0;
    everyStep((at) => {
      const inside = new Steps();
      const { owner, other } = world(inside);
      inside.run(
        at,
        () => owner.setAttr(attr),
        () => {
          const seen = other.getAttr(attr.type);
          expect([old, attr]).toContainEqual(seen);
          if (JSON.stringify(seen) !== JSON.stringify(old)) different++;
        },
      );
      expect(owner.getAttr(attr.type)).toEqual(attr);
      return inside;
    });
    // Simple ones are a single store: nobody sees the new value before it is over.
    if (attr.type === 'shared_info') expect(different).toBeGreaterThan(0);
  });
});

// ── 64 bits from TypeScript ──────────────────────────────────────────────────────────────────────────────────────────

/** The files of the library, by their paths. */
function sources(): string[] {
  return readdirSync('src', { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .map((file) => `src/${file.replaceAll('\\', '/')}`);
}

describe('KF-84 64-bit fields from TypeScript', () => {
  /** Files that make a view of the memory, and what for. */
  const VIEWS: Readonly<Record<string, readonly string[]>> = {
    // The one way to shared words; `view` is of what only the agent writes, `bytes` of what no protocol orders.
    'src/memory/words.ts': ['BigUint64Array', 'DataView', 'Int32Array', 'Uint8Array'],
    // The agent's own lists of ports.
    'src/vm/vm.ts': ['Uint32Array'],
    'src/vm/vcpu.ts': ['Uint32Array'],
    'src/vm/events/poll.ts': ['Uint32Array'],
    // A memory of its own, which is tried out.
    'src/platform.ts': ['Int32Array'],
    // The explorer's own memory, in which nothing runs but what it runs.
    'src/explore/actor.ts': ['Int32Array'],
    'src/explore/sharing.ts': ['Uint16Array'],
    'src/explore/state_memory.ts': ['Int32Array'],
    'src/explore/world.ts': ['Int32Array'],
  };

  test('KF-84 views of the memory are made in these files only', () => {
    const found: Record<string, string[]> = {};
    for (const file of sources()) {
      const source = readFileSync(file, 'utf8');
      const made = [...source.matchAll(/new (\w+(?:Array|View))\(\s*[\w.#]*memory\.buffer/g)].map(
        (m) => m[1] as string,
      );
      if (made.length > 0) found[file] = [...new Set(made)].sort();
    }
    expect(found).toEqual(VIEWS);
  });

  test('KF-84 a DataView of the region is of the agent’s own record only', () => {
    let uses = 0;
    for (const file of sources()) {
      const source = readFileSync(file, 'utf8');
      for (const [, argument] of source.matchAll(/words\s*\.view\(\s*([^,]+),/g)) {
        expect(argument, file).toBe('vm.agent + AGENT_RECORD');
        uses++;
      }
    }
    expect(uses).toBeGreaterThan(0);
  });

  test('KF-84 a field of 64 bits is read and written by one atomic of 64 bits', () => {
    const words = new Words(new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true }));
    const calls = (['load', 'store', 'exchange', 'compareExchange'] as const).map((name) => vi.spyOn(Atomics, name));
    words.store64(8, 2n ** 64n - 1n);
    expect(words.load64(8)).toBe(2n ** 64n - 1n);
    expect(words.exchange64(8, 2n ** 63n)).toBe(2n ** 64n - 1n);
    expect(words.compareExchange64(8, 2n ** 63n, 5n)).toBe(2n ** 63n);
    expect(words.load64(8)).toBe(5n);
    expect(calls.map(({ mock }) => mock.calls.length)).toEqual([2, 1, 1, 1]);
    for (const { mock } of calls)
      for (const [view, at] of mock.calls) expect([view, at]).toEqual([expect.any(BigUint64Array), 1]);
  });

  test('KF-84 no read of a field that another thread changes is torn', async () => {
    const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
    const words = new Words(memory);
    const writer = new Worker(
      `const { workerData } = require('node:worker_threads');
       const words = new BigUint64Array(workerData.buffer);
       for (let i = 0; Atomics.load(words, 0) === 0n; i++) Atomics.store(words, 1, i % 2 ? 0n : 0xffffffffffffffffn);`,
      { eval: true, workerData: memory },
    );
    const over = new Promise((resolve) => writer.once('exit', resolve));
    const whole = [0n, 2n ** 64n - 1n];
    let changes = 0;
    for (let last = 0n, i = 0; i < 5_000_000 && changes < 2_000; i++) {
      const seen = words.load64(8);
      if (!whole.includes(seen)) expect.fail(`torn: ${seen.toString(16)}`);
      if (seen !== last) changes++;
      last = seen;
      // Lets the worker start.
      if (changes === 0 && i % 1000 === 999) await new Promise((resolve) => setImmediate(resolve));
    }
    words.store64(0, 1n);
    await over;
    expect(changes).toBeGreaterThan(0);
  });
});
