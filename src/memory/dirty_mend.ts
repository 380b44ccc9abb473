// What a thread that died while it wrote guest memory leaves of the dirty log. [KF-89]
//
//   writer: bracket ─ bytes ─ entry taken ─ entry written ─ flag ─ leave          (a mark follows its bytes, so none is told too early)
//
// Dead before the flag, it has written a page that nobody is told of, and perhaps taken an entry that nobody will write, at which
// every collection would end. So entries like that are made void, and every page that it may have been writing is marked again:
// one page too many is copied once more, one too few is a guest that comes back with old memory.

import {
  AGENT_WRITE_GFN,
  AGENT_WRITE_VCPU,
  DIRTY_ENTRY_FLAGS,
  DIRTY_ENTRY_HARVESTED,
  GPC_ACTIVE,
  GPC_ADDRESS_LO,
  GPC_BY_GPA,
  REGION_DIRTY_LOGGING,
  REGION_DIRTY_RING_ENTRIES,
  VCPU_INFO_GPC,
  VCPU_RING_PUSHED,
  VCPU_RING_RESET,
  VCPU_RUNSTATE1_GPC,
  VCPU_RUNSTATE2_GPC,
  VCPU_TIME_INFO_GPC,
} from '../abi/region.ts';
import { PAGE_SIZE } from '../abi/shared_info.ts';
import { EvtchnError } from '../errors.ts';
import type { Kernel } from '../kernel.ts';
import type { Changes } from './changes.ts';
import { ringEntry } from './dirty_log.ts';
import type { Region } from './region.ts';

/** A guest frame, and the vCPU that wrote it. */
interface Write {
  readonly vcpu: number;
  readonly gfn: number;
}

/** The pages that an agent may be writing right now: to be asked before its bracket is closed for it. @internal */
export function writesOf(region: Region, agent: number): Write[] {
  const { words, base } = region;
  // A page is written and marked in one bracket, and marked by those only who find a slot that logs.
  if (!region.bracketOpen(agent) || words.load(base + REGION_DIRTY_LOGGING) === 0) return [];
  const writes: Write[] = [];
  const vcpu = words.load(agent + AGENT_WRITE_VCPU) - 1;
  if (vcpu >= 0) writes.push({ vcpu, gfn: words.loadWide(agent + AGENT_WRITE_GFN) });
  // Of the structures that the engine keeps up to date it does not say which one is being written.
  for (let i = 0; i < region.vcpus; i++) {
    const record = region.vcpuRecord(i);
    const caches = [
      region.vcpuLine(i) + VCPU_INFO_GPC,
      record + VCPU_TIME_INFO_GPC,
      record + VCPU_RUNSTATE1_GPC,
      record + VCPU_RUNSTATE2_GPC,
    ];
    for (const gpc of caches) {
      if (words.load(gpc + GPC_ACTIVE) !== GPC_BY_GPA) continue;
      writes.push({ vcpu: i, gfn: Math.floor(words.loadWide(gpc + GPC_ADDRESS_LO) / PAGE_SIZE) });
    }
  }
  return writes;
}

/** Mends the log after an agent was removed. By the owner, who alone changes slots, and collects. @internal */
export function mendDirtyLog(region: Region, kernel: Kernel, changes: Changes, writes: readonly Write[]): void {
  if (region.words.load(region.base + REGION_DIRTY_RING_ENTRIES) !== 0) voidEntries(region, changes);
  for (const { vcpu, gfn } of writes) kernel.markPage(region.base, vcpu, gfn | 0, Math.floor(gfn / 2 ** 32));
}

/** Makes entries void that somebody took and nobody writes any more: harvested, but of no page. */
function voidEntries(region: Region, changes: Changes): void {
  const open = openEntries(region);
  if (open.length === 0) return;
  try {
    // Entries are taken and written in brackets: who took one of these and is alive has written it then.
    changes.awaitReaders();
  } catch (error) {
    if (!(error instanceof EvtchnError)) throw error;
    // Another one does not leave. If it is dead as well, its removal comes here again and finds them all.
    return;
  }
  const { words } = region;
  for (const entry of open) {
    if (words.load(entry + DIRTY_ENTRY_FLAGS) === 0) words.store(entry + DIRTY_ENTRY_FLAGS, DIRTY_ENTRY_HARVESTED);
  }
}

/** Where the entries are that were taken and have no flag yet. */
function openEntries(region: Region): number[] {
  const { words } = region;
  const open: number[] = [];
  for (let vcpu = 0; vcpu < region.vcpus; vcpu++) {
    const record = region.vcpuRecord(vcpu);
    const pushed = words.load(record + VCPU_RING_PUSHED);
    for (let i = words.load(record + VCPU_RING_RESET); i !== pushed; i = (i + 1) | 0) {
      const entry = ringEntry(region, vcpu, i);
      if (words.load(entry + DIRTY_ENTRY_FLAGS) === 0) open.push(entry);
    }
  }
  return open;
}
