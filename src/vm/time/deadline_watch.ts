// Who has to know of a new deadline: timekeepers of this thread by a call, those of other threads by a word.
//
//   armer:      deadline ─ look at the flag ─ clear it ─ notify
//   timekeeper: flag (read-modify-write) ─ look at all deadlines ─ sleep on the flag
//
// One of the two sees the other.

import { REGION_TIMEKEEPER } from '../../abi/region.ts';
import type { Vm } from '../vm.ts';

/** The timekeepers of this thread, by memory and region: views of one VM share them. */
const watchers = new WeakMap<WebAssembly.Memory, Map<number, Set<() => void>>>();

/** Calls `watcher` whenever this thread sets a deadline of the VM or takes one away. @returns what ends that @internal */
export function watchDeadlines({ memory, vmBase }: Vm, watcher: () => void): () => void {
  const ofMemory = watchers.get(memory) ?? new Map<number, Set<() => void>>();
  const ofVm = ofMemory.get(vmBase) ?? new Set();
  watchers.set(memory, ofMemory.set(vmBase, ofVm.add(watcher)));
  return () => {
    ofVm.delete(watcher);
    if (ofVm.size === 0 && ofMemory.get(vmBase) === ofVm) ofMemory.delete(vmBase);
  };
}

/** Tells the timekeepers that a deadline has changed, or that the VM has ended; after it is in its record. @internal */
export function announceDeadline(vm: Vm): void {
  const { words } = vm.region;
  const flag = vm.vmBase + REGION_TIMEKEEPER;
  // After the store of the deadline, on the other side of the timekeeper's flag.
  if (words.load(flag) !== 0 && words.exchange(flag, 0) !== 0) words.notify(flag);
  for (const watcher of watchers.get(vm.memory)?.get(vm.vmBase) ?? []) watcher();
}

/** Says that this thread is about to sleep on the word; a look at the deadlines follows. @internal */
export function announceSleep(vm: Vm): void {
  vm.region.words.exchange(vm.vmBase + REGION_TIMEKEEPER, 1);
}
