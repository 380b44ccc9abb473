// One event. [KX-EVT-10..21]

import { EAGAIN, EINVAL, ENOTCONN } from '../src/abi/errno.ts';
import { GPC_FIFO, GPC_LONG_MODE, GPC_WORD, READER_OPEN, REGION_SHARED_INFO } from '../src/abi/region.ts';
import { Bracket } from './bracket';
import { fifoSend } from './fifo_send';
import { Layout } from './layout';
import { wakePoller } from './poll';
import { Port } from './port';
import { Shared } from './shared';
import { Upcall } from './upcall';

/**
 * Raises `port` on the vCPU it is bound to.
 * @returns 1 delivered, 0 coalesced with one that is pending, -ENOTCONN masked (it stays pending), -EINVAL no such port
 *   in the guest's mode, -EAGAIN shared_info is not mapped: nothing was changed, refresh and try again; under the FIFO ABI as fifoSend
 */
export function send(vm: usize, agent: usize, port: i32): i32 {
  const epoch = ASC_FEATURE_THREADS ? Bracket.epoch(agent) : READER_OPEN;
  if (Bracket.isFifo(epoch)) return fifoSend(vm, agent, port, -1);
  const token = Bracket.enterAt(agent, epoch);
  // Read once: the page, whether there is one, the layout and the ABI belong together.
  const word = Shared.load<i32>(vm + REGION_SHARED_INFO + GPC_WORD);
  const long = (word & GPC_LONG_MODE) != 0;
  const result = long ? Event.raise<u64>(vm, agent, word, port, -1) : Event.raise<u32>(vm, agent, word, port, -1);
  if (result == -EAGAIN && word & GPC_FIFO) return sendFifo(vm, agent, port, -1, token);
  Bracket.leave(agent, token);
  return result;
}

/**
 * Raises `port` on `vcpu`, or on the vCPU it is bound to. Port 0 is one like any other here, at 2 levels. [KX-EVT-11]
 * @returns as `send`
 */
export function sendTo(vm: usize, agent: usize, port: i32, vcpu: i32): i32 {
  const epoch = ASC_FEATURE_THREADS ? Bracket.epoch(agent) : READER_OPEN;
  if (Bracket.isFifo(epoch)) return fifoSend(vm, agent, port, vcpu);
  const token = Bracket.enterAt(agent, epoch);
  const word = Shared.load<i32>(vm + REGION_SHARED_INFO + GPC_WORD);
  const long = (word & GPC_LONG_MODE) != 0;
  const result = long ? Event.raise<u64>(vm, agent, word, port, vcpu) : Event.raise<u32>(vm, agent, word, port, vcpu);
  if (result == -EAGAIN && word & GPC_FIFO) return sendFifo(vm, agent, port, vcpu, token);
  Bracket.leave(agent, token);
  return result;
}

/** A send that finds the FIFO ABI in force: its queue's lock is its reader section, so the next one needs no bracket. */
function sendFifo(vm: usize, agent: usize, port: i32, named: i32, token: i32): i32 {
  Bracket.leave(agent, ASC_FEATURE_THREADS ? Bracket.noteFifo(agent, token) : token);
  return fifoSend(vm, agent, port, named);
}

export class Event {
  /** `named` is the vCPU that the event names, -1 none; a constant of the caller. */
  @inline static raise<W extends number>(vm: usize, agent: usize, word: i32, port: i32, named: i32): i32 {
    // First, because ports of the FIFO ABI are others.
    if (!Layout.is2Level<W>(word)) return word & GPC_FIFO || Event.isPort<W>(word, port, named) ? -EAGAIN : -EINVAL;
    if (!Event.isPort<W>(word, port, named)) return -EINVAL;
    const index = port >> Layout.wordShift<W>();
    const bit = Layout.bit<W>(port);
    const p = Layout.pending<W>(Layout.page(word), index);
    // Never skipped, even when the bit is set already: it is the barrier between what the caller wrote for this event
    // and the test. On the other side: the consumer's clear, then its handler's read. [KX-EVT-65]
    if (Shared.or<W>(p, bit) & bit) return 0;
    // After the bit is set. On the other side: unmask clears the mask, then looks at pending. One sees the other.
    if (Shared.load<W>(p + Layout.toMask<W>()) & bit) {
      wakePoller(vm, agent, Event.vcpu(vm, port, named), port);
      return -ENOTCONN;
    }
    Upcall.raise<W>(vm, agent, Event.vcpu(vm, port, named), Layout.bit<W>(index));
    return 1;
  }

  @inline static isPort<W extends number>(word: i32, port: i32, named: i32): bool {
    return named < 0 ? Layout.isPort<W>(port) : (port as u32) < (Layout.ports(word) as u32);
  }

  @inline static vcpu(vm: usize, port: i32, named: i32): i32 {
    return named < 0 ? Port.vcpu(vm, port) : Port.vcpuOr(vm, port, named);
  }
}
