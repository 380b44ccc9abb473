// SCHEDOP_poll: a vCPU sleeps until one of some ports is pending, masked or not. [KX-HCL-33, KX-EVT-40]
//
//   poller: announce (poll word) ─ look at pending ─ sleep          sender: set pending ─ look at the poll word ─ wake

import { EAGAIN, EINVAL } from '../src/abi/errno.ts';
import {
  GPC_LONG_MODE,
  GPC_WORD,
  POLL_ANY,
  REGION_POLLERS,
  REGION_SHARED_INFO,
  REQUEST_UNBLOCK,
  VCPU_POLL,
} from '../src/abi/region.ts';
import { Bracket } from './bracket';
import { Layout } from './layout';
import { Shared } from './shared';
import { request, Vcpu } from './upcall';

/** Wakes `vcpu` if it polls for `port`. Only the vCPU that the port is bound to is considered. [KX-EVT-41] */
export function wakePoller(vm: usize, agent: usize, vcpu: i32, port: i32): void {
  const line = Vcpu.line(vm, vcpu);
  // After the read-modify-write on pending. On the other side: pollBegin announces, then looks at pending.
  const awaited = Shared.load<i32>(line + VCPU_POLL);
  if (awaited == 0 || (awaited != POLL_ANY && awaited != port + 1)) return;
  if (Shared.compareExchange<i32>(line + VCPU_POLL, awaited, 0) != awaited) return;
  request(agent, line, REQUEST_UNBLOCK);
}

/** @returns whether any vCPU polls; lets a batch skip the search */
export function anyPoller(vm: usize): bool {
  return Shared.load<i32>(vm + REGION_POLLERS) != 0;
}

/**
 * Announces a poll for the `n` ports (u32 each) at `list`, then looks at them.
 * @returns 1 one is pending: do not sleep; 0 none is; -EINVAL a port is out of range; -EAGAIN shared_info is not mapped.
 *   After 0 and 1 `pollEnd` must follow; after an error nothing was announced.
 */
export function pollBegin(vm: usize, agent: usize, vcpu: i32, list: usize, n: i32): i32 {
  const token = Bracket.enter(agent);
  const word = Shared.load<i32>(vm + REGION_SHARED_INFO + GPC_WORD);
  const result = word & GPC_LONG_MODE ? begin<u64>(vm, vcpu, word, list, n) : begin<u32>(vm, vcpu, word, list, n);
  Bracket.leave(agent, token);
  return result;
}

function begin<W extends number>(vm: usize, vcpu: i32, word: i32, list: usize, n: i32): i32 {
  const ports = Layout.ports(word) as u32;
  for (let i = 0; i < n; i++) if (load<u32>(list + ((i as usize) << 2)) >= ports) return -EINVAL;
  if (Layout.unmapped(word)) return -EAGAIN;
  Shared.add<i32>(vm + REGION_POLLERS, 1);
  // Before the look at pending. On the other side: wakePoller, after the sender's read-modify-write on pending.
  Shared.exchange<i32>(Vcpu.line(vm, vcpu) + VCPU_POLL, n == 1 ? load<i32>(list) + 1 : POLL_ANY);
  for (let i = 0; i < n; i++) {
    const port = load<i32>(list + ((i as usize) << 2));
    const p = Layout.pending<W>(Layout.page(word), port >> Layout.wordShift<W>());
    if (Shared.load<W>(p) & Layout.bit<W>(port)) return 1;
  }
  return 0;
}

/** Withdraws the announcement. */
export function pollEnd(vm: usize, vcpu: i32): void {
  Shared.exchange<i32>(Vcpu.line(vm, vcpu) + VCPU_POLL, 0);
  Shared.add<i32>(vm + REGION_POLLERS, -1);
}
