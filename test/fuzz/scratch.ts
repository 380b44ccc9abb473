// Comparing a VM before and after a call that failed: all of its memory but what a call may use before it fails.

import {
  AGENT_INBOX,
  AGENT_LIST_PORTS,
  AGENT_OUTBOX,
  AGENT_POLL_LIST,
  AGENT_POLL_PORTS,
  AGENT_READER,
  AGENT_RECORD,
  AGENT_RECORD_SIZE,
  CACHE_LINE,
  GPC_WORD,
  REGION_INVALIDATE_SEQ,
} from '../../src/abi/region.ts';
import type { Vm } from '../../src/index.ts';
import { Region } from '../../src/memory/region.ts';
import { Words } from '../../src/memory/words.ts';

/** Of an agent's record: its reader epoch, and the lists and records that it works with. */
const OF_AGENT = [
  [AGENT_READER, CACHE_LINE],
  [AGENT_RECORD, AGENT_RECORD_SIZE],
  [AGENT_OUTBOX, AGENT_LIST_PORTS * 4],
  [AGENT_INBOX, AGENT_LIST_PORTS * 4],
  [AGENT_POLL_LIST, AGENT_POLL_PORTS * 4],
] as const;

type Span = readonly [from: number, to: number];

export class Scratch {
  /** a view of the records that nobody watches */
  readonly region: Region;
  readonly #kept: readonly Span[];

  constructor(vm: Vm) {
    this.region = Region.open(new Words(vm.memory), vm.vmBase);
    const holes: Span[] = [];
    const hole = (at: number, length: number): void => void holes.push([at, at + length]);
    for (let i = 0; i < this.region.agents; i++) {
      for (const [at, length] of OF_AGENT) hole(this.region.agentRecord(i) + at, length);
    }
    // A mapping that is made, or a page that was looked at, says nothing about what is registered.
    for (const gpc of this.region.gpcs()) hole(gpc + GPC_WORD, 4);
    hole(vm.vmBase + REGION_INVALIDATE_SEQ, 4);
    holes.sort((a, b) => a[0] - b[0]);
    const kept: Span[] = [];
    let from = 0;
    for (const [start, end] of holes) {
      kept.push([from, start]);
      from = end;
    }
    kept.push([from, vm.memory.buffer.byteLength]);
    this.#kept = kept.filter(([start, end]) => end > start);
  }

  /** The first byte that differs and counts, or null. */
  difference(before: Uint8Array, after: Uint8Array): number | null {
    for (const [from, to] of this.#kept) {
      const [a, b] = [before.subarray(from, to), after.subarray(from, to)];
      if (Buffer.compare(a, b) !== 0) return from + a.findIndex((byte, i) => byte !== b[i]);
    }
    return null;
  }

  /** Where a byte is, for a reader. */
  nameOf(at: number): string {
    const { region } = this;
    const inside = (what: string, base: number, size: number): string | null =>
      at >= base && at < base + size ? `${what}+0x${(at - base).toString(16)}` : null;
    const size = region.agents > 1 ? region.agentRecord(1) - region.agentRecord(0) : 0;
    for (let i = 0; i < region.agents; i++) {
      const found = inside(`agent ${i}`, region.agentRecord(i), size);
      if (found) return found;
    }
    for (let i = 0; i < region.vcpus; i++) {
      const found =
        inside(`the line of vCPU ${i}`, region.vcpuLine(i), CACHE_LINE) ??
        inside(`the record of vCPU ${i}`, region.vcpuRecord(i), region.vcpuRecord(1) - region.vcpuRecord(0));
      if (found) return found;
    }
    return (
      inside('guest RAM', region.guestBase, region.guestBytes) ?? `the region+0x${(at - region.base).toString(16)}`
    );
  }
}
