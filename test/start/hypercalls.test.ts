// The recorded guest's hypercalls, played to a Xen domain: every one gets the answer that it got then, or a better one that is listed.

import { describe, expect, test } from 'vitest';
import { BETTER, replayHypercalls } from '../../demo/start/hypercalls.ts';
import { type HypercallRecord, type Recording, readRecording, type TraceRecord } from '../../demo/start/recording.ts';
import { hypercallLines } from '../../demo/start/report.ts';

const recording = readRecording();

function run(records: readonly TraceRecord[] = recording.records, shared = false) {
  const tampered: Recording = { ...recording, records };
  const result = replayHypercalls(tampered, shared);
  return { ...result, ok: hypercallLines(result).every((line) => line.ok) };
}

/** The records with the first hypercall of an operation changed. */
function changed(op: string, change: (record: HypercallRecord) => TraceRecord): TraceRecord[] {
  const at = recording.records.findIndex((record) => record.k === 'hc' && record.op === op);
  return recording.records.map((record, i) => (i === at ? change(record as HypercallRecord) : record));
}

describe.each([
  { kind: 'unshared', shared: false },
  { kind: 'shared', shared: true },
])('in $kind memory', ({ shared }) => {
  test('XE-BT-20 XE-BT-21 XE-OP-02 all 3,663 hypercalls of a Linux boot are answered as recorded, but 4 that are answered better', () => {
    expect(run(recording.records, shared)).toEqual({
      hypercalls: 3663,
      same: 3659,
      better: 4,
      different: 0,
      upcalls: 3521,
      missed: 0,
      invented: 0,
      timers: 2111,
      timersRecorded: 2111,
      sends: 1515,
      sendsRecorded: 1515,
      left: 0,
      fault: null,
      ok: true,
    });
  });
});

test('every answer that is better has a reason and is in the recording once', () => {
  for (const [op, recorded, answered, why] of BETTER) {
    const found = recording.records.filter(
      (record) => record.k === 'hc' && record.op === op && record.ret === recorded,
    );
    expect(found, op).toHaveLength(1);
    expect(answered, op).not.toBe(recorded);
    expect(why.length, op).toBeGreaterThan(20);
  }
});

describe('a recording that was tampered with does not pass', () => {
  test('another result', () => {
    const result = run(changed('event_channel_op.bind_ipi', (record) => ({ ...record, ret: -22 })));
    expect(result).toMatchObject({ different: 1, same: 3658, ok: false });
    expect(result.fault).toMatch(/bind_ipi.*answered 0 /);
  });

  test('another byte in what was written', () => {
    const result = run(changed('hvm_op.get_param', (record) => ({ ...record, out: `${record.out?.slice(0, -2)}01` })));
    expect(result).toMatchObject({ different: 1, ok: false });
  });

  test('a hypercall with another argument', () => {
    const result = run(changed('event_channel_op.bind_virq', (record) => ({ ...record, in: '18'.padEnd(24, '0') })));
    expect(result.different).toBeGreaterThan(0);
    expect(result.ok).toBe(false);
  });

  test('a timer that was set for later', () => {
    const result = run(
      changed('vcpu_op.set_singleshot_timer', (record) => ({ ...record, in: 'ffffffffffffff0000000000' })),
    );
    expect(result).toMatchObject({ timers: 2110, timersRecorded: 2111, ok: false });
  });

  test('a send left out', () => {
    const at = recording.records.findIndex((record) => record.k === 'hc' && record.op === 'event_channel_op.send');
    const record = { ...recording.records[at], op: 'event_channel_op.none', in: 'ff000000', ret: -22 };
    const result = run(recording.records.with(at, record as TraceRecord));
    expect(result).toMatchObject({ sends: 1514, sendsRecorded: 1514, different: 0 });
    expect(run(recording.records.toSpliced(at, 1)).hypercalls).toBe(3662);
  });

  test('an upcall left out: it stays wanted', () => {
    const last = recording.records.findLastIndex((record) => record.k === 'upcall');
    expect(run(recording.records.toSpliced(last, 1))).toMatchObject({ upcalls: 3520, left: 1, ok: false });
  });
});
