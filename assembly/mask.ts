// Mask and unmask, and what can be read about a port.

import { EAGAIN, EINVAL } from '../src/abi/errno.ts';
import { GPC_FIFO, GPC_LONG_MODE, GPC_WORD, REGION_SHARED_INFO } from '../src/abi/region.ts';
import { VCPU_INFO_UPCALL_PENDING } from '../src/abi/vcpu_info.ts';
import { Bracket } from './bracket';
import { fifoMask, fifoStatus, fifoUnmask } from './fifo_state';
import { Layout } from './layout';
import { Port } from './port';
import { Selector } from './selector';
import { Shared } from './shared';
import { shadow, Upcall, Vcpu } from './upcall';

/** @returns 1 the port is masked now, 0 it was already, -EINVAL no such port, -EAGAIN shared_info is not mapped */
export function mask(vm: usize, agent: usize, port: i32): i32 {
  const token = Bracket.enter(agent);
  const word = Shared.load<i32>(vm + REGION_SHARED_INFO + GPC_WORD);
  let result: i32;
  if (word & GPC_FIFO) result = fifoMask(vm, port);
  else result = word & GPC_LONG_MODE ? setMask<u64>(word, port) : setMask<u32>(word, port);
  Bracket.leave(agent, token);
  return result;
}

/**
 * Clears the mask and, if the port is pending, raises it as a sender would. [XE-2L-20]
 * @returns 1 unmasked and raised, 0 nothing was waiting (or it was not masked), -EINVAL, -EAGAIN as `mask`
 */
export function unmask(vm: usize, agent: usize, port: i32): i32 {
  const token = Bracket.enter(agent);
  const word = Shared.load<i32>(vm + REGION_SHARED_INFO + GPC_WORD);
  let result: i32;
  if (word & GPC_FIFO) result = fifoUnmask(vm, agent, port);
  else result = word & GPC_LONG_MODE ? clearMask<u64>(vm, agent, word, port) : clearMask<u32>(vm, agent, word, port);
  Bracket.leave(agent, token);
  return result;
}

/**
 * A port's state as bits: 1 pending, 2 masked, 4 selector, 8 upcall byte, 16 shadow selector, 32 vcpu_info is mapped; under the FIFO ABI 4
 * is the ready bit of its queue, and there are 64 linked, 128 busy, 256 it has a word, 512 its vCPU has a control block, 1024 saved
 * for the time when it has a word.
 */
export function portStatus(vm: usize, agent: usize, port: i32): i32 {
  const token = Bracket.enter(agent);
  const word = Shared.load<i32>(vm + REGION_SHARED_INFO + GPC_WORD);
  let result: i32;
  if (word & GPC_FIFO) result = fifoStatus(vm, port);
  else result = word & GPC_LONG_MODE ? status<u64>(vm, word, port) : status<u32>(vm, word, port);
  Bracket.leave(agent, token);
  return result;
}

function check<W extends number>(word: i32, port: i32): i32 {
  if (!Layout.isPort<W>(port)) return -EINVAL;
  return Layout.unmapped(word) ? -EAGAIN : 0;
}

function maskWord<W extends number>(word: i32, port: i32): usize {
  return Layout.pending<W>(Layout.page(word), port >> Layout.wordShift<W>()) + Layout.toMask<W>();
}

function setMask<W extends number>(word: i32, port: i32): i32 {
  const error = check<W>(word, port);
  if (error) return error;
  const bit = Layout.bit<W>(port);
  return (Shared.or<W>(maskWord<W>(word, port), bit) & bit) == 0 ? 1 : 0;
}

function clearMask<W extends number>(vm: usize, agent: usize, word: i32, port: i32): i32 {
  const error = check<W>(word, port);
  if (error) return error;
  const bit = Layout.bit<W>(port);
  const p = maskWord<W>(word, port);
  if (!(Shared.and<W>(p, ~bit as W) & bit)) return 0;
  // After the mask was cleared. On the other side: the sender sets pending, then reads the mask. [KX-EVT-65]
  if (!(Shared.load<W>(p - Layout.toMask<W>()) & bit)) return 0;
  Upcall.raise<W>(vm, agent, Port.vcpu(vm, port), Layout.bit<W>(port >> Layout.wordShift<W>()));
  return 1;
}

function status<W extends number>(vm: usize, word: i32, port: i32): i32 {
  const error = check<W>(word, port);
  if (error) return error;
  const bit = Layout.bit<W>(port);
  const selector = Layout.bit<W>(port >> Layout.wordShift<W>());
  const p = maskWord<W>(word, port);
  let bits = 0;
  if (Shared.load<W>(p - Layout.toMask<W>()) & bit) bits |= 1;
  if (Shared.load<W>(p) & bit) bits |= 2;
  const line = Vcpu.line(vm, Port.vcpu(vm, port));
  if (shadow<W>(line) & selector) bits |= 16;
  const info = Vcpu.info(line);
  if (Layout.unmapped(info)) return bits;
  if (Selector.load<W>(Selector.address<W>(info)) & selector) bits |= 4;
  if (Shared.load<u8>((info as usize) + VCPU_INFO_UPCALL_PENDING)) bits |= 8;
  return bits | 32;
}
