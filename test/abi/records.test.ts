// The engine's own records: nothing overlaps, and what is written often has the cache line that its comment promises.

import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import * as region from '../../src/abi/region.ts';
import { regionBytes } from '../../src/index.ts';
import { Region } from '../../src/memory/region.ts';
import { Words } from '../../src/memory/words.ts';

const LINE = 64;

/** A record's fields: name, offset, bytes. */
type Fields = readonly (readonly [string, number, number])[];

const HEADER: Fields = [
  ['magic', region.REGION_MAGIC_AT, 4],
  ['version', region.REGION_VERSION_AT, 4],
  ['fingerprint', region.REGION_FINGERPRINT, 4],
  ['state', region.REGION_STATE, 4],
  ['size', region.REGION_SIZE, 4],
  ['vcpus', region.REGION_VCPUS, 4],
  ['agents', region.REGION_AGENTS, 4],
  ['guest base', region.REGION_GUEST_BASE, 4],
  ['guest bytes', region.REGION_GUEST_BYTES, 4],
  ['vCPU records', region.REGION_VCPU_RECORDS, 4],
  ['agent records', region.REGION_AGENT_RECORDS, 4],
  ['upcall vector', region.REGION_UPCALL_VECTOR, 4],
  ['runstate update flag', region.REGION_RUNSTATE_UPDATE_FLAG, 4],
  ['active invalidations', region.REGION_INVALIDATE_ACTIVE, 4],
  ['invalidation sequence', region.REGION_INVALIDATE_SEQ, 4],
  ['pollers', region.REGION_POLLERS, 4],
  ['gpc of shared_info', region.REGION_SHARED_INFO, region.GPC_SIZE],
];

const GPC: Fields = [
  ['word', region.GPC_WORD, 4],
  ['active', region.GPC_ACTIVE, 4],
  ['gpa low', region.GPC_ADDRESS_LO, 4],
  ['gpa high', region.GPC_ADDRESS_HI, 4],
  ['length', region.GPC_LENGTH, 4],
];

const VCPU_LINE: Fields = [
  ['gpc of vcpu_info', region.VCPU_INFO_GPC, region.GPC_SIZE],
  ['kick', region.VCPU_KICK, 4],
  ['poll', region.VCPU_POLL, 4],
  ['upcall vector', region.VCPU_UPCALL_VECTOR, 4],
  ['shadow low', region.VCPU_SHADOW_LO, 4],
  ['shadow high', region.VCPU_SHADOW_HI, 4],
  ['requests', region.VCPU_REQUESTS, 4],
  ['sleeper', region.VCPU_SLEEPER, 4],
  ['poller', region.VCPU_POLLER, 4],
];

const VCPU_RECORD: Fields = [
  ['gpc of vcpu_time_info', region.VCPU_TIME_INFO_GPC, region.GPC_SIZE],
  ['gpc of the first runstate page', region.VCPU_RUNSTATE1_GPC, region.GPC_SIZE],
  ['gpc of the second runstate page', region.VCPU_RUNSTATE2_GPC, region.GPC_SIZE],
  ['runstate version', region.VCPU_RUNSTATE_VERSION, 4],
  ['runstate state', region.VCPU_RUNSTATE_STATE, 4],
  ['runstate entry time', region.VCPU_RUNSTATE_ENTRY_TIME, 8],
  ['runstate times', region.VCPU_RUNSTATE_TIMES, 32],
  ['last steal', region.VCPU_LAST_STEAL, 8],
];

