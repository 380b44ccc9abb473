// Guests to measure on. All guests of a process lie in one memory, because every memory has a kernel of its own and a call
// that meets two kernels is slower for both.

import { EINVAL, ENOTCONN } from '../src/abi/errno.ts';
import { AGENT_INBOX, GROUP_SHIFT, PORT_TABLE, PORT_VCPU_BITS } from '../src/abi/region.ts';
import {
  PAGE_SIZE,
  PORTS_LONG,
  SHARED_INFO_MASK_LONG,
  SHARED_INFO_PENDING,
  WORDS_LONG,
} from '../src/abi/shared_info.ts';
import { VCPU_INFO_SELECTOR_LONG, VCPU_INFO_SIZE, VCPU_INFO_UPCALL_PENDING } from '../src/abi/vcpu_info.ts';
import { createVm, gfn, gpa, regionBytes, type Vm } from '../src/index.ts';

/** Where the structures of a guest lie, as indices that plain TypeScript can use. Words are i32. */
export interface Layout {
  readonly words: Int32Array;
  readonly bytes: Uint8Array;
  /** index of the first word of the pending bitmap, the mask bitmap, the selector of vCPU 0, the port table */
  readonly pending: number;
  readonly mask: number;
  readonly selector: number;
  readonly table: number;
  /** index of the upcall byte of vCPU 0 */
  readonly upcall: number;
  /** words, and bytes, from one vcpu_info to the next */
  readonly infoWords: number;
  readonly infoBytes: number;
  /** index of the first word of a list that a drain may write */
  readonly inbox: number;
  /** ports are 1..ports-1; what a send answers for any other, and for a masked one */
  readonly ports: number;
  readonly noPort: number;
  readonly held: number;
}

export interface Guest {
  readonly vm: Vm;
  readonly at: Layout;
  /** Clears pending, selectors and upcall bytes. */
  readonly reset: () => void;
  /** Sets every mask bit, or none. */
  readonly setMask: (masked: boolean) => void;
  /** A reset after which these ports are pending, with selector and upcall byte of the vCPU they are bound to. */
  readonly resetTo: (ports: Iterable<number>) => () => void;
}

const BITMAP_BYTES = WORDS_LONG * 8;
const WASM_PAGE = 65536;
const AGENTS = 2;

/** Guests of 64-bit layout, one for each number of vCPUs, in one memory. */
export function makeGuests(shared: boolean, ...vcpus: number[]): Guest[] {
  let end = PAGE_SIZE;
  const places = vcpus.map((count) => {
    const regionBase = end;
    const guestBase = pageUp(regionBase + regionBytes({ vcpus: count, agents: AGENTS }));
    const guestPages = 1 + pageUp(count * VCPU_INFO_SIZE) / PAGE_SIZE;
    end = guestBase + guestPages * PAGE_SIZE;
    return { regionBase, guestBase, guestPages, vcpus: count };
  });
  const pages = Math.ceil(end / WASM_PAGE);
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared });
  return places.map((place) => makeGuest(createVm({ memory, agents: AGENTS, ...place })));
}

/** One guest with one vCPU. */
export function makeOne(shared: boolean): Guest {
  return makeGuests(shared, 1)[0] as Guest;
}

function makeGuest(vm: Vm): Guest {
  vm.setAttr({ type: 'long_mode', enabled: true });
  vm.setAttr({ type: 'shared_info', gfn: gfn(0) });
  for (let i = 0; i < vm.vcpus; i++) {
    vm.vcpu(i).setAttr({ type: 'vcpu_info', gpa: gpa(PAGE_SIZE + i * VCPU_INFO_SIZE) });
  }
  const bytes = new Uint8Array(vm.memory.buffer);
  const pending = vm.guestBase + SHARED_INFO_PENDING;
  const mask = vm.guestBase + SHARED_INFO_MASK_LONG;
  const info = vm.guestBase + PAGE_SIZE;
  const infoEnd = info + vm.vcpus * VCPU_INFO_SIZE;
  const at: Layout = {
    words: new Int32Array(vm.memory.buffer),
    bytes,
    pending: pending >> 2,
    mask: mask >> 2,
    selector: (info + VCPU_INFO_SELECTOR_LONG) >> 2,
    table: (vm.vmBase + PORT_TABLE) >> 2,
    upcall: info + VCPU_INFO_UPCALL_PENDING,
    infoWords: VCPU_INFO_SIZE >> 2,
    infoBytes: VCPU_INFO_SIZE,
    inbox: (vm.agent + AGENT_INBOX) >> 2,
    ports: PORTS_LONG,
    noPort: -EINVAL,
    held: -ENOTCONN,
  };
  const reset = (): void => {
    bytes.fill(0, pending, pending + BITMAP_BYTES);
    bytes.fill(0, info, infoEnd);
  };
  return {
    vm,
    at,
    reset,
    setMask: (masked) => bytes.fill(masked ? 0xff : 0, mask, mask + BITMAP_BYTES),
    resetTo: (ports) => {
      reset();
      for (const port of ports) {
        const vcpu = (at.words[at.table + port] ?? 0) & PORT_VCPU_BITS;
        setBit(bytes, pending, port);
        setBit(bytes, info + vcpu * VCPU_INFO_SIZE + VCPU_INFO_SELECTOR_LONG, port >> GROUP_SHIFT);
        bytes[at.upcall + vcpu * VCPU_INFO_SIZE] = 1;
      }
      const bitmap = bytes.slice(pending, pending + BITMAP_BYTES);
      const infos = bytes.slice(info, infoEnd);
      return () => {
        bytes.set(bitmap, pending);
        bytes.set(infos, info);
      };
    },
  };
}

function setBit(bytes: Uint8Array, at: number, bit: number): void {
  bytes[at + (bit >> 3)] = (bytes[at + (bit >> 3)] ?? 0) | (1 << (bit & 7));
}

function pageUp(bytes: number): number {
  return Math.ceil(bytes / PAGE_SIZE) * PAGE_SIZE;
}
