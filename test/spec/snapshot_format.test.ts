// The bytes of a snapshot: whole, undamaged and in range, or refused with nothing changed; and files of earlier versions.
//
// A new version of the format: raise SNAPSHOT_VERSION, keep what reads version 1, and add test/fixtures/snapshot-v2.bin and .json
// (written by the last test here with WRITE_FIXTURES=1). The files of version 1 stay as they are and have to go on loading.

import { readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { readSnapshot, type Vm, type VmState } from '../../src/index.ts';
import { assemble, crc32, decode, seal } from '../../src/vm/snapshot/format.ts';
import { errorOf, makeVm, ram, random } from '../support.ts';
import { cast, changes, refuses, stateBytes } from './evidence.ts';
import { copyRam, emptyVm, furnishedVm } from './furnished.ts';

const HEADER = 16;
const [MAGIC_AT, VERSION_AT, CONTRACT_AT, LENGTH_AT] = [0, 4, 8, 12];

/** A copy with a u32 changed, and the checksum made right again. */
function patched(bytes: Uint8Array, at: number, value: number): Uint8Array {
  const copy = bytes.slice();
  new DataView(copy.buffer).setUint32(at, value, true);
  return sealed(copy);
}

/** Makes length and checksum right. */
function sealed(bytes: Uint8Array): Uint8Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  view.setUint32(LENGTH_AT, bytes.length, true);
  view.setUint32(bytes.length - 4, crc32(bytes.subarray(0, -4)), true);
  return bytes;
}

interface Section {
  readonly tag: string;
  readonly bytes: Uint8Array;
}

function sectionsOf(bytes: Uint8Array): Section[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const sections: Section[] = [];
  for (let at = HEADER; at < bytes.length - 4; ) {
    const length = 8 + view.getUint32(at + 4, true);
    sections.push({
      tag: String.fromCharCode(...bytes.subarray(at, at + 4)),
      bytes: bytes.subarray(at, at + length),
    });
    at += length;
  }
  return sections;
}

function joined(head: Uint8Array, sections: readonly Section[]): Uint8Array {
  const parts = [head.subarray(0, HEADER), ...sections.map(({ bytes }) => bytes), new Uint8Array(4)];
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return sealed(whole);
}

describe('CRC-32', () => {
  test('of "123456789" and of nothing is what the standard says', () => {
    expect(crc32(new TextEncoder().encode('123456789'))).toBe(0xcbf43926);
    expect(crc32(new Uint8Array())).toBe(0);
  });
});

describe('damage', () => {
  test('R4 R13 a snapshot that is cut off after any byte is refused, and nothing changes', () => {
    const saved = makeVm().snapshot();
    const vm = makeVm();
    const before = stateBytes(vm);
    for (let length = 0; length < saved.length; length++) {
      expect(errorOf(() => vm.restore(saved.subarray(0, length))).code).toBe('EINVAL');
    }
    expect(changes(before, stateBytes(vm))).toEqual([]);
    vm.restore(saved);
  });

  test.each([0xff, 1])('R4 R13 a snapshot with any byte changed by %i is refused, and nothing changes', (bits) => {
    const saved = makeVm().snapshot();
    const vm = makeVm();
    const before = stateBytes(vm);
    for (let at = 0; at < saved.length; at++) {
      const damaged = saved.slice();
      damaged[at] = (damaged[at] as number) ^ bits;
      expect(errorOf(() => vm.restore(damaged)).code, `byte ${at}`).toBe('EINVAL');
    }
    expect(changes(before, stateBytes(vm))).toEqual([]);
  });

  test('R4 a file whose checksum was made right again is read with care: every byte of a full one, changed, is refused or makes sense', () => {
    const saved = furnishedVm().snapshot();
    let refused = 0;
    for (let at = HEADER; at < saved.length - 4; at++) {
      const copy = saved.slice();
      copy[at] = (copy[at] as number) ^ 0x80;
      try {
        const state = readSnapshot(sealed(copy));
        // What was read is an object of its own: written again it is the same.
        expect(readSnapshot(seal(assemble({ state, ram: null })))).toEqual(state);
      } catch (error) {
        expect(cast<{ code: string }>(error).code, `byte ${at}`).toBe('EINVAL');
        refused++;
      }
    }
    expect(refused).toBeGreaterThan(100);
  });

  test.each([
    ['another magic', MAGIC_AT, 0x12345678, 'EVTS'],
    ['version 0', VERSION_AT, 0, 'version 0'],
    ['a version of the future', VERSION_AT, 2, 'version 2'],
  ])('%s is refused by name', (_, at, value, words) => {
    const vm = makeVm();
    const saved = patched(vm.snapshot(), at, value);
    refuses(vm, () => vm.restore(saved), 'EINVAL', words);
  });

  test('bytes behind the end are refused', () => {
    const vm = makeVm();
    const saved = vm.snapshot();
    const longer = new Uint8Array(saved.length + 1);
    longer.set(saved);
    refuses(vm, () => vm.restore(longer), 'EINVAL', saved.length + 1, saved.length);
  });

  test('who wrote it, by contract, does not matter', () => {
    const vm = makeVm();
    vm.restore(patched(vm.snapshot(), CONTRACT_AT, 0xdeadbeef));
  });

  test('it may lie anywhere in a larger buffer', () => {
    const saved = makeVm().snapshot({ ram: true });
    const larger = new Uint8Array(saved.length + 100);
    larger.set(saved, 3);
    const vm = makeVm();
    vm.restore(larger.subarray(3, 3 + saved.length));
    expect(vm.snapshot({ ram: true })).toEqual(saved);
  });
});

