// SCHEDOP_poll: a vCPU sleeps until one of some ports is pending, masked or not. [KX-HCL-33, KX-EVT-40]
//
//   poller: announce (poll word) ─ look at pending ─ sleep          sender: set pending ─ look at the poll word ─ wake

import { EAGAIN, EBUSY, EINVAL } from '../src/abi/errno.ts';
import {
  GPC_FIFO,
  GPC_LONG_MODE,
  GPC_WORD,
  POLL_ANY,
  REGION_POLLERS,
  REGION_SHARED_INFO,
  REQUEST_POLLED,
  VCPU_POLL,
  VCPU_POLLER,
  VCPU_REQUESTS,
} from '../src/abi/region.ts';
import { Bracket } from './bracket';
import { fifoAnyPending } from './fifo_state';
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
  request(agent, line, REQUEST_POLLED);
}

/** @returns whether any vCPU polls; lets a batch skip the search */
export function anyPoller(vm: usize): bool {
  return Shared.load<i32>(vm + REGION_POLLERS) != 0;
}

/**
 * Announces a poll of `vcpu` for the `n` ports (u32 each) at `list`, then looks at them.
 * @returns 1 one is pending: do not sleep; 0 none is; -EINVAL a port is out of range; -EAGAIN shared_info is not mapped;
 *   -EBUSY somebody polls for this vCPU already. After 0 and 1 `pollEnd` must follow; an error announces nothing.
 */
export function pollBegin(vm: usize, agent: usize, vcpu: i32, list: usize, n: i32): i32 {
  const line = Vcpu.line(vm, vcpu);
  // The count first, and last at the end: whoever dies in between leaves one too many, never one too few.
  Shared.add<i32>(vm + REGION_POLLERS, 1);
  if (Shared.compareExchange<i32>(line + VCPU_POLLER, 0, agent as i32)) {
    Shared.add<i32>(vm + REGION_POLLERS, -1);
    return -EBUSY;
  }
  // One that a sender left late, for the poll before.
  Shared.and<i32>(line + VCPU_REQUESTS, ~REQUEST_POLLED);
  // Before the look at pending. On the other side: wakePoller, after the sender's read-modify-write on pending.
  Shared.exchange<i32>(line + VCPU_POLL, n == 1 ? load<i32>(list) + 1 : POLL_ANY);
  const found = anyPending(vm, agent, list, n);
  if (found < 0) pollEnd(vm, vcpu);
  return found;
}

/** Withdraws the announcement. */
export function pollEnd(vm: usize, vcpu: i32): void {
  const line = Vcpu.line(vm, vcpu);
  Shared.exchange<i32>(line + VCPU_POLL, 0);
  Shared.exchange<i32>(line + VCPU_POLLER, 0);
  Shared.add<i32>(vm + REGION_POLLERS, -1);
}

/** Whether one of the `n` ports (u32 each, port 0 like any [KX-HCL-38]) at `list` is pending: 1 or 0, or -EINVAL, -EAGAIN. */
export function anyPending(vm: usize, agent: usize, list: usize, n: i32): i32 {
  const token = Bracket.enter(agent);
  const word = Shared.load<i32>(vm + REGION_SHARED_INFO + GPC_WORD);
  let result: i32;
  if (word & GPC_FIFO) result = fifoAnyPending(vm, list, n);
  else result = word & GPC_LONG_MODE ? pending<u64>(word, list, n) : pending<u32>(word, list, n);
  Bracket.leave(agent, token);
  return result;
}

function pending<W extends number>(word: i32, list: usize, n: i32): i32 {
  const ports = Layout.ports(word) as u32;
  for (let i = 0; i < n; i++) if (load<u32>(list + ((i as usize) << 2)) >= ports) return -EINVAL;
  if (Layout.unmapped(word)) return -EAGAIN;
  for (let i = 0; i < n; i++) {
    const port = load<i32>(list + ((i as usize) << 2));
    const p = Layout.pending<W>(Layout.page(word), port >> Layout.wordShift<W>());
    if (Shared.load<W>(p) & Layout.bit<W>(port)) return 1;
  }
  return 0;
}
