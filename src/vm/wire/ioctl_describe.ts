// A call of the kernel's interface as a readable line, for recordings and logs.

import { ATTR_SIZE } from '../../abi/attribute.ts';
import {
  KVM_CHECK_EXTENSION,
  KVM_GET_CLOCK,
  KVM_GET_DIRTY_LOG,
  KVM_IRQ_LINE,
  KVM_IRQFD,
  KVM_RESET_DIRTY_RINGS,
  KVM_SET_CLOCK,
  KVM_SET_GSI_ROUTING,
  KVM_SET_USER_MEMORY_REGION,
  KVM_XEN_HVM_CONFIG,
  KVM_XEN_HVM_EVTCHN_SEND,
  KVM_XEN_HVM_GET_ATTR,
  KVM_XEN_HVM_SET_ATTR,
  KVM_XEN_VCPU_GET_ATTR,
  KVM_XEN_VCPU_SET_ATTR,
} from '../../abi/ioctl.ts';
import { EvtchnError } from '../../errors.ts';
import type { VcpuAttr, VmAttr } from '../attributes.ts';
import { decodeVcpuAttr, decodeVmAttr, typeOf, VCPU_CODECS, VM_CODECS } from './attributes.ts';
import { decodeClockData } from './clock.ts';
import { decodeRawConfig } from './config.ts';
import { argumentBytes } from './ioctl.ts';
import { decodeDirtyLog, decodeMemoryRegion } from './memory.ts';
import { decodeEvtchnSend, decodeIrqfd, decodeIrqLevel, decodeRouting } from './routing.ts';
import { getU32, structure } from './structure.ts';

/** Its name, and what its structure says before the call. Those that only ask say which thing. */
interface Description {
  readonly name: string;
  readonly says: (bytes: Uint8Array) => object;
}

const DESCRIPTIONS: ReadonlyMap<number, Description> = new Map([
  [
    KVM_CHECK_EXTENSION,
    { name: 'KVM_CHECK_EXTENSION', says: (bytes) => ({ extension: getU32(structure(bytes, 4), 0) }) },
  ],
  [KVM_SET_USER_MEMORY_REGION, { name: 'KVM_SET_USER_MEMORY_REGION', says: decodeMemoryRegion }],
  [KVM_GET_DIRTY_LOG, { name: 'KVM_GET_DIRTY_LOG', says: decodeDirtyLog }],
  [KVM_RESET_DIRTY_RINGS, { name: 'KVM_RESET_DIRTY_RINGS', says: () => ({}) }],
  [KVM_IRQ_LINE, { name: 'KVM_IRQ_LINE', says: decodeIrqLevel }],
  [KVM_SET_GSI_ROUTING, { name: 'KVM_SET_GSI_ROUTING', says: (bytes) => ({ routes: decodeRouting(bytes) }) }],
  [KVM_IRQFD, { name: 'KVM_IRQFD', says: decodeIrqfd }],
  [KVM_XEN_HVM_CONFIG, { name: 'KVM_XEN_HVM_CONFIG', says: decodeRawConfig }],
  [KVM_GET_CLOCK, { name: 'KVM_GET_CLOCK', says: () => ({}) }],
  [KVM_SET_CLOCK, { name: 'KVM_SET_CLOCK', says: decodeClockData }],
  [KVM_XEN_HVM_SET_ATTR, { name: 'KVM_XEN_HVM_SET_ATTR', says: decodeVmAttr }],
  [
    KVM_XEN_HVM_GET_ATTR,
    {
      name: 'KVM_XEN_HVM_GET_ATTR',
      says: (bytes) => ({ type: typeOf<VmAttr>(VM_CODECS, structure(bytes, ATTR_SIZE)) }),
    },
  ],
  [KVM_XEN_HVM_EVTCHN_SEND, { name: 'KVM_XEN_HVM_EVTCHN_SEND', says: decodeEvtchnSend }],
  [KVM_XEN_VCPU_SET_ATTR, { name: 'KVM_XEN_VCPU_SET_ATTR', says: decodeVcpuAttr }],
  [
    KVM_XEN_VCPU_GET_ATTR,
    {
      name: 'KVM_XEN_VCPU_GET_ATTR',
      says: (bytes) => ({ type: typeOf<VcpuAttr>(VCPU_CODECS, structure(bytes, ATTR_SIZE)) }),
    },
  ],
]);

/** Fields that are read better in base 16. */
const BASE_16 = new Set(['gpa', 'hva', 'gfn', 'bytes', 'msr', 'flags', 'blobCompat', 'blobLong', 'address', 'version']);

/**
 * A call in one line: its name and what its structure says, for example `KVM_XEN_HVM_SET_ATTR shared_info gfn=0x3`; what is
 * wrong with it where it says nothing. `bytes` is the structure before the call. Does not throw.
 */
export function describeIoctl(request: number, bytes?: Uint8Array | number): string {
  // What is no number or no structure is shown as such: a recording may have come from anywhere.
  const number = typeof request === 'number' ? request >>> 0 : Number.NaN;
  const given = argumentBytes(bytes);
  const argument = given instanceof Uint8Array ? given : new Uint8Array(0);
  const description = DESCRIPTIONS.get(number);
  if (!description) return `ioctl 0x${number.toString(16)}, which is not known, with ${argument.length} bytes`;
  try {
    return [description.name, ...fields(description.says(argument))].join(' ');
  } catch (error) {
    if (error instanceof EvtchnError) return `${description.name}: ${error.message}`;
    throw error;
  }
}

/** `type` stands for itself. */
function fields(value: object): string[] {
  return Object.entries(value).map(([key, field]) => (key === 'type' ? String(field) : `${key}=${show(field, key)}`));
}

function show(value: unknown, key: string): string {
  if (value === null) return 'none';
  if (Array.isArray(value)) return `[${value.map((item) => show(item, key)).join(', ')}]`;
  if (typeof value === 'object') return `{${fields(value).join(' ')}}`;
  const base16 = BASE_16.has(key) && (typeof value === 'number' || typeof value === 'bigint');
  return base16 ? `0x${value.toString(16)}` : String(value);
}
