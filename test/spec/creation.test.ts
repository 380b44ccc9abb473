// What createVm, regionBytes and the address constructors refuse: the code, the sentence, and nothing written.

import { describe, expect, test } from 'vitest';
import * as errno from '../../src/abi/errno.ts';
import { PAGE_SIZE } from '../../src/abi/shared_info.ts';
import { createVm, EvtchnError, errnoName, gfn, gpa, hva, regionBytes, type VmOptions } from '../../src/index.ts';
import { errorOf } from '../support.ts';
import { cast } from './evidence.ts';
import { named, outside } from './values.ts';

describe('EvtchnError', () => {
  test('has a code, its number, and begins its sentence with the code', () => {
    const error = new EvtchnError('EFAULT', 'why');
    expect(error).toBeInstanceOf(Error);
    expect([error.name, error.code, error.errno, error.message]).toEqual(['EvtchnError', 'EFAULT', 14, 'EFAULT: why']);
  });

  test('every result has the name of the table, strangers have none', () => {
    for (const [name, number] of Object.entries(errno)) expect(errnoName(-number)).toBe(name);
    expect([0, 1, 5, -1000, 107].map(errnoName)).toEqual([undefined, undefined, undefined, undefined, undefined]);
    expect([errnoName(-107), errnoName(-11), errnoName(-22)]).toEqual(['ENOTCONN', 'EAGAIN', 'EINVAL']);
  });
});

describe('address constructors', () => {
  test.each([
    { name: 'gpa', make: gpa as (value: number) => number, max: Number.MAX_SAFE_INTEGER },
    { name: 'gfn', make: gfn as (value: number) => number, max: 2 ** 41 - 1 },
    { name: 'hva', make: hva as (value: number) => number, max: 2 ** 47 - 4097 },
  ])('$name', ({ make, max }) => {
    for (const good of [0, 1, max - 1, max]) expect(make(good)).toBe(good);
    for (const bad of outside(0, max, [])) {
      const error = errorOf(() => make(cast(bad)));
      expect(error.code).toBe('EINVAL');
      expect(error.message).toContain(String(bad));
      expect(error.message).toContain(String(max));
    }
  });
});

/** Undefined means the default. */
const given = (min: number, max: number) => named(outside(min, max).filter((value) => value !== undefined));

/** How many there may be of everything: the option, its limits, its default. */
const SIZES = [
  { size: 'vcpus', min: 1, max: 4096, usual: 1 },
  { size: 'agents', min: 1, max: 1023, usual: 8 },
  { size: 'memslots', min: 1, max: 32764, usual: 32 },
  { size: 'hostPages', min: 0, max: 2 ** 20, usual: 0 },
  { size: 'dirtyPages', min: 0, max: 2 ** 20, usual: 512 },
  { size: 'routes', min: 0, max: 4096, usual: 1024 },
  { size: 'eventfds', min: 0, max: 65536, usual: 64 },
] as const;

