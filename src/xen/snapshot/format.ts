// A snapshot of a domain as bytes, and what each of its values may be.
//
//   "EVTD" ─ u32 version ─ u32 bytes of the domain's part ─ that part ─ the snapshot of its VM ─ u32 CRC-32 of all before it

import { MAX_VCPUS } from '../../abi/region.ts';
import { DOMID_FIRST_RESERVED } from '../../abi/xen_domain.ts';
import {
  HVM_NR_GSIS,
  HVM_NR_PARAMS,
  HVM_NR_PIRQS,
  HVM_NR_WATCHDOGS,
  HVM_VCPU_UP,
  HVM_VIA_VECTOR,
} from '../../abi/xen_hvm.ts';
import { MAX_DOMAIN_PORTS } from '../../abi/xen_port.ts';
import { EvtchnError } from '../../errors.ts';
import {
  type Codec,
  flag,
  list,
  oneOf,
  orNull,
  Reader,
  record,
  show,
  u32,
  u64,
  Writer,
  wide,
} from '../../vm/snapshot/codec.ts';
import { checkObject, crc32 } from '../../vm/snapshot/format.ts';
import { readSnapshot } from '../../vm/snapshot/snapshot.ts';
import type { FifoPortState, FifoState, FifoVcpuState } from '../fifo_state.ts';
import {
  DOMAIN_SNAPSHOT_VERSION,
  type DomainState,
  type HvmState,
  type HvmVcpuState,
  type PirqState,
  type PortState,
  type XenState,
} from './state.ts';

/** "EVTD" as a little-endian word. */
const MAGIC = 0x44545645;
const HEADER = 12;
const TRAILER = 4;

const U32_MAX = 2 ** 32 - 1;
const u32Any = u32(0, U32_MAX);
const port = u32(0, MAX_DOMAIN_PORTS - 1);
const gpa = wide(0, 2 ** 52 - 1);

const portState = record<PortState>({
  port: u32(1, MAX_DOMAIN_PORTS - 1),
  state: oneOf('unbound', 'interdomain', 'pirq', 'virq', 'ipi'),
  vcpu: u32(0, MAX_VCPUS - 1),
  dom: u32(0, 0xffff),
  number: u32Any,
  consumer: flag,
  saved: flag,
});

const hvmVcpu = record<HvmVcpuState>({
  state: u32(0, HVM_VCPU_UP),
  infoSet: flag,
  period: u64,
  lastTick: u64,
  runstateNext: u64,
});

const hvm = record<HvmState>({
  params: list(u64, HVM_NR_PARAMS),
  via: u32(0, HVM_VIA_VECTOR),
  viaGsi: u32(0, HVM_NR_GSIS - 1),
  viaAsserted: flag,
  shutdownCode: u32Any,
  shutDown: flag,
  watchdogs: list(orNull(u64), HVM_NR_WATCHDOGS),
  lines: list(u32(0, 2 ** 31 - 1), HVM_NR_GSIS),
  pirqs: list(record<PirqState>({ pirq: u32(0, HVM_NR_PIRQS - 1), entry: u32(1, 2 ** 16) }), HVM_NR_PIRQS),
  vcpus: list(hvmVcpu, MAX_VCPUS),
});

const fifo = record<FifoState>({
  vcpus: list(
    record<FifoVcpuState>({
      vcpu: u32(0, MAX_VCPUS - 1),
      control: gpa,
      tails: list(port, 16),
      heads: list(port, 16),
      ready: u32(0, 0xffff),
    }),
    MAX_VCPUS,
  ),
  pages: list(gpa, 128),
  ports: list(record<FifoPortState>({ port, entry: u32Any, last: u32Any }), MAX_DOMAIN_PORTS),
  dropped: u32Any,
});

const xen: Codec<XenState> = record<XenState>({
  domid: u32(0, DOMID_FIRST_RESERVED - 1),
  dialect: oneOf('xen', 'qemu'),
  validPorts: u32(1, MAX_DOMAIN_PORTS),
  ports: list(portState, MAX_DOMAIN_PORTS),
  hvm,
  fifo: orNull(fifo),
});

/** @internal */
export function encodeDomain(state: XenState, vm: Uint8Array): Uint8Array<ArrayBuffer> {
  const part = new Writer();
  xen.write(part, state);
  const out = new Writer(HEADER + part.length + vm.length + TRAILER);
  for (const word of [MAGIC, DOMAIN_SNAPSHOT_VERSION, part.length]) out.u32(word);
  out.bytes(part.written);
  out.bytes(vm);
  out.u32(crc32(out.written));
  return out.result();
}

/** Throws EINVAL unless the bytes are a domain's snapshot, whole, with every value of the domain's part in its range. @internal */
export function decodeDomain(bytes: Uint8Array): { readonly xen: XenState; readonly vm: Uint8Array } {
  if (bytes.length < HEADER + TRAILER) {
    throw new EvtchnError(
      'EINVAL',
      `a domain's snapshot has at least ${HEADER + TRAILER} bytes, these are ${bytes.length}`,
    );
  }
  const head = new Reader(bytes.subarray(0, HEADER), "the head of the domain's snapshot");
  if (head.u32() !== MAGIC)
    throw new EvtchnError('EINVAL', `these bytes are no domain's snapshot: they do not begin with "EVTD"`);
  checkVersion(head.u32());
  const end = bytes.length - TRAILER;
  const stored = new Reader(bytes.subarray(end), "the end of the domain's snapshot").u32();
  if (stored !== crc32(bytes.subarray(0, end)))
    throw new EvtchnError('EINVAL', "the domain's snapshot is damaged or cut off");
  const length = head.u32();
  if (length > end - HEADER)
    throw new EvtchnError('EINVAL', `the domain's part has ${length} bytes, more than there are`);
  const part = new Reader(bytes.subarray(HEADER, HEADER + length), "the domain's part of the snapshot");
  const state = xen.read(part);
  part.end();
  xen.check(state, 'the domain');
  return { xen: state, vm: bytes.subarray(HEADER + length, end) };
}

/** What a domain's snapshot says. Throws EINVAL as `Domain.restore`. */
export function readDomainSnapshot(bytes: Uint8Array): DomainState {
  const { xen, vm } = decodeDomain(bytes);
  return { version: DOMAIN_SNAPSHOT_VERSION, vm: readSnapshot(vm), xen };
}

/** @internal */
export function checkDomainObject(state: DomainState): void {
  if (typeof state !== 'object' || state === null)
    throw new EvtchnError('EINVAL', `a domain's state is ${show(state)}`);
  checkVersion(state.version);
  checkObject(state.vm);
  xen.check(state.xen, 'the domain');
}

function checkVersion(version: number): void {
  if (version === DOMAIN_SNAPSHOT_VERSION) return;
  throw new EvtchnError(
    'EINVAL',
    `the domain's snapshot has version ${show(version)}, this library reads ${DOMAIN_SNAPSHOT_VERSION}`,
  );
}
