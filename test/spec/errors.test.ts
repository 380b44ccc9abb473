// Every refusal: its code, a sentence with the value and the limit, and not a byte changed. Fast calls never throw.

import { describe, expect, test } from 'vitest';
import { PAGE_SIZE } from '../../src/abi/shared_info.ts';
import { type Gfn, type Gpa, gfn, gpa, type Vcpu, type Vm } from '../../src/index.ts';
import { errorOf, KINDS, makeVm, ram, SHARED_INFO_GPA } from '../support.ts';
import { bitAt, cast, changes, layoutOf, refuses, SEND_RESULTS, stateBytes } from './evidence.ts';
import { named, outside, show } from './values.ts';

describe.each(KINDS)('$layout layout, shared memory: $shared', ({ longMode, shared, maxPorts }) => {
  const make = (): Vm => {
    const vm = makeVm({ longMode, shared, vcpus: 3, guestPages: 8, agents: 2 });
    vm.send(5);
    vm.mask(9);
    vm.vcpu(0).setAttr({ type: 'runstate_addr', gpa: gpa(0x6ff0) });
    vm.vcpu(0).setAttr({ type: 'vcpu_time_info', gpa: gpa(0x7000) });
    return vm;
  };

  test.each(named(outside(0, 2)))('vm.vcpu($name)', ({ value }) => {
    const vm = make();
    refuses(vm, () => vm.vcpu(cast(value)), 'EINVAL', String(value), 2, 'vCPU');
  });

  test.each(named(outside(1, maxPorts - 1)))('bindVcpu of port $name', ({ value }) => {
    const vm = make();
    refuses(vm, () => vm.bindVcpu(cast(value), 0), 'EINVAL', String(value), maxPorts - 1, 'port');
  });

  test.each(named(outside(0, 2)))('bindVcpu to vCPU $name', ({ value }) => {
    const vm = make();
    refuses(vm, () => vm.bindVcpu(7, cast(value)), 'EINVAL', String(value), 2, 'vCPU');
  });

  test.each(named(['', 'x', 'toString', '__proto__', 'constructor', 'vcpu_info', 5, null, undefined]))(
    'an attribute $name is ENOENT',
    ({ value }) => {
      const vm = make();
      const attr = { type: value, enabled: true, vector: 16, gfn: 0, gpa: 0 };
      refuses(vm, () => vm.setAttr(cast(attr)), 'ENOENT', String(value), 'shared_info');
      refuses(vm, () => vm.getAttr(cast<'long_mode'>(value)), 'ENOENT', String(value), 'shared_info');
      if (value === 'vcpu_info') return;
      refuses(vm, () => vm.vcpu(0).setAttr(cast(attr)), 'ENOENT', String(value), 'vcpu_info');
      refuses(vm, () => vm.vcpu(0).getAttr(cast<'vcpu_info'>(value)), 'ENOENT', String(value), 'vcpu_info');
    },
  );

  test.each(named([0, 1, 'true', '', null, undefined, {}, Number.NaN]))('a flag that is $name', ({ value }) => {
    const vm = make();
    for (const type of ['long_mode', 'runstate_update_flag'] as const) {
      refuses(vm, () => vm.setAttr({ type, enabled: cast(value) }), 'EINVAL', type, String(value), 'true and false');
    }
  });

  test.each(named([1, 2, 14, 15, ...outside(0, 255)]))('KX-VMA-13 KX-VCA-13 an upcall vector $name', ({ value }) => {
    const vm = make();
    refuses(vm, () => vm.setAttr({ type: 'upcall_vector', vector: cast(value) }), 'EINVAL', String(value), 16, 255);
    refuses(
      vm,
      () => vm.vcpu(0).setAttr({ type: 'upcall_vector', vector: cast(value) }),
      'EINVAL',
      String(value),
      16,
      255,
    );
  });

  const noAddress = named(outside(0, Number.MAX_SAFE_INTEGER, []).filter((value) => value !== null));
  test.each(noAddress)('KX-VMA-05 KX-VCA-01 a guest address $name', ({ value }) => {
    const vm = make();
    refuses(vm, () => vm.setAttr({ type: 'shared_info', gfn: cast<Gfn>(value) }), 'EINVAL', String(value), 2 ** 41 - 1);
    for (const type of ['vcpu_info', 'vcpu_time_info', 'runstate_addr'] as const) {
      const set = (): void => vm.vcpu(1).setAttr({ type, gpa: cast<Gpa>(value) });
      refuses(vm, set, 'EINVAL', String(value), Number.MAX_SAFE_INTEGER);
    }
  });

  test.each(named([2 ** 41, 2 ** 52]))('KX-VMA-05 a guest frame $name', ({ value }) => {
    const vm = make();
    refuses(vm, () => vm.setAttr({ type: 'shared_info', gfn: cast<Gfn>(value) }), 'EINVAL', String(value), 2 ** 41 - 1);
  });

  test.each(named(outside(0, 2 ** 47 - 4097, [])))('invalidateStart with $name', ({ value }) => {
    const vm = make();
    refuses(vm, () => vm.invalidateStart(cast(value), 0), 'EINVAL', String(value), 2 ** 47 - 4097);
    refuses(vm, () => vm.invalidateStart(0, cast(value)), 'EINVAL', String(value), 2 ** 47 - 4097);
    refuses(vm, () => vm.invalidateEnd(), 'EINVAL');
  });

  test('invalidateStart with a first address behind the last names both', () => {
    const vm = make();
    refuses(vm, () => vm.invalidateStart(8192, 4096), 'EINVAL', 8192, 4096);
  });

  test.each(named([-1, -0.5, Number.NaN, Number.NEGATIVE_INFINITY, '5', null, {}, [], true, 5n]))(
    'a timeout of $name',
    ({ value }) => {
      const vm = make();
      refuses(vm, () => vm.vcpu(1).wait(cast(value)), 'EINVAL', 'timeout', String(value));
      refuses(vm, () => vm.vcpu(1).poll([7], cast(value)), 'EINVAL', 'timeout', String(value));
    },
  );

  test('a timeout may be any number from 0 on', () => {
    const vm = make();
    for (const timeout of [0, 0.5, 2 ** 31, 2 ** 53, Number.MAX_VALUE, Number.POSITIVE_INFINITY, undefined]) {
      expect(vm.vcpu(0).wait(timeout)).toBe('events');
    }
  });

  test('spins of any number end', () => {
    const vm = makeVm({ longMode, shared: true });
    for (const spins of [-1, 0, 5, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 31, 2 ** 53, '5', null, {}]) {
      expect(vm.vcpu(0).wait(0, cast(spins))).toBe('timeout');
    }
  });

  test('KX-HCL-32 poll: more than 128 ports', () => {
    const vm = make();
    for (const n of [129, 4097]) {
      const many = Array.from({ length: n }, () => 5);
      refuses(vm, () => vm.vcpu(0).poll(many), 'EINVAL', n, 128);
    }
    expect(vm.vcpu(0).poll(Array.from({ length: 128 }, () => 5))).toBe(true);
  });

  test.each(named(outside(0, maxPorts - 1)))('KX-HCL-32 poll of port $name', ({ value }) => {
    const vm = make();
    refuses(vm, () => vm.vcpu(0).poll([5, cast(value)]), 'EINVAL', String(value), maxPorts - 1);
  });

  test.each(named(outside(1, maxPorts - 1)))('portStatus of port $name', ({ value }) => {
    const vm = make();
    refuses(vm, () => vm.portStatus(cast(value)), 'EINVAL', String(value), maxPorts - 1);
  });

  test('portStatus: what is missing or out of reach', () => {
    const vm = make();
    errorOf(() => vm.setAttr({ type: 'shared_info', gfn: gfn(100) }));
    refuses(vm, () => vm.portStatus(5), 'EFAULT', 'shared_info');
    vm.setAttr({ type: 'shared_info', gfn: null });
    refuses(vm, () => vm.portStatus(5), 'EINVAL', 'shared_info');
  });

  const noTime = [
    -1,
    1.5,
    2 ** 53,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    '5',
    null,
    {},
    true,
    -1n,
    2n ** 64n,
    -(2n ** 63n),
  ];
  test.each(named([...noTime, undefined].filter((value) => typeof value !== 'bigint')))(
    'a time of $name',
    ({ value }) => {
      times(value);
    },
  );
  test.each([-1n, 2n ** 64n, -(2n ** 63n)])('a time of %sn', (value) => {
    times(value);
  });
  function times(value: unknown): void {
    const vm = make();
    const vcpu = vm.vcpu(0);
    const good = { tscTimestamp: 1, systemTime: 2, mul: 3, shift: 4 };
    const words = [String(value), '2^64-1'];
    refuses(vm, () => vcpu.enterRunstate('blocked', cast(value)), 'EINVAL', 'now', ...words);
    if (value !== undefined)
      refuses(vm, () => vcpu.enterRunstate('blocked', 1, cast(value)), 'EINVAL', 'runDelay', ...words);
    refuses(vm, () => vcpu.writeTime({ ...good, tscTimestamp: cast(value) }), 'EINVAL', 'tscTimestamp', ...words);
    refuses(vm, () => vcpu.writeTime({ ...good, systemTime: cast(value) }), 'EINVAL', 'systemTime', ...words);
    refuses(vm, () => vcpu.readTime(cast(value)), 'EINVAL', 'tsc', ...words);
  }

  const noState = [
    '',
    'sleeping',
    'Running',
    0,
    3,
    4,
    null,
    undefined,
    {},
    'toString',
    '__proto__',
    'constructor',
    'valueOf',
  ];
  test.each(named(noState))('KX-VCA-07 a runstate $name', ({ value }) => {
    const vm = make();
    refuses(
      vm,
      () => vm.vcpu(0).enterRunstate(cast(value), 5n),
      'EINVAL',
      String(value),
      'running, runnable, blocked, offline',
    );
  });

  test('writeTime: mul, shift and flags out of range', () => {
    const vm = make();
    const good = { tscTimestamp: 1, systemTime: 2, mul: 3, shift: 4 };
    for (const mul of outside(0, 2 ** 32 - 1, [])) {
      refuses(vm, () => vm.vcpu(0).writeTime({ ...good, mul: cast(mul) }), 'EINVAL', 'mul', String(mul), 2 ** 32 - 1);
    }
    for (const shift of outside(-63, 63)) {
      refuses(vm, () => vm.vcpu(0).writeTime({ ...good, shift: cast(shift) }), 'EINVAL', 'shift', String(shift), 63);
    }
    for (const flags of outside(0, 255).filter((value) => value != null)) {
      refuses(vm, () => vm.vcpu(0).writeTime({ ...good, flags: cast(flags) }), 'EINVAL', 'flags', String(flags), 255);
    }
  });

  test('readTime from a record that does not exist', () => {
    const vm = make();
    refuses(vm, () => vm.vcpu(1).readTime(5, 'vcpu_time_info'), 'EAGAIN', 'vcpu_time_info', 'vCPU 1');
    refuses(vm, () => vm.vcpu(1).readTime(5), 'EAGAIN', 'vcpu_info', 'vCPU 1');
  });

  test('readTime from something else', () => {
    const vm = make();
    refuses(vm, () => vm.vcpu(0).readTime(5, cast('bogus')), 'EINVAL', 'bogus', 'vcpu_info', 'vcpu_time_info');
  });

  test('drain: what is missing or out of reach', () => {
    const vm = make();
    vm.vcpu(1).setAttr({ type: 'vcpu_info', gpa: null });
    refuses(vm, () => vm.vcpu(1).drain(), 'EINVAL', 'vCPU 1', 'vcpu_info');
    errorOf(() => vm.vcpu(2).setAttr({ type: 'vcpu_info', gpa: gpa(vm.guestBytes) }));
    refuses(vm, () => vm.vcpu(2).drain(), 'EFAULT', 'vCPU 2', 'vcpu_info');
    errorOf(() => vm.setAttr({ type: 'shared_info', gfn: gfn(100) }));
    refuses(vm, () => vm.vcpu(0).drain(), 'EFAULT', 'vCPU 0', 'shared_info');
    vm.setAttr({ type: 'shared_info', gfn: null });
    refuses(vm, () => vm.vcpu(0).drain(), 'EINVAL', 'vCPU 0', 'shared_info');
  });

  test('poll: what is missing or out of reach', () => {
    const vm = make();
    errorOf(() => vm.setAttr({ type: 'shared_info', gfn: gfn(100) }));
    refuses(vm, () => vm.vcpu(0).poll([7]), 'EFAULT', 'shared_info');
    vm.setAttr({ type: 'shared_info', gfn: null });
    refuses(vm, () => vm.vcpu(0).poll([7]), 'EINVAL', 'shared_info');
  });

  test.each(named(outside(0, 1)))('detachAgent($name)', ({ value }) => {
    const vm = make();
    refuses(vm, () => vm.detachAgent(cast(value)), 'EINVAL', String(value), 1, 'agent');
  });

  test('detachAgent of itself and of nobody', () => {
    const vm = make();
    for (const number of [0, 1]) refuses(vm, () => vm.detachAgent(number), 'EINVAL', number);
  });

  test('onUpcall in shared memory says what to use instead', () => {
    const vm = make();
    if (shared) refuses(vm, () => vm.vcpu(0).onUpcall(() => {}), 'EOPNOTSUPP', 'wait', 'waitAsync');
    else expect(() => vm.vcpu(0).onUpcall(null)).not.toThrow();
  });

  test('R9 sends, masks and unmasks take anything: a result, no throw, and -22 for what is no 32-bit integer', () => {
    const vm = makeVm({ longMode, shared, guestPages: 8 });
    const values = [
      ...outside(1, maxPorts - 1),
      ...[0, 1, maxPorts - 1, maxPorts, 2 ** 32 + 5, -(2 ** 32) + 6, 2 ** 31 + 7, 7.9, '8', ' 9 ', [10], false],
    ];
    for (const value of values) {
      const port = value as number;
      const good = Number.isInteger(value) && port >= 1 && port < maxPorts;
      for (const call of ['send', 'mask', 'unmask'] as const) {
        const before = stateBytes(vm);
        const result = vm[call](cast<number>(value));
        expect(SEND_RESULTS, `${call}(${show(value)})`).toContain(result);
        if (!good) expect(result).toBe(-22);
        const { pending, mask } = layoutOf(vm);
        const allowed = good
          ? new Set([
              bitAt(SHARED_INFO_GPA + pending, port).at,
              bitAt(SHARED_INFO_GPA + mask, port).at,
              ...Array.from({ length: 16 }, (_, i) => 4 * PAGE_SIZE + i),
            ])
          : new Set<number>();
        for (const [at] of changes(before, stateBytes(vm)))
          expect(allowed.has(at - vm.guestBase), `byte ${at}`).toBe(true);
      }
      const vcpu: Vcpu = vm.vcpu(0);
      vcpu.drain();
    }
    expect(ram(vm).length).toBe(8 * PAGE_SIZE);
  });
});