describe('regionBytes', () => {
  describe.each(SIZES)('$size', ({ size, min, max, usual }) => {
    test.each(given(min, max))('$name', ({ value }) => {
      const error = errorOf(() => regionBytes({ [size]: cast<number>(value) }));
      expect(error.code).toBe('EINVAL');
      for (const word of [value, min, max]) expect(error.message).toContain(String(word));
    });
    test('from the least to the most, and by default', () => {
      expect(regionBytes({ [size]: min })).toBeLessThan(regionBytes({ [size]: max }));
      expect(regionBytes({ [size]: usual })).toBe(regionBytes());
    });
  });

  test.each(given(0, 2 ** 20).filter(({ value }) => !(Number(value) > 2 ** 20)))(
    'KX-MEM-36 a dirty ring of $name bytes',
    ({ value }) => {
      const error = errorOf(() => regionBytes({ dirtyRingBytes: cast(value) }));
      expect(error.code).toBe('EINVAL');
      for (const word of [value, 2048, 2 ** 20]) expect(error.message).toContain(String(word));
    },
  );
  test('KX-MEM-36 a dirty ring: a power of two, room for what is reserved, and not too large', () => {
    for (const bytes of [16, 1024, 2047, 2049, 3072, 2 ** 20 - 1]) {
      expect(errorOf(() => regionBytes({ dirtyRingBytes: bytes })).code, String(bytes)).toBe('EINVAL');
    }
    for (const bytes of [2 ** 20 + 1, 2 ** 21, 2 ** 31, 2 ** 32, Number.POSITIVE_INFINITY]) {
      const error = errorOf(() => regionBytes({ dirtyRingBytes: bytes }));
      expect([error.code, error.message.includes(String(2 ** 20))]).toEqual(['E2BIG', true]);
    }
    const without = regionBytes({ vcpus: 2, dirtyRingBytes: 0 });
    for (const bytes of [2048, 4096, 2 ** 20]) {
      expect(regionBytes({ vcpus: 2, dirtyRingBytes: bytes })).toBe(without + 2 * bytes);
    }
  });

  test('a multiple of 64 for every size', () => {
    for (const [vcpus, agents] of [
      [1, 1],
      [2, 3],
      [4096, 1023],
    ] as const) {
      expect(regionBytes({ vcpus, agents }) % 64).toBe(0);
    }
  });
});

