// Structures of the kernel's interface as tests write them: literal offsets and numbers of the specification, never the
// engine's own constants. [kvm-xen section 1.6]

import type { Vcpu, Vm } from '../../src/index.ts';

/** A field: its offset, and its bytes. */
export type Field = readonly [at: number, bytes: readonly number[]];

export const ALL1 = 0xffff_ffff_ffff_ffffn;

function little(value: bigint, length: number): number[] {
  return Array.from({ length }, (_, i) => Number((BigInt.asUintN(64, value) >> BigInt(8 * i)) & 0xffn));
}

export const u8 = (value: number): number[] => little(BigInt(value), 1);
export const u16 = (value: number): number[] => little(BigInt(value), 2);
export const u32 = (value: number): number[] => little(BigInt(value), 4);
export const u64 = (value: number | bigint): number[] => little(BigInt(value), 8);

/** A structure of `size` bytes: `fill` where no field is. */
export function struct(size: number, fields: readonly Field[], fill = 0): Uint8Array {
  const bytes = new Uint8Array(size).fill(fill);
  for (const [at, field] of fields) bytes.set(field, at);
  return bytes;
}

/** kvm_xen_hvm_attr or kvm_xen_vcpu_attr. */
export function attr(type: number, fields: readonly Field[] = [], fill = 0): Uint8Array {
  return struct(72, [[0, u16(type)], ...fields], fill);
}

/** What the union of an EVTCHN attribute says; a target is a port, or 0 and a descriptor. */
export interface Evtchn {
  readonly sendPort?: number;
  readonly type?: number;
  readonly flags?: number;
  readonly port?: number;
  readonly vcpu?: number;
  readonly priority?: number;
}
export function evtchn(e: Evtchn): Uint8Array {
  return attr(3, [
    [8, u32(e.sendPort ?? 0)],
    [12, u32(e.type ?? 0)],
    [16, u32(e.flags ?? 0)],
    [20, u32(e.port ?? 0)],
    [24, u32(e.vcpu ?? 0)],
    [28, u32(e.priority ?? 0xffffffff)],
  ]);
}

/** Runstate attributes: state, entry time, then running, runnable, blocked, offline. */
export function runstate(type: number, values: readonly (number | bigint)[]): Uint8Array {
  return attr(
    type,
    values.map((value, i) => [8 + 8 * i, u64(value)] as const),
  );
}

export function timer(port: number, priority: number, expires: number | bigint): Uint8Array {
  return attr(7, [
    [8, u32(port)],
    [12, u32(priority)],
    [16, u64(expires)],
  ]);
}

export interface Config {
  readonly flags?: number;
  readonly msr?: number;
  readonly blob32?: number | bigint;
  readonly blob64?: number | bigint;
  readonly size32?: number;
  readonly size64?: number;
}
/** kvm_xen_hvm_config */
export function config(c: Config, fill = 0): Uint8Array {
  const fields: Field[] = [
    [0, u32(c.flags ?? 0)],
    [4, u32(c.msr ?? 0)],
    [8, u64(c.blob32 ?? 0)],
    [16, u64(c.blob64 ?? 0)],
    [24, u8(c.size32 ?? 0)],
    [25, u8(c.size64 ?? 0)],
  ];
  return struct(56, fields, fill);
}

/** kvm_userspace_memory_region */
export function memory(
  slot: number,
  flags: number,
  gpa: number | bigint,
  bytes: number | bigint,
  hva: number | bigint,
): Uint8Array {
  return struct(32, [
    [0, u32(slot)],
    [4, u32(flags)],
    [8, u64(gpa)],
    [16, u64(bytes)],
    [24, u64(hva)],
  ]);
}

/** An entry of kvm_irq_routing that raises a port. */
export function evtchnRoute(gsi: number, port: number, vcpu: number, priority = 0xffffffff): Uint8Array {
  return struct(48, [
    [0, u32(gsi)],
    [4, u32(5)],
    [16, u32(port)],
    [20, u32(vcpu)],
    [24, u32(priority)],
  ]);
}
/** kvm_irq_routing; `nr` and `flags` may lie. */
export function routing(entries: readonly Uint8Array[], nr = entries.length, flags = 0): Uint8Array {
  const bytes = struct(8 + 48 * entries.length, [
    [0, u32(nr)],
    [4, u32(flags)],
  ]);
  entries.forEach((entry, i) => {
    bytes.set(entry, 8 + 48 * i);
  });
  return bytes;
}

