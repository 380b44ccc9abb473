import { describe, expect, test } from 'vitest';
import { earlyPorts } from '../../demo/start/guest.ts';
import { fields, type Recording, readRecording, type TraceRecord } from '../../demo/start/recording.ts';
import { guestVm, type ReplayResult, replay } from '../../demo/start/replay.ts';
import { replayLines } from '../../demo/start/report.ts';
import type { Vm } from '../../src/index.ts';

const recording = readRecording();

/** Replays with a VM or a recording that was tampered with. */
function run(change: { shared?: boolean; vm?: (vm: Vm) => void; records?: readonly TraceRecord[] } = {}): ReplayResult {
  const tampered: Recording = { ...recording, records: change.records ?? recording.records };
  const vm = guestVm(tampered, change.shared ?? false);
  change.vm?.(vm);
  const result = replay(tampered, vm);
  vm.close();
  return result;
}

const holds = (result: ReplayResult): boolean => replayLines(result).every((line) => line.ok);
const isRaise = (record: TraceRecord | undefined): boolean => record?.k === 'virq' || record?.k === 'remote';

/** A raise that is the only one before its upcall, somewhere in the middle. */
const lone = recording.records.findIndex((record, i, all) => {
  return (
    i > 4000 && isRaise(record) && all[i - 1]?.k === 'hc' && all[i - 2]?.k === 'upcall' && all[i + 1]?.k === 'upcall'
  );
});
const without = (index: number): TraceRecord[] => recording.records.filter((_, i) => i !== index);

describe.each([
  { kind: 'unshared', shared: false },
  { kind: 'shared', shared: true },
])('the recorded run in $kind memory', ({ shared }) => {
  test('KX-EVT-10 3,693 raises, 71 coalesced, 3,521 upcalls, none missed, none invented, nothing left', () => {
    const result = run({ shared });
    expect(result).toMatchObject({
      records: 10_877,
      raises: 3693,
      coalesced: 71,
      upcalls: 3521,
      missed: 0,
      invented: 0,
      differences: 0,
      left: 0,
      fault: null,
    });
    expect(holds(result)).toBe(true);
  });

  test('XE-2L-30 the first upcall is for the registration of vcpu_info, one for the unmask of xenstore, all others for raises', () => {
    expect(run({ shared }).causes).toEqual({ registration: 1, unmask: 1, raise: 3519 });
  });

  test('the ports are those of the header, and each has drained what it was sent', () => {
    const busy = run({ shared }).ports.filter((port) => port.raises > 0);
    expect(busy).toEqual([
      { port: 1, kind: 'interdomain', name: 'xenstore', raises: 215, coalesced: 67, early: 1, drained: 149 },
      { port: 3, kind: 'virq', name: 'timer', raises: 2111, coalesced: 4, early: 0, drained: 2107 },
      { port: 8, kind: 'interdomain', name: 'blkback', raises: 1367, coalesced: 0, early: 0, drained: 1367 },
    ]);
  });
});

describe('a recording that was tampered with does not pass', () => {
  test('a raise left out: the upcall after it is missed', () => {
    const result = run({ records: without(lone) });
    expect(result).toMatchObject({ raises: 3692, upcalls: 3520, missed: 1, invented: 0 });
    expect(result.fault).toBe(`record ${lone + 1} (upcall): an upcall is due and not asked for`);
    expect(holds(result)).toBe(false);
  });

  test('a raise too many', () => {
    const { records } = recording;
    const result = run({ records: records.toSpliced(lone, 0, { k: 'virq', port: 3 }) });
    expect(result).toMatchObject({ raises: 3694, coalesced: 72 });
    expect(holds(result)).toBe(false);
  });

  test('a raise of a port the guest never unmasked stays pending', () => {
    const { records } = recording;
    const result = run({ records: records.toSpliced(lone, 0, { k: 'remote', port: 9 }) });
    expect(result).toMatchObject({ left: 1, missed: 0, invented: 0 });
    expect(result.ports.at(-1)).toMatchObject({ port: 9, kind: 'unknown', raises: 1, drained: 0 });
    expect(holds(result)).toBe(false);
  });

  test('an upcall left out in the middle', () => {
    const result = run({ records: without(lone + 1) });
    expect(result).toMatchObject({ upcalls: 3520, coalesced: 72 });
    expect(holds(result)).toBe(false);
  });

  test('the last upcall left out: the engine asks for one that the recording does not have', () => {
    const last = recording.records.findLastIndex((record) => record.k === 'upcall');
    const result = run({ records: without(last) });
    expect(result).toMatchObject({ upcalls: 3520, missed: 0, invented: 1, left: 1 });
    expect(result.fault).toMatch(/^the end of the recording: /);
    expect(holds(result)).toBe(false);
  });

  test('an upcall through another vector', () => {
    const records = recording.records.map((record) => (record.k === 'upcall' ? { ...record, vector: 32 } : record));
    expect(run({ records })).toMatchObject({ differences: 3521, missed: 0, invented: 0 });
  });
});

describe('an engine that makes a mistake does not pass', () => {
  test('a send that is lost', () => {
    let sends = 0;
    const result = run({
      vm: (vm) => {
        const send = vm.send.bind(vm);
        vm.send = (port) => (++sends === 1000 ? 1 : send(port));
      },
    });
    expect(result.missed).toBe(1);
    expect(result.differences).toBeGreaterThan(0);
    expect(holds(result)).toBe(false);
  });

  test('an event that nobody raised', () => {
    let drains = 0;
    const result = run({
      vm: (vm) => {
        const vcpu = vm.vcpu(0);
        const drain = vcpu.drain.bind(vcpu);
        vcpu.drain = (onPort) => {
          const found = drain(onPort);
          if (++drains === 1000) vm.send(3);
          return found;
        };
      },
    });
    expect(result).toMatchObject({ missed: 0, invented: 1 });
    expect(holds(result)).toBe(false);
  });

  test('an upcall that stays up after the drain', () => {
    let drains = 0;
    const result = run({
      vm: (vm) => {
        const vcpu = vm.vcpu(0);
        const drain = vcpu.drain.bind(vcpu);
        vcpu.drain = (onPort) => (++drains === 1000 ? 0 : drain(onPort));
      },
    });
    expect(result).toMatchObject({ missed: 0, invented: 1 });
    expect(holds(result)).toBe(false);
  });

  test('an upcall that is never asked for is missed at every record that brings one', () => {
    const result = run({
      vm: (vm) => {
        const vcpu = vm.vcpu(0);
        Object.defineProperty(vcpu, 'upcallPending', { get: () => false });
      },
    });
    expect(result).toMatchObject({ upcalls: 0, missed: 3521 });
  });
});

describe('the recording', () => {
  test('tells of one port that had rung before: xenstore', () => {
    expect(earlyPorts(recording.records)).toEqual([1]);
  });

  test('needs a guest of 238 MB, for the vcpu_info in its per-CPU data', () => {
    const vm = guestVm(recording, false);
    replay(recording, vm);
    const { gpa } = vm.vcpu(0).getAttr('vcpu_info');
    expect(gpa).toBe(0xed9c * 4096 + 1024);
    expect(vm.guestBytes).toBe((0xed9c + 1) * 4096);
    vm.close();
  });

  test('fields are little-endian and follow one another; a structure that is too short is refused', () => {
    expect(fields('0100000002000304ff', 4, 2, 2, 1)).toEqual([1, 2, 0x0403, 0xff]);
    expect(() => fields('010000', 4)).toThrow('a recorded structure has 3 bytes');
    expect(() => fields(undefined, 4)).toThrow('a recorded structure has 0 bytes');
  });
});