const AGENT: Fields = [
  ['reader', region.AGENT_READER, 4],
  ['state', region.AGENT_STATE, 4],
  ['wakes', region.AGENT_WAKES, 4],
  ['delivered', region.AGENT_DELIVERED, 4],
  ['coalesced', region.AGENT_COALESCED, 4],
  ['masked', region.AGENT_MASKED, 4],
  ['bad', region.AGENT_BAD, 4],
  ['record', region.AGENT_RECORD, region.AGENT_RECORD_SIZE],
  ['plane 0', region.AGENT_PLANE0, region.AGENT_PLANE_SIZE],
  ['plane 1', region.AGENT_PLANE1, region.AGENT_PLANE_SIZE],
  ['outbox', region.AGENT_OUTBOX, region.AGENT_LIST_PORTS * 4],
  ['inbox', region.AGENT_INBOX, region.AGENT_LIST_PORTS * 4],
  ['ports to poll', region.AGENT_POLL_LIST, region.AGENT_POLL_PORTS * 4],
  ['marks', region.AGENT_MARKS, region.PORT_TABLE_PORTS],
];

const RECORDS = [
  { record: 'header', fields: HEADER, size: region.REGION_HEADER_SIZE },
  { record: 'gpc', fields: GPC, size: region.GPC_SIZE },
  { record: 'vCPU line', fields: VCPU_LINE, size: region.VCPU_LINE_SIZE },
  { record: 'vCPU record', fields: VCPU_RECORD, size: region.VCPU_RECORD_SIZE },
  { record: 'agent', fields: AGENT, size: region.AGENT_SIZE },
];

describe.each(RECORDS)('$record', ({ fields, size }) => {
  test('no two fields overlap, all lie inside, each is aligned to its width', () => {
    const taken = new Map<number, string>();
    for (const [name, at, bytes] of fields) {
      expect(at % (bytes === 8 || bytes === 32 ? 8 : 4), name).toBe(0);
      expect(at, name).toBeGreaterThanOrEqual(0);
      expect(at + bytes, name).toBeLessThanOrEqual(size);
      for (let byte = at; byte < at + bytes; byte++) {
        const other = taken.get(byte);
        if (other !== undefined) expect.fail(`byte ${byte} belongs to ${other} and to ${name}`);
        taken.set(byte, name);
      }
    }
  });
});

test('every constant of the records is looked at in this file', () => {
  const text = readFileSync('test/abi/records.test.ts', 'utf8');
  const values = /^(REGION_(VERSION|MAGIC|LIVE|CLOSED)|AGENT_(FREE|USED)|KICK_.*|REQUEST_.*|POLL_ANY)$/;
  const names = Object.keys(region).filter((name) => !values.test(name));
  expect(names.filter((name) => !text.includes(`region.${name}`))).toEqual([]);
});

test('the flags of one word are bits of their own', () => {
  expect([region.KICK_SLEEPER, region.KICK_LISTENER, region.KICK_VECTOR]).toEqual([1, 2, 4]);
  expect([region.REQUEST_UNBLOCK, region.REQUEST_VECTOR, region.REQUEST_CLOSED, region.REQUEST_POLLED]).toEqual([
    1, 2, 4, 8,
  ]);
  expect(region.REGION_LIVE).not.toBe(region.REGION_CLOSED);
  expect([region.AGENT_FREE, region.AGENT_USED]).toEqual([0, 1]);
});

test('the vCPU line is one cache line and every record is a multiple of one', () => {
  expect(region.CACHE_LINE).toBe(LINE);
  expect(region.VCPU_LINE_SIZE).toBe(LINE);
  expect(region.GPC_SIZE).toBe(32);
  for (const size of [region.REGION_HEADER_SIZE, region.VCPU_RECORD_SIZE, region.AGENT_SIZE])
    expect(size % LINE).toBe(0);
  for (const at of [region.VCPU_LINES, region.GROUP_OWNERS, region.PORT_TABLE]) expect(at % LINE).toBe(0);
});

test('the reader word is alone on its line, because invalidation watches it', () => {
  expect(region.AGENT_READER % LINE).toBe(0);
  const neighbours = AGENT.filter(([, at]) => at >= region.AGENT_READER && at < region.AGENT_READER + LINE);
  expect(neighbours.map(([name]) => name)).toEqual(['reader']);
});