/** kvm_irq_routing_xen_evtchn, as EVTCHN_SEND takes it */
export const send = (port: number, vcpu = 0, priority = 0xffffffff): Uint8Array =>
  struct(12, [
    [0, u32(port)],
    [4, u32(vcpu)],
    [8, u32(priority)],
  ]);

/** kvm_irqfd */
export const irqfd = (fd: number, gsi: number, flags = 0): Uint8Array =>
  struct(32, [
    [0, u32(fd)],
    [4, u32(gsi)],
    [8, u32(flags)],
  ]);

// ── calls, by their numbers ──────────────────────────────────────────────────────────────────────────────────────────

export const CHECK_EXTENSION = 0xae03;
export const SET_USER_MEMORY_REGION = 0x4020ae46;
export const GET_DIRTY_LOG = 0x4010ae42;
export const IRQ_LINE = 0x4008ae61;
export const SET_GSI_ROUTING = 0x4008ae6a;
export const IRQFD = 0x4020ae76;
export const HVM_CONFIG = 0x4038ae7a;
export const SET_CLOCK = 0x4030ae7b;
export const GET_CLOCK = 0x8030ae7c;
export const RESET_DIRTY_RINGS = 0xaec7;
export const HVM_GET_ATTR = 0xc048aec8;
export const HVM_SET_ATTR = 0x4048aec9;
export const VCPU_GET_ATTR = 0xc048aeca;
export const VCPU_SET_ATTR = 0x4048aecb;
export const EVTCHN_SEND = 0x400caed0;

/** All of them, with the bytes of their structures; the last two go to a vCPU. */
export const REQUESTS = [
  ['KVM_CHECK_EXTENSION', CHECK_EXTENSION, 4],
  ['KVM_SET_USER_MEMORY_REGION', SET_USER_MEMORY_REGION, 32],
  ['KVM_GET_DIRTY_LOG', GET_DIRTY_LOG, 16],
  ['KVM_IRQ_LINE', IRQ_LINE, 8],
  ['KVM_SET_GSI_ROUTING', SET_GSI_ROUTING, 8],
  ['KVM_IRQFD', IRQFD, 32],
  ['KVM_XEN_HVM_CONFIG', HVM_CONFIG, 56],
  ['KVM_SET_CLOCK', SET_CLOCK, 48],
  ['KVM_GET_CLOCK', GET_CLOCK, 48],
  ['KVM_RESET_DIRTY_RINGS', RESET_DIRTY_RINGS, 0],
  ['KVM_XEN_HVM_GET_ATTR', HVM_GET_ATTR, 72],
  ['KVM_XEN_HVM_SET_ATTR', HVM_SET_ATTR, 72],
  ['KVM_XEN_HVM_EVTCHN_SEND', EVTCHN_SEND, 12],
  ['KVM_XEN_VCPU_GET_ATTR', VCPU_GET_ATTR, 72],
  ['KVM_XEN_VCPU_SET_ATTR', VCPU_SET_ATTR, 72],
] as const;

export const VCPU_REQUESTS: readonly number[] = [VCPU_GET_ATTR, VCPU_SET_ATTR];

/** A GET, from a buffer that is all 0xa5 but for its type: result and buffer. */
export function get(of: Vm | Vcpu, type: number): { result: number; bytes: Uint8Array } {
  const bytes = attr(type, [], 0xa5);
  const result = of.ioctl('vm' in of ? VCPU_GET_ATTR : HVM_GET_ATTR, bytes);
  return { result, bytes };
}

/** A SET. */
export function set(of: Vm | Vcpu, bytes: Uint8Array): number {
  return of.ioctl('vm' in of ? VCPU_SET_ATTR : HVM_SET_ATTR, bytes);
}