describe('createVm', () => {
  const fails = (options: VmOptions, code: string, ...words: unknown[]): void => {
    const error = errorOf(() => createVm(options));
    expect(error.code).toBe(code);
    for (const word of words) expect(error.message).toContain(String(word));
  };

  test.each(given(1, 4096))('vcpus $name', ({ value }) => {
    fails({ vcpus: cast(value) }, 'EINVAL', value, 4096, 'vCPU');
  });
  test.each(given(1, 1023))('agents $name', ({ value }) => {
    fails({ agents: cast(value) }, 'EINVAL', value, 1023, 'agents');
  });
  // null means the default.
  test.each(given(0, 2 ** 20).filter(({ value }) => value !== null))('guestPages $name', ({ value }) => {
    fails({ guestPages: cast(value), bare: true }, 'EINVAL', value, 2 ** 20, 'guestPages');
  });

  test.each(given(0, 2 ** 31 - 1))('KX-EVT-10 an id in vcpuIds: $name', ({ value }) => {
    fails({ vcpus: 2, vcpuIds: [0, cast(value)] }, 'EINVAL', value, 2 ** 31 - 1, 'vcpuIds');
  });
  test('KX-EVT-10 vcpuIds: as many as there are vCPUs, no two the same', () => {
    fails({ vcpus: 3, vcpuIds: [0, 1] }, 'EINVAL', 'vcpuIds', 3);
    fails({ vcpus: 1, vcpuIds: [0, 1] }, 'EINVAL', 'vcpuIds', 1);
    fails({ vcpus: 1, vcpuIds: [] }, 'EINVAL', 'vcpuIds', 1);
    fails({ vcpus: 3, vcpuIds: [4, 6, 4] }, 'EINVAL', 'vcpuIds', 2, 3);
    const vm = createVm({ vcpus: 3, vcpuIds: [2 ** 31 - 1, 0, 6] });
    expect([0, 1, 2].map((i) => vm.vcpu(i).id)).toEqual([2 ** 31 - 1, 0, 6]);
    const usual = createVm({ vcpus: 3 });
    expect([0, 1, 2].map((i) => usual.vcpu(i).id)).toEqual([0, 1, 2]);
  });

  test('no room for what it registers by itself: a size out of range', () => {
    fails({ guestPages: 0 }, 'EINVAL', 'guestPages');
    fails({ guestPages: 1 }, 'EINVAL', 'guestPages');
    fails({ guestPages: 2, vcpus: 65 }, 'EINVAL', 'guestPages');
  });

  test('more than a memory can hold is ENOMEM, not an error of the platform', () => {
    fails({ guestPages: 2 ** 20, bare: true }, 'ENOMEM');
  });

  const PAGES = 10;
  const memory = (): WebAssembly.Memory => new WebAssembly.Memory({ initial: PAGES });
  const region = regionBytes({ vcpus: 1, agents: 2 });
  const place = { guestBase: 0, guestPages: 4, regionBase: 4 * PAGE_SIZE, agents: 2 };

  test('a memory without a place', () => {
    for (const key of ['guestBase', 'guestPages', 'regionBase'] as const) {
      const { [key]: _left, ...rest } = place;
      fails({ memory: memory(), ...rest }, 'EINVAL', key);
    }
  });

  test.each(named(outside(0, 2 ** 32 - 1, []).filter((value) => value !== undefined)))(
    'guestBase and regionBase $name',
    ({ value }) => {
      fails({ memory: memory(), ...place, guestBase: cast(value) }, 'EINVAL', 'guestBase', value, 2 ** 32 - 1);
      fails({ memory: memory(), ...place, regionBase: cast(value) }, 'EINVAL', 'regionBase', value, 2 ** 32 - 1);
    },
  );

  test('a place that is not aligned', () => {
    for (const base of [1, 64, 4095, PAGE_SIZE + 2048]) {
      fails({ memory: memory(), ...place, regionBase: 0x20000, guestBase: base }, 'EINVAL', base, PAGE_SIZE);
    }
    for (const base of [1, 4, 32, 63, 65]) {
      fails({ memory: memory(), ...place, regionBase: 0x20000 + base }, 'EINVAL', 0x20000 + base, 64);
    }
  });

  test('a place beyond the memory', () => {
    const bytes = PAGES * 65536;
    const last = bytes - Math.ceil(region / 64) * 64;
    const fits = { memory: memory(), ...place, regionBase: last - (last % 64) };
    expect(createVm(fits).vcpus).toBe(1);
    fails(
      { ...fits, memory: memory(), regionBase: fits.regionBase + 64 },
      'ENOMEM',
      bytes,
      fits.regionBase + 64 + region,
    );
    fails({ ...fits, memory: memory(), guestBase: bytes }, 'ENOMEM', bytes);
    fails({ memory: memory(), ...place, guestPages: 2 ** 20 }, 'ENOMEM', bytes);
    fails({ memory: memory(), ...place, guestBase: 2 ** 32 - PAGE_SIZE }, 'ENOMEM', bytes);
  });

  test('region and guest RAM that overlap by 64 bytes, and not when they touch', () => {
    const guestBase = 5 * 65536;
    const touching = guestBase - Math.ceil(region / 64) * 64;
    expect(createVm({ memory: memory(), ...place, guestBase, regionBase: touching }).vcpus).toBe(1);
    fails({ memory: memory(), ...place, guestBase, regionBase: touching + 64 }, 'EINVAL', touching + 64, guestBase);
    fails({ memory: memory(), ...place, guestBase, regionBase: guestBase + 4 * PAGE_SIZE - 64 }, 'EINVAL', 'overlap');
    expect(createVm({ memory: memory(), ...place, guestBase, regionBase: guestBase + 4 * PAGE_SIZE }).vcpus).toBe(1);
  });

  test('what is refused has written nothing', () => {
    const own = memory();
    new Uint8Array(own.buffer).fill(0xa5);
    const cases: VmOptions[] = [
      { ...place, regionBase: 1 },
      { ...place, guestBase: 1 },
      { ...place, regionBase: 0 },
      { ...place, regionBase: PAGES * 65536 },
      { ...place, vcpus: 0 },
      { ...place, agents: 0 },
      { ...place, guestPages: -1 },
    ];
    for (const options of cases) errorOf(() => createVm({ memory: own, ...options }));
    expect(new Uint8Array(own.buffer).every((byte) => byte === 0xa5)).toBe(true);
  });
});
