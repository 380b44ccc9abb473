// A hypercall on its way: whose it is, its parameters, and its arguments in and out. [XE-OP-02]

import { EFAULT } from '../../abi/errno.ts';
import { EvtchnError } from '../../errors.ts';
import { readArgument, type XenGuestCpu } from '../../vm/guest/guest_cpu.ts';
import type { XenExit } from '../../vm/guest/hypercall.ts';
import type { Asleep, HypercallParams } from '../../vm/guest/hypercall_table.ts';
import type { Vcpu } from '../../vm/vcpu.ts';
import type { Domain } from '../domain.ts';

/** @internal */
export interface Call {
  readonly domain: Domain;
  readonly vcpu: Vcpu;
  readonly cpu: XenGuestCpu;
  /** the caller passes structures of the 64-bit layout */
  readonly long: boolean;
  readonly params: HypercallParams;
  /** as the embedder would get it */
  readonly exit: XenExit;
}

/** What changes the configuration is the owner's to do, on its own thread. */
export const OWNERS = 'owners';

/** The guest's result, until when it sleeps, OWNERS on another thread, or null: the engine does not do it. @internal */
export type Answer = number | Asleep | typeof OWNERS | null;

/** What does one hypercall, or one command of it. @internal */
export type Handler = (call: Call) => Answer;

/** A handler that only the owner's thread may run. @internal */
export function owners(handler: Handler): Handler {
  return (call) => (call.domain.vm.owner ? handler(call) : OWNERS);
}

/** The handler of a command, and of those that are not in the table. Commands are ints in either mode. @internal */
export function commands(table: Readonly<Record<number, Handler>>): Handler {
  const handlers = new Map(Object.entries(table).map(([command, handler]) => [Number(command), handler]));
  return (call) => handlers.get(int(call.params[0]))?.(call) ?? null;
}

/** A parameter that is an int: what a 64-bit caller leaves in the upper half of the register says nothing. @internal */
export function int(param: bigint): number {
  return Number(BigInt.asIntN(32, param));
}

/** A parameter that is an unsigned int. @internal */
export function uint(param: bigint): number {
  return Number(BigInt.asUintN(32, param));
}

/** A structure that a parameter points to, read once; null: a page fault. @internal */
export function copyIn({ cpu }: Call, address: bigint, size: number): DataView | null {
  return readArgument(cpu, address, size);
}

/** Writes a structure where a parameter points to. @returns 0, or -EFAULT @internal */
export function copyOut({ cpu }: Call, address: bigint, bytes: DataView | Uint8Array): number {
  const whole = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return cpu.writeVirtual(address, whole) ? 0 : -EFAULT;
}

/** Runs `use` on the structure of `size` bytes that a parameter points to. @returns -EFAULT for a page fault @internal */
export function withArgument(call: Call, address: bigint, size: number, use: (argument: DataView) => Answer): Answer {
  const argument = copyIn(call, address, size);
  return argument === null ? -EFAULT : use(argument);
}

/** As `withArgument`, for a structure that is written back once `use` has answered 0 or more. [XE-OP-02] @internal */
export function inAndOut(call: Call, address: bigint, size: number, use: (argument: DataView) => number): number {
  const argument = copyIn(call, address, size);
  if (argument === null) return -EFAULT;
  const result = use(argument);
  // What was done stays done if it cannot be told.
  return result < 0 ? result : copyOut(call, address, argument) || result;
}

/** A u64 that names a frame or an address: exact up to 2^53, and beyond that still no RAM. @internal */
export function wide(view: DataView, at: number): number {
  return Number(view.getBigUint64(at, true));
}

/** A guest word: 64 or 32 bits, by the caller's layout. @internal */
export function word(view: DataView, at: number, long: boolean): bigint {
  return long ? view.getBigUint64(at, true) : BigInt(view.getUint32(at, true));
}

/** Where in guest-physical memory an address of the guest's is, or null. Throws EINVAL for what no processor answers. @internal */
export function physical({ cpu }: Call, address: bigint): number | null {
  const found = cpu.translate(address);
  if (found === null || (Number.isSafeInteger(found) && found >= 0)) return found;
  throw new EvtchnError('EINVAL', `translate has answered ${found}, allowed are integers from 0 to 2^53-1, and null`);
}
