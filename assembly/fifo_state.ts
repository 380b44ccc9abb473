// What is done to a port under the FIFO ABI besides raising it, and what can be seen of it. In a bracket of the caller, but for the
// configuration of the port records, which is the owner's.

import { EAGAIN, EINVAL } from '../src/abi/errno.ts';
import {
  CONTROL_READY,
  EVENT_BUSY,
  EVENT_LINKED,
  EVENT_MASKED,
  EVENT_PENDING,
  FIFO_LIMIT,
  FIFO_PARKED,
  FIFO_PORT_ENTRY,
  FIFO_PORT_LAST,
  FIFO_PRIORITY_SHIFT,
  FIFO_SAVED,
} from '../src/abi/fifo.ts';
import { PORT_BOUND, PORT_VCPU_BITS } from '../src/abi/region.ts';
import { VCPU_INFO_UPCALL_PENDING } from '../src/abi/vcpu_info.ts';
import { Bracket } from './bracket';
import { LINKED_NOW } from './fifo_link';
import { fifoAct, UNMASK } from './fifo_send';
import { AWAY, Fifo, NO_WORD } from './fifo_table';
import { Layout } from './layout';
import { Shared } from './shared';
import { shadow, Vcpu } from './upcall';

/** A port's word: its address, NO_WORD, or AWAY also while the ABI is changing. */
function wordOf(fifo: usize, port: i32): usize {
  const pages = Fifo.pages(fifo);
  return pages == FIFO_PARKED ? AWAY : Fifo.word(fifo, pages, port);
}

/** @returns 1 masked now, 0 it was, or has no word and counts as masked; -EINVAL, -EAGAIN as `mask` */
export function fifoMask(vm: usize, port: i32): i32 {
  const fifo = Fifo.part(vm);
  if (!Fifo.isPort(fifo, port)) return -EINVAL;
  const word = wordOf(fifo, port);
  if (word <= AWAY) return word == AWAY ? -EAGAIN : 0;
  return Shared.or<i32>(word, EVENT_MASKED) & EVENT_MASKED ? 0 : 1;
}

/** Clears MASKED, whatever BUSY says, and queues the port if it is pending and in no queue. [XE-FF-50] @returns 1 queued, 0 not; -EINVAL, -EAGAIN */
export function fifoUnmask(vm: usize, agent: usize, port: i32): i32 {
  const done = fifoAct(vm, agent, port, -1, UNMASK);
  return done < 0 ? done : done & LINKED_NOW ? 1 : 0;
}

/** Clears PENDING, and what was saved for a port without word. It stays linked. [XE-FF-40] @returns 1 it was pending, 0 not; -EINVAL, -EAGAIN */
export function fifoClear(vm: usize, agent: usize, port: i32): i32 {
  const fifo = Fifo.part(vm);
  if (!Fifo.isPort(fifo, port)) return -EINVAL;
  const token = Bracket.enter(agent);
  const word = wordOf(fifo, port);
  let result = -EAGAIN;
  if (word != AWAY) {
    const entry = Fifo.port(fifo, port) + FIFO_PORT_ENTRY;
    result = Shared.and<i32>(entry, ~FIFO_SAVED) & FIFO_SAVED ? 1 : 0;
    if (word != NO_WORD && Shared.and<i32>(word, ~EVENT_PENDING) & EVENT_PENDING) result = 1;
  }
  Bracket.leave(agent, token);
  return result;
}

/** Whether one of the `n` ports (u32 each) at `list` is pending: 1 or 0, -EINVAL, -EAGAIN. A port without word is not. */
export function fifoAnyPending(vm: usize, list: usize, n: i32): i32 {
  const fifo = Fifo.part(vm);
  const limit = load<u32>(fifo + FIFO_LIMIT);
  for (let i = 0; i < n; i++) if (load<u32>(list + ((i as usize) << 2)) >= limit) return -EINVAL;
  for (let i = 0; i < n; i++) {
    const word = wordOf(fifo, load<i32>(list + ((i as usize) << 2)));
    if (word == AWAY) return -EAGAIN;
    if (word != NO_WORD && Shared.load<i32>(word) & EVENT_PENDING) return 1;
  }
  return 0;
}

/** As `portStatus`. */
export function fifoStatus(vm: usize, port: i32): i32 {
  const fifo = Fifo.part(vm);
  if (!Fifo.isPort(fifo, port)) return -EINVAL;
  const word = wordOf(fifo, port);
  if (word == AWAY) return -EAGAIN;
  const record = Fifo.port(fifo, port);
  let bits = word == NO_WORD ? 2 : statusOf(Shared.load<i32>(word));
  if (Fifo.entry(record) & FIFO_SAVED) bits |= 1 | 1024;
  // The queue it is on, or was on last; one that was never queued will be on that of its entry.
  const queue = Shared.load<i32>(bits & 64 ? record + FIFO_PORT_LAST : record + FIFO_PORT_ENTRY);
  const vcpu = Fifo.vcpuOf(queue);
  const control = Fifo.control(Fifo.vcpu(fifo, vcpu));
  if (!Layout.unmapped(control)) {
    bits |= 512;
    if (Shared.load<i32>((control as usize) + CONTROL_READY) & (1 << Fifo.priorityOf(queue))) bits |= 4;
  }
  const line = Vcpu.line(vm, vcpu);
  if (shadow<u64>(line)) bits |= 16;
  const info = Vcpu.info(line);
  if (Layout.unmapped(info)) return bits;
  if (Shared.load<u8>((info as usize) + VCPU_INFO_UPCALL_PENDING)) bits |= 8;
  return bits | 32;
}

function statusOf(word: i32): i32 {
  let bits = 256;
  if (word & EVENT_PENDING) bits |= 1;
  if (word & EVENT_MASKED) bits |= 2;
  if (word & EVENT_LINKED) bits |= 64;
  if (word & EVENT_BUSY) bits |= 128;
  return bits;
}

// ── the owner's: port records ──────────────────────────────────────────────────────────────────────────────────────

/** Replaces the bits of `field` in a port's entry. Senders set and clear FIFO_SAVED in it meanwhile, once each. */
function setEntry(vm: usize, port: i32, field: i32, value: i32): void {
  const at = Fifo.port(Fifo.part(vm), port) + FIFO_PORT_ENTRY;
  let old = Shared.load<i32>(at);
  for (;;) {
    const seen = Shared.compareExchange<i32>(at, old, (old & ~field) | value);
    if (seen == old) return;
    old = seen;
  }
}

/** Where a port goes from its next link on. A port beyond the FIFO part is none of it. */
export function fifoPlace(vm: usize, port: i32, entry: i32): void {
  if (Fifo.isPort(Fifo.part(vm), port)) setEntry(vm, port, PORT_BOUND | PORT_VCPU_BITS, entry);
}

/** The priority of a port, from its next link on. [XE-OP-126] */
export function fifoPriority(vm: usize, port: i32, priority: i32): void {
  setEntry(vm, port, 15 << FIFO_PRIORITY_SHIFT, priority << FIFO_PRIORITY_SHIFT);
}