test('the gpc of shared_info does not share a line with the limits, nor the counters with the scratch', () => {
  const line = (at: number): number => Math.floor(at / LINE);
  for (const [name, at] of HEADER) {
    if (at !== region.REGION_SHARED_INFO) expect(line(at), name).not.toBe(line(region.REGION_SHARED_INFO));
  }
  expect(line(region.REGION_SHARED_INFO + region.GPC_SIZE - 1)).toBe(line(region.REGION_SHARED_INFO));
  expect(line(region.AGENT_BAD)).toBe(line(region.AGENT_STATE));
  expect(line(region.AGENT_RECORD)).toBeGreaterThan(line(region.AGENT_BAD));
});

test('the host runstate of a vCPU does not share a line with its caches', () => {
  expect(region.VCPU_RUNSTATE_VERSION % LINE).toBe(0);
  expect(region.VCPU_RUNSTATE_VERSION).toBeGreaterThanOrEqual(region.VCPU_RUNSTATE2_GPC + region.GPC_SIZE);
  expect(region.VCPU_LAST_STEAL + 8).toBeLessThanOrEqual(region.VCPU_RUNSTATE_VERSION + LINE);
});

test('the scratch of an agent holds the largest structure that passes through it, at an aligned place', () => {
  expect(region.AGENT_RECORD_SIZE).toBeGreaterThanOrEqual(48);
  for (const at of [region.AGENT_RECORD, region.AGENT_PLANE0, region.AGENT_PLANE1, region.AGENT_MARKS])
    expect(at % 8).toBe(0);
  expect(region.AGENT_PLANE_SIZE).toBe(512);
  expect(region.AGENT_LIST_PORTS).toBe(4096);
  expect(region.PORT_TABLE_PORTS).toBe(4096);
});

test('group owners, port table and vCPU lines follow each other without overlap', () => {
  expect(region.GROUP_OWNERS).toBeGreaterThanOrEqual(region.REGION_HEADER_SIZE);
  expect(region.PORT_TABLE).toBeGreaterThanOrEqual(region.GROUP_OWNERS + 4 * (4096 >> region.GROUP_SHIFT));
  expect(region.VCPU_LINES).toBeGreaterThanOrEqual(region.PORT_TABLE + 4 * 4096);
  expect(region.PORT_VCPU_BITS).toBeGreaterThanOrEqual(region.MAX_VCPUS - 1);
  expect(region.GROUP_MIXED).toBeLessThan(0);
});

test('a refresh token has room between the mode bit and the page address', () => {
  const token = region.MAX_AGENTS << region.GPC_TOKEN_SHIFT;
  expect(token & region.GPC_UNMAPPED).toBe(0);
  expect(token & region.GPC_LONG_MODE).toBe(0);
});

test.each([
  [1, 1],
  [3, 2],
  [64, 8],
  [4096, 1024],
])('with %i vCPUs and %i agents no record overlaps another and all fit regionBytes', (vcpus, agents) => {
  const bytes = regionBytes({ vcpus, agents });
  const memory = new WebAssembly.Memory({ initial: Math.ceil((bytes + LINE) / 65536) });
  const made = Region.create(new Words(memory), { regionBase: LINE, guestBase: 0, guestBytes: 0, sizes: { vcpus, agents } });
  const spans: [number, number][] = [[LINE, LINE + region.VCPU_LINES]];
  for (let i = 0; i < vcpus; i++) spans.push([made.vcpuLine(i), made.vcpuLine(i) + region.VCPU_LINE_SIZE]);
  for (let i = 0; i < vcpus; i++) spans.push([made.vcpuRecord(i), made.vcpuRecord(i) + region.VCPU_RECORD_SIZE]);
  for (let i = 0; i < agents; i++) spans.push([made.agentRecord(i), made.agentRecord(i) + region.AGENT_SIZE]);
  let end = LINE;
  for (const [from, to] of spans) {
    if (from !== end || from % LINE) expect.fail(`a record begins at ${from}, the one before ends at ${end}`);
    end = to;
  }
  expect(end).toBe(LINE + bytes);
});
