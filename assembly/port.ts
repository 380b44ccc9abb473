// The port table: which vCPU a port is bound to. Changed by the owner, read by every agent.
//
// A sender looks its vCPU up after it has set the pending bit; a bind looks at the pending bit after it has changed the
// table. So one of the two always tells the new vCPU: a port that moves while an event is on its way is not forgotten.

import {
  GPC_ACTIVE,
  GPC_FIFO,
  GPC_LONG_MODE,
  GPC_WORD,
  GROUP_MIXED,
  GROUP_OWNERS,
  GROUP_SHIFT,
  PORT_BOUND,
  PORT_TABLE,
  PORT_TABLE_PORTS,
  PORT_VCPU_BITS,
  REGION_FIFO,
  REGION_SHARED_INFO,
} from '../src/abi/region.ts';
import { Bracket } from './bracket';
import { fifoPlace } from './fifo_state';
import { Layout } from './layout';
import { Shared } from './shared';
import { Upcall } from './upcall';

export class Port {
  @inline static entry(vm: usize, port: i32): i32 {
    return Shared.load<i32>(vm + PORT_TABLE + ((port as usize) << 2));
  }
  /** The vCPU of an event that names none. */
  @inline static vcpu(vm: usize, port: i32): i32 {
    return Port.entry(vm, port) & PORT_VCPU_BITS;
  }
  /** The vCPU of an event that names `vcpu`: what the port is bound to comes first. */
  @inline static vcpuOr(vm: usize, port: i32, vcpu: i32): i32 {
    const entry = Port.entry(vm, port);
    return entry & PORT_BOUND ? entry & PORT_VCPU_BITS : vcpu;
  }
  /** The entry that all ports of a group have, or GROUP_MIXED. */
  @inline static groupEntry(vm: usize, group: i32): i32 {
    return Shared.load<i32>(vm + GROUP_OWNERS + ((group as usize) << 2));
  }
  /** Whether `vcpu` may take what has this entry: an unbound port's is 0. GROUP_MIXED is served by nobody. */
  @inline static serves(vcpu: i32, entry: i32): bool {
    return entry == 0 || entry == (vcpu | PORT_BOUND);
  }
}

/**
 * Writes a port's entry, and tells no vCPU of it: that of the 2-level ABI, and that of the FIFO ABI where there is one, whichever is in
 * force. `port` is of one of the two, checked by the caller. Owner only.
 */
export function placePort(vm: usize, port: i32, entry: i32): void {
  if (load<i32>(vm + REGION_FIFO)) fifoPlace(vm, port, entry);
  if (port < PORT_TABLE_PORTS) place2Level(vm, port, entry);
}

function place2Level(vm: usize, port: i32, entry: i32): void {
  const group = port >> GROUP_SHIFT;
  const owner = vm + GROUP_OWNERS + ((group as usize) << 2);
  // Mixed first: a drain that trusts the group must not take a port that has just left its vCPU's table.
  Shared.store<i32>(owner, GROUP_MIXED);
  Shared.store<i32>(vm + PORT_TABLE + ((port as usize) << 2), entry);
  if (isUniform(vm, group, entry)) Shared.store<i32>(owner, entry);
}

/** Binds `port` (of the ABI in force, checked by the caller) to `vcpu`. Owner only. */
export function bindVcpu(vm: usize, agent: usize, port: i32, vcpu: i32): void {
  placePort(vm, port, PORT_BOUND | vcpu);
  const token = Bracket.enter(agent);
  // After the table: see the head of this file. On the other side: the sender's read-modify-write on pending.
  const word = Shared.load<i32>(vm + REGION_SHARED_INFO + GPC_WORD);
  // Under the FIFO ABI what is queued stays where it is; it is taken there. [XE-FF-42]
  if (port < Layout.ports(word) && !(word & GPC_FIFO)) {
    if (word & GPC_LONG_MODE) tellNewVcpu<u64>(vm, agent, word, port, vcpu);
    else tellNewVcpu<u32>(vm, agent, word, port, vcpu);
  }
  Bracket.leave(agent, token);
}

function tellNewVcpu<W extends number>(vm: usize, agent: usize, word: i32, port: i32, vcpu: i32): void {
  const index = port >> Layout.wordShift<W>();
  if (Layout.unmapped(word)) {
    // The page cannot be read now: one look too many is harmless, one too few is a lost event.
    if (Shared.load<i32>(vm + REGION_SHARED_INFO + GPC_ACTIVE) == 0) return;
  } else {
    const p = Layout.pending<W>(Layout.page(word), index);
    if (!(Shared.load<W>(p) & Layout.bit<W>(port))) return;
    if (Shared.load<W>(p + Layout.toMask<W>()) & Layout.bit<W>(port)) return;
  }
  Upcall.raise<W>(vm, agent, vcpu, Layout.bit<W>(index));
}

function isUniform(vm: usize, group: i32, entry: i32): bool {
  const first = group << GROUP_SHIFT;
  for (let port = first; port < first + (1 << GROUP_SHIFT); port++) {
    if (Port.entry(vm, port) != entry) return false;
  }
  return true;
}