describe('sections', () => {
  test('KF-34 the order of the parts does not matter: 200 random ones make the same VM', () => {
    const from = furnishedVm();
    const saved = from.snapshot({ ram: true });
    const sections = sectionsOf(saved);
    const next = random(1);
    const vm = emptyVm();
    for (let i = 0; i < 200; i++) {
      const shuffled = sections
        .map((section) => ({ section, key: next(1_000_000) }))
        .sort((a, b) => a.key - b.key)
        .map(({ section }) => section);
      vm.restore(joined(saved, shuffled));
      expect(Buffer.compare(vm.snapshot({ ram: true }), saved)).toBe(0);
    }
  });

  test('KF-34 the parts of the object may be in any order as well', () => {
    const saved = furnishedVm().snapshotState();
    const vm = emptyVm();
    vm.restore(cast<VmState>(Object.fromEntries(Object.entries(saved).reverse())));
    expect(vm.snapshotState()).toEqual(saved);
  });

  test.each(sectionsOf(makeVm().snapshot({ ram: true })).map(({ tag }) => tag))(
    'one without %s, or with two, is refused',
    (tag) => {
      const vm = makeVm();
      const saved = vm.snapshot({ ram: true });
      const sections = sectionsOf(saved);
      const [section] = sections.filter((other) => other.tag === tag);
      if (tag !== 'RAM ') {
        const less = joined(
          saved,
          sections.filter((other) => other.tag !== tag),
        );
        refuses(vm, () => vm.restore(less), 'EINVAL', tag);
      }
      const more = joined(saved, [...sections, section as Section]);
      refuses(vm, () => vm.restore(more), 'EINVAL', 'two', tag);
    },
  );

  test('one that is not known is refused', () => {
    const vm = makeVm();
    const saved = vm.snapshot();
    const strange = { tag: 'XYZW', bytes: Uint8Array.of(88, 89, 90, 87, 0, 0, 0, 0) };
    refuses(vm, () => vm.restore(joined(saved, [...sectionsOf(saved), strange])), 'EINVAL', 'XYZW');
  });

  test('one that is longer than its values is refused', () => {
    const vm = makeVm();
    const saved = vm.snapshot();
    const sections = sectionsOf(saved).map(({ tag, bytes }) => {
      const longer = new Uint8Array(bytes.length + 1);
      longer.set(bytes);
      new DataView(longer.buffer).setUint32(4, bytes.length - 8 + 1, true);
      return { tag, bytes: longer };
    });
    refuses(vm, () => vm.restore(joined(saved, sections)), 'EINVAL', 'MACH', '1 bytes more');
  });

  test('a list that says it is longer than the file is refused before anything is read into it', () => {
    const vm = makeVm();
    const saved = vm.snapshot();
    const at = saved.length - 4 - (sectionsOf(saved).at(-1)?.bytes.length ?? 0) + 8;
    refuses(vm, () => vm.restore(patched(saved, at, 2 ** 32 - 1)), 'EINVAL', 'list of 4294967295');
  });

  test('RAM that is not whole pages of the window, lowest first, is refused', () => {
    const vm = makeVm();
    const { state } = decode(vm.snapshot());
    const page = new Uint8Array(4096);
    for (const ram of [
      [{ at: 1, bytes: page }],
      [{ at: 0, bytes: page.subarray(1) }],
      [{ at: 0, bytes: page.subarray(4096) }],
      [{ at: 16 * 4096, bytes: page }],
      [
        { at: 4096, bytes: page },
        { at: 4096, bytes: page },
      ],
    ]) {
      refuses(vm, () => vm.restore(seal(assemble({ state, ram }))), 'EINVAL', 'RAM');
    }
  });

  test('RAM is kept without its empty pages, and restored with them', () => {
    const from = makeVm({ guestPages: 1000 });
    const saved = from.snapshot({ ram: true });
    expect(saved.length).toBeLessThan(20_000);
    const to = makeVm({ guestPages: 1000 });
    new Uint8Array(to.memory.buffer, to.guestBase, to.guestBytes).fill(0xa5, 20 * 4096);
    to.restore(saved);
    expect(Buffer.compare(ram(to), ram(from))).toBe(0);
  });
});

