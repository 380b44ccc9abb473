// What stands at an address, in words: for whoever reads a schedule.

import {
  AGENT_INVALIDATIONS,
  AGENT_READER,
  AGENT_SIZE,
  AGENT_STATE,
  GPC_ACTIVE,
  GPC_ADDRESS_HI,
  GPC_ADDRESS_LO,
  GPC_LENGTH,
  GPC_SIZE,
  GPC_WORD,
  GROUP_OWNERS,
  PORT_TABLE,
  PORT_TABLE_PORTS,
  REGION_INVALIDATE_ACTIVE,
  REGION_INVALIDATE_SEQ,
  REGION_POLLERS,
  REGION_SEND_PORT_TABLE,
  REGION_SHARED_INFO,
  REGION_STATE,
  VCPU_INFO_GPC,
  VCPU_KICK,
  VCPU_LINE_SIZE,
  VCPU_POLL,
  VCPU_POLLER,
  VCPU_RECORD_SIZE,
  VCPU_REQUESTS,
  VCPU_RUNSTATE1_GPC,
  VCPU_RUNSTATE2_GPC,
  VCPU_SHADOW_HI,
  VCPU_SHADOW_LO,
  VCPU_SLEEPER,
  VCPU_TIME_INFO_GPC,
  VCPU_UPCALL_VECTOR,
} from '../abi/region.ts';
import { PAGE_SIZE, SHARED_INFO_MASK_COMPAT, SHARED_INFO_MASK_LONG, SHARED_INFO_PENDING } from '../abi/shared_info.ts';
import { gpa } from '../memory/address.ts';
import type { Vm } from '../vm/vm.ts';

type Field = readonly [at: number, name: string];

const HEADER: readonly Field[] = [
  [REGION_STATE, "the VM's state"],
  [REGION_INVALIDATE_ACTIVE, 'the count of open invalidations'],
  [REGION_INVALIDATE_SEQ, 'the sequence of invalidations'],
  [REGION_POLLERS, 'the count of pollers'],
  [REGION_SEND_PORT_TABLE, 'the switch of the send ports'],
];

const GPC: readonly Field[] = [
  [GPC_WORD, 'mapping'],
  [GPC_ACTIVE, 'active flag'],
  [GPC_ADDRESS_LO, 'address'],
  [GPC_ADDRESS_HI, 'address'],
  [GPC_LENGTH, 'length'],
];

const LINE: readonly Field[] = [
  [VCPU_KICK, 'kick word'],
  [VCPU_POLL, 'polled port'],
  [VCPU_UPCALL_VECTOR, 'upcall vector'],
  [VCPU_SHADOW_LO, 'shadow selector'],
  [VCPU_SHADOW_HI, 'shadow selector'],
  [VCPU_REQUESTS, 'requests'],
  [VCPU_SLEEPER, 'sleeper'],
  [VCPU_POLLER, 'poller'],
];

const AGENT: readonly Field[] = [
  [AGENT_READER, 'reader word'],
  [AGENT_STATE, 'state'],
  [AGENT_INVALIDATIONS, 'count of open invalidations'],
];

/** What stands at linear address `at` of a VM, in words. */
export function nameOf(vm: Vm, at: number): string {
  const { region, vmBase } = vm;
  if (at >= region.guestBase) return guestName(vm, at - region.guestBase);
  const offset = at - vmBase;
  const header = HEADER.find(([field]) => field === offset);
  if (header) return header[1];
  if (inside(offset, REGION_SHARED_INFO, GPC_SIZE)) return `shared_info's ${gpcField(offset - REGION_SHARED_INFO)}`;
  if (inside(offset, PORT_TABLE, PORT_TABLE_PORTS * 4)) return `the binding of port ${(offset - PORT_TABLE) / 4}`;
  if (inside(offset, GROUP_OWNERS, PORT_TABLE - GROUP_OWNERS)) {
    return `the binding of ports ${(offset - GROUP_OWNERS) * 16}..${(offset - GROUP_OWNERS) * 16 + 63}`;
  }
  return vcpuName(vm, at) ?? agentName(vm, at) ?? `the region's byte ${offset}`;
}

function vcpuName({ region }: Vm, at: number): string | null {
  for (let i = 0; i < region.vcpus; i++) {
    const line = at - region.vcpuLine(i);
    if (inside(line, VCPU_INFO_GPC, GPC_SIZE)) return `vcpu_info ${i}'s ${gpcField(line - VCPU_INFO_GPC)}`;
    const field = LINE.find(([offset]) => offset === line);
    if (inside(line, 0, VCPU_LINE_SIZE)) return `vCPU ${i}'s ${field?.[1] ?? `line, byte ${line}`}`;
    const record = at - region.vcpuRecord(i);
    if (!inside(record, 0, VCPU_RECORD_SIZE)) continue;
    if (inside(record, VCPU_TIME_INFO_GPC, GPC_SIZE))
      return `time_info ${i}'s ${gpcField(record - VCPU_TIME_INFO_GPC)}`;
    if (inside(record, VCPU_RUNSTATE1_GPC, GPC_SIZE)) return `runstate ${i}'s ${gpcField(record - VCPU_RUNSTATE1_GPC)}`;
    if (inside(record, VCPU_RUNSTATE2_GPC, GPC_SIZE)) {
      return `runstate ${i}'s second ${gpcField(record - VCPU_RUNSTATE2_GPC)}`;
    }
    return `vCPU ${i}'s record, byte ${record}`;
  }
  return null;
}

function agentName({ region }: Vm, at: number): string | null {
  const number = Math.floor((at - region.agentRecord(0)) / AGENT_SIZE);
  if (number < 0 || number >= region.agents) return null;
  const offset = at - region.agentRecord(number);
  return `agent ${number}'s ${AGENT.find(([field]) => field === offset)?.[1] ?? `record, byte ${offset}`}`;
}

function guestName(vm: Vm, offset: number): string {
  const at = gpa(offset);
  for (let i = 0; i < vm.vcpus; i++) {
    const { gpa: info } = vm.vcpu(i).getAttr('vcpu_info');
    if (info === null || !inside(at, info, 64)) continue;
    if (at === info) return `vCPU ${i}'s upcall byte`;
    return at - info < 16 ? `vCPU ${i}'s selector` : `vcpu_info ${i}, byte ${at - info}`;
  }
  const { gfn } = vm.getAttr('shared_info');
  if (gfn !== null && inside(at, gfn * PAGE_SIZE, PAGE_SIZE)) return sharedInfoName(vm, at - gfn * PAGE_SIZE);
  return `guest page ${Math.floor(at / PAGE_SIZE)}, byte ${at % PAGE_SIZE}`;
}

function sharedInfoName({ region: { longMode } }: Vm, offset: number): string {
  const [bytes, words, mask] = longMode ? [8, 64, SHARED_INFO_MASK_LONG] : [4, 32, SHARED_INFO_MASK_COMPAT];
  const name = (what: string, from: number): string => {
    const word = Math.floor((offset - from) / bytes);
    return `${what} word ${word} (ports ${word * bytes * 8}..${(word + 1) * bytes * 8 - 1})`;
  };
  if (inside(offset, SHARED_INFO_PENDING, bytes * words)) return name('pending', SHARED_INFO_PENDING);
  if (inside(offset, mask, bytes * words)) return name('mask', mask);
  return `shared_info, byte ${offset}`;
}

function gpcField(offset: number): string {
  return GPC.find(([field]) => field === offset)?.[1] ?? `cache, byte ${offset}`;
}

function inside(at: number, from: number, length: number): boolean {
  return at >= from && at < from + length;
}