describe('values', () => {
  /** Where the object has a value that is no object or list. */
  function leaves(value: unknown, path: readonly (string | number)[] = []): (readonly (string | number)[])[] {
    if (typeof value !== 'object' || value === null) return [path];
    return Object.entries(value).flatMap(([key, inner]) =>
      leaves(inner, [...path, Array.isArray(value) ? Number(key) : key]),
    );
  }

  function withValue<T>(object: T, path: readonly (string | number)[], value: unknown): T {
    const [key, ...rest] = path;
    if (key === undefined) return value as T;
    const inner = cast<Record<string | number, unknown>>(object);
    const changed = withValue(inner[key], rest, value);
    return cast<T>(Array.isArray(object) ? object.with(Number(key), changed) : { ...inner, [key]: changed });
  }

  const WRONG = [Number.NaN, 1.5, 2 ** 60, -(2 ** 60), 'x', '', '-1', '18446744073709551616', '01', {}, [], () => 1];

  test('R4 every value of a full snapshot, replaced by what it cannot be, is refused, and nothing changes', () => {
    const saved = furnishedVm().snapshotState();
    const vm = emptyVm();
    const before = stateBytes(vm);
    const paths = leaves(saved);
    expect(paths.length).toBeGreaterThan(150);
    for (const path of paths) {
      for (const wrong of [...WRONG, undefined]) {
        const error = errorOf(() => vm.restore(withValue(saved, path, wrong)));
        expect(['EINVAL', 'ENOSPC'], `${path.join('.')} = ${String(wrong)}`).toContain(error.code);
      }
    }
    expect(changes(before, stateBytes(vm))).toEqual([]);
    vm.restore(saved);
  });

  test('R4 a field that is missing or not known is refused by name', () => {
    const vm = emptyVm();
    const saved = furnishedVm().snapshotState();
    refuses(vm, () => vm.restore(cast({ ...saved, colour: 1 })), 'EINVAL', 'colour');
    for (const name of Object.keys(saved)) {
      const { [name as keyof VmState]: _, ...rest } = saved;
      refuses(vm, () => vm.restore(cast(rest)), 'EINVAL', name);
    }
    for (const strange of [null, 5, 'EVTS', [], new ArrayBuffer(8)])
      refuses(vm, () => vm.restore(cast(strange)), 'EINVAL');
  });

  /** A change of the full snapshot, and what the refusal says. */
  const CASES: readonly (readonly [
    name: string,
    path: string,
    value: unknown,
    code: 'EINVAL' | 'ENOSPC',
    words: readonly string[],
  ])[] = [
    ['other ids', 'machine.vcpuIds', [3, 9], 'EINVAL', ['vcpuIds', '3, 9', '3, 8']],
    ['more RAM', 'machine.guestBytes', 17 * 4096, 'EINVAL', ['guestBytes', '69632', '65536']],
    ['no interrupts', 'machine.irqchip', false, 'EINVAL', ['irqchip']],
    ['no runstate', 'machine.schedInfo', false, 'EINVAL', ['schedInfo']],
    ['another processor', 'machine.amd', true, 'EINVAL', ['amd']],
    ['Hyper-V', 'machine.hyperv', true, 'EINVAL', ['hyperv']],
    ['host pages', 'machine.hostTable', true, 'EINVAL', ['hostTable']],
    ['rings', 'machine.dirtyRings', true, 'EINVAL', ['dirtyRings']],
    ['flags that are not known', 'config.flags', 1, 'EINVAL', ['0x1', '0xa2']],
    ['an MSR elsewhere', 'config.msr', 0x1b, 'EINVAL', ['27']],
    ['a blob beside interception', 'config.blobPagesLong', 1, 'EINVAL', ['blob']],
    ['a blob outside the address space', 'config.blobLong', 2 ** 47, 'EINVAL', ['blob']],
    ['vector 15', 'attributes.upcallVector', 15, 'EINVAL', ['15', '16']],
    ['shared_info across pages', 'attributes.sharedInfo.address', 0x3001, 'EINVAL', ['shared_info', '12289']],
    [
      'shared_info across pages before the window',
      'attributes.sharedInfo',
      { by: 'hva', address: -4095, far: null },
      'EINVAL',
      ['shared_info', '-4095'],
    ],
    ['shared_info below 0', 'attributes.sharedInfo.address', -4096, 'EINVAL', ['shared_info']],
    ['a far address that it does not stand for', 'attributes.sharedInfo.far', '9007199254740992', 'EINVAL', ['stand']],
    ['one generation', 'generations', ['2'], 'EINVAL', ['1', '2']],
    ['a generation under way', 'generations.0', '9223372036854775808', 'EINVAL', ['generation']],
    ['a slot that is not aligned', 'memslots.0.gpa', 1, 'EINVAL', ['gpa', '4096']],
    ['a slot of 100 bytes', 'memslots.0.bytes', 4196, 'EINVAL', ['bytes', '4196']],
    ['a slot behind the end', 'memslots.0.gpa', 2 ** 52 - 4096, 'EINVAL', ['end']],
    ['a slot outside the host addresses', 'memslots.0.hva', 2 ** 46 * 2 - 8192, 'EINVAL', ['host address']],
    ['two slots of one id', 'memslots.1.id', 0, 'EINVAL', ['two', 'memory slots', '0']],
    ['slots that overlap', 'memslots.1.gpa', 0xf000, 'EINVAL', ['overlap', '0', '7']],
    ['dirty pages behind the slot', 'memslots.1.dirty.0.pages', 9, 'EINVAL', ['memory slot 7']],
    ['dirty pages without a bitmap', 'memslots.1.logDirty', false, 'EINVAL', ['bitmap']],
    [
      'host pages without a table',
      'hostPages',
      [{ first: 0, pages: 1, frame: 0, writable: true }],
      'EINVAL',
      ['table'],
    ],
    ['a port on vCPU 2', 'ports.0.vcpu', 2, 'EINVAL', ['port 9', '2', '1']],
    ['a port bound twice', 'ports.1.port', 9, 'EINVAL', ['two', '9']],
    ['an IPI to another port', 'sendPorts.0.target.port', 20, 'EINVAL', ['send port 21', 'IPI']],
    ['two send ports', 'sendPorts.1.sendPort', 21, 'EINVAL', ['two', '21']],
    ['an eventfd that is not there', 'sendPorts.1.target', { kind: 'eventfd', fd: 6 }, 'EINVAL', ['send port 22', '6']],
    ['an IPI to an eventfd', 'sendPorts.2.channel', 'ipi', 'EINVAL', ['send port 23', 'IPI']],
    ['a standard stream', 'eventfds.0.fd', 2, 'EINVAL', ['2', '3']],
    ['an eventfd too many', 'eventfds.0.fd', 7, 'ENOSPC', ['5', '4', 'eventfds']],
    ['two eventfds', 'eventfds.0.fd', 4, 'EINVAL', ['two', '4']],
    ['a closed eventfd with an interrupt', 'eventfds.0.open', false, 'EINVAL', ['3', 'gsi 24']],
    ['two routes of a gsi', 'routes.3.gsi', 24, 'EINVAL', ['gsi 24']],
    ['two routes to a chip', 'routes.2.target.irqchip', 0, 'EINVAL', ['gsi 4']],
    ['a chip that there is not', 'routes.1.target.irqchip', 3, 'EINVAL', ['chip', '3']],
    ['a pin that there is not', 'routes.1.target.pin', 8, 'EINVAL', ['pin', '8']],
    ['three vCPUs', 'vcpus', [0, 0, 0], 'EINVAL', ['vcpus']],
    ['an own vector of 3', 'vcpus.0.upcallVector', 3, 'EINVAL', ['vCPU 0', '3']],
    ['a vcpu_info across pages', 'vcpus.1.vcpuInfo.address', 0x4fff, 'EINVAL', ['vcpu_info of vCPU 1']],
    ['a time info at a host address', 'vcpus.0.timeInfo.by', 'hva', 'EINVAL', ['vcpu_time_info', 'host']],
    ['a runstate area at the end', 'vcpus.0.runstateArea.address', 2 ** 53 - 2, 'EINVAL', ['runstate area']],
    ['times that do not add up', 'vcpus.0.runstate.times.running', '1', 'EINVAL', ['vCPU 0', 'add up']],
    ['a TSC that cannot be scaled', 'vcpus.1.tsc.hz', 2 ** 52, 'EINVAL', ['TSC', '2000000000']],
    ['a ring without rings', 'vcpus.1.ring.reset', 1, 'EINVAL', ['dirty ring']],
  ];

  test.each(CASES)(
    'R4 %s: refused with the value and the limit, and nothing changes',
    (_, path, value, code, words) => {
      const vm = emptyVm();
      const keys = path.split('.').map((key) => (/^\d+$/.test(key) ? Number(key) : key));
      const saved = withValue(furnishedVm().snapshotState(), keys, value);
      refuses(vm, () => vm.restore(saved), code, ...words);
    },
  );

  test('an eventfd that nobody refers to is refused', () => {
    const vm = emptyVm();
    const saved = furnishedVm().snapshotState();
    refuses(vm, () => vm.restore({ ...saved, sendPorts: saved.sendPorts.slice(0, 2) }), 'EINVAL', 'eventfd 4');
  });

  test('the object survives JSON', () => {
    const saved = furnishedVm().snapshotState();
    const vm = emptyVm();
    vm.restore(JSON.parse(JSON.stringify(saved)));
    expect(vm.snapshotState()).toEqual(saved);
  });
});

describe('fixtures', () => {
  const BYTES = 'test/fixtures/snapshot-v1.bin';
  const OBJECT = 'test/fixtures/snapshot-v1.json';

  // Of a new version, once: those of older ones stay as they are.
  if (process.env['WRITE_FIXTURES']) {
    test('write them', () => {
      const vm = furnishedVm();
      writeFileSync(BYTES, vm.snapshot());
      writeFileSync(OBJECT, `${JSON.stringify(vm.snapshotState(), null, 2)}\n`);
    });
  }

  test('R13 a file of version 1 loads, and is what it was', () => {
    const saved = new Uint8Array(readFileSync(BYTES));
    const expected: unknown = JSON.parse(readFileSync(OBJECT, 'utf8'));
    expect(readSnapshot(saved)).toEqual(expected);
    const vm = emptyVm();
    copyRam(furnishedVm(), vm);
    vm.restore(saved);
    expect(vm.snapshotState()).toEqual(expected);
    expect(continued(vm)).toEqual(continued(furnishedVm()));
  });

  test('this library writes the same file: a change of the format is a new version', () => {
    const written = furnishedVm().snapshot();
    const saved = new Uint8Array(readFileSync(BYTES));
    const contract = new DataView(saved.buffer).getUint32(CONTRACT_AT, true);
    expect(patched(written, CONTRACT_AT, contract)).toEqual(saved);
  });

  /** What a guest sees next. */
  function continued(vm: Vm): unknown {
    vm.unmask(40);
    const ports = [9, 40, 64].map((port) => vm.portStatus(port));
    return { time: vm.kvmclock.now(), tsc: vm.vcpu(1).readTsc(), ports, routes: vm.routes.list() };
  }
});
