// What a snapshot holds of the FIFO ABI: all that is not in guest RAM. Event words, ready bits and heads are there.

import {
  CONTROL_SIZE,
  FIFO_CAPACITY,
  FIFO_CONTROL_GPC,
  FIFO_DROPPED,
  FIFO_LIMIT,
  FIFO_LOCAL_HEADS,
  FIFO_LOCAL_READY,
  FIFO_PAGES,
  FIFO_PARKED,
  FIFO_PORT_ENTRY,
  FIFO_PORT_LAST,
  FIFO_PRIORITIES,
  FIFO_PRIORITY_DEFAULT,
  FIFO_PRIORITY_SHIFT,
  FIFO_QUEUE_BITS,
  FIFO_QUEUES,
  FIFO_SAVED,
  QUEUE_TAIL_BITS,
} from '../abi/fifo.ts';
import { PORT_BOUND } from '../abi/region.ts';
import { PAGE_SIZE } from '../abi/shared_info.ts';
import { EvtchnError } from '../errors.ts';
import { gpa } from '../memory/address.ts';
import { fifoPort } from '../vm/fifo/records.ts';
import { enterFifo } from '../vm/fifo/switch.ts';
import { applyPlace } from '../vm/snapshot/place.ts';
import type { PlaceState } from '../vm/snapshot/state.ts';
import type { Vm } from '../vm/vm.ts';

/** A port whose record is not that of a fresh one; numbers as the region has them. */
export interface FifoPortState {
  readonly port: number;
  readonly entry: number;
  readonly last: number;
}

/** A vCPU that has a control block. */
export interface FifoVcpuState {
  readonly vcpu: number;
  /** guest-physical address of the control block */
  readonly control: number;
  /** the last port of each queue */
  readonly tails: readonly number[];
  /** what our own consumer keeps */
  readonly heads: readonly number[];
  readonly ready: number;
}

/** The FIFO ABI of a VM. */
export interface FifoState {
  readonly vcpus: readonly FifoVcpuState[];
  /** guest-physical addresses of the pages of event words, in order */
  readonly pages: readonly number[];
  readonly ports: readonly FifoPortState[];
  readonly dropped: number;
}

const FRESH = FIFO_PRIORITY_DEFAULT << FIFO_PRIORITY_SHIFT;

/** @internal */
export function captureFifo(vm: Vm): FifoState {
  const { region, gpcs } = vm;
  const { words, fifo } = region;
  const address = (gpc: number): number => gpcs.gpaOf(gpc) ?? 0;
  const queues = (at: number): number[] => Array.from({ length: FIFO_PRIORITIES }, (_, p) => words.load(at + 4 * p));
  const vcpus = Array.from({ length: vm.vcpus }, (_, vcpu) => vcpu)
    .filter((vcpu) => gpcs.isActive(region.fifoVcpu(vcpu) + FIFO_CONTROL_GPC))
    .map((vcpu) => {
      const record = region.fifoVcpu(vcpu);
      return {
        vcpu,
        control: address(record + FIFO_CONTROL_GPC),
        tails: queues(record + FIFO_QUEUES).map((word) => word & QUEUE_TAIL_BITS),
        heads: queues(record + FIFO_LOCAL_HEADS),
        ready: words.load(record + FIFO_LOCAL_READY),
      };
    });
  const pages = Array.from({ length: words.load(fifo + FIFO_PAGES) }, (_, page) => address(region.fifoPage(page)));
  const ports: FifoPortState[] = [];
  for (let port = 1; port < words.load(fifo + FIFO_LIMIT); port++) {
    const record = fifoPort(region, port);
    const [entry, last] = [words.load(record + FIFO_PORT_ENTRY), words.load(record + FIFO_PORT_LAST)];
    if (entry !== FRESH || last !== 0) ports.push({ port, entry, last });
  }
  return { vcpus, pages, ports, dropped: words.load(fifo + FIFO_DROPPED) };
}

/** @internal */
export function restoreFifo(vm: Vm, state: FifoState): void {
  checkFifo(vm, state);
  const { region, gpcs } = vm;
  const { words, fifo } = region;
  if (region.fifoActive) throw new EvtchnError('EINVAL', 'the FIFO ABI is in force already');
  enterFifo(vm);
  for (const { port, entry, last } of state.ports) {
    words.store(fifoPort(region, port) + FIFO_PORT_ENTRY, entry);
    words.store(fifoPort(region, port) + FIFO_PORT_LAST, last);
  }
  for (const { vcpu, control, tails, heads, ready } of state.vcpus) {
    const record = region.fifoVcpu(vcpu);
    tails.forEach((tail, p) => {
      words.store(record + FIFO_QUEUES + 4 * p, tail);
    });
    heads.forEach((head, p) => {
      words.store(record + FIFO_LOCAL_HEADS + 4 * p, head);
    });
    words.store(record + FIFO_LOCAL_READY, ready);
    gpcs.activate(record + FIFO_CONTROL_GPC, 'the control block', { gpa: gpa(control) }, CONTROL_SIZE);
  }
  state.pages.forEach((page, i) => {
    gpcs.activate(region.fifoPage(i), 'the page of event words', { gpa: gpa(page) }, PAGE_SIZE);
  });
  words.store(fifo + FIFO_DROPPED, state.dropped);
  words.store(fifo + FIFO_PAGES, state.pages.length);
}

/**
 * The FIFO ABI as it was saved, or the 2-level one: while senders are held off and no page is mapped, as in a restore of the VM. The
 * state was checked. @internal
 */
export function replaceFifo(vm: Vm, state: FifoState | null): void {
  const { region, kernel, vmBase } = vm;
  const { words, fifo } = region;
  if (fifo === 0) return;
  const store = (at: number, values: readonly number[]): void => {
    for (let p = 0; p < FIFO_PRIORITIES; p++) words.store(at + 4 * p, values[p] ?? 0);
  };
  const place = (address: number): PlaceState => ({ by: 'gpa', address, far: null });
  for (const gpc of region.fifoGpcs()) applyPlace(vm, gpc, null, 0);
  for (let port = 0; port < words.load(fifo + FIFO_LIMIT); port++) {
    words.store(fifoPort(region, port) + FIFO_PORT_ENTRY, FRESH);
    words.store(fifoPort(region, port) + FIFO_PORT_LAST, 0);
  }
  for (const { port, entry, last } of state?.ports ?? []) {
    words.store(fifoPort(region, port) + FIFO_PORT_ENTRY, entry);
    words.store(fifoPort(region, port) + FIFO_PORT_LAST, last);
  }
  for (let vcpu = 0; vcpu < vm.vcpus; vcpu++) {
    const record = region.fifoVcpu(vcpu);
    const saved = state?.vcpus.find((one) => one.vcpu === vcpu);
    store(record + FIFO_QUEUES, saved?.tails ?? []);
    store(record + FIFO_LOCAL_HEADS, saved?.heads ?? []);
    words.store(record + FIFO_LOCAL_READY, saved?.ready ?? 0);
    if (saved) applyPlace(vm, record + FIFO_CONTROL_GPC, place(saved.control), CONTROL_SIZE);
  }
  state?.pages.forEach((page, i) => {
    applyPlace(vm, region.fifoPage(i), place(page), PAGE_SIZE);
  });
  words.store(fifo + FIFO_DROPPED, state?.dropped ?? 0);
  words.store(fifo + FIFO_PAGES, state?.pages.length ?? FIFO_PARKED);
  kernel.setFifo(vmBase, state ? 1 : 0);
}

/** Throws EINVAL unless the state fits the VM. @internal */
export function checkFifo(vm: Vm, { vcpus, pages, ports }: FifoState): void {
  const { region } = vm;
  const { words, fifo } = region;
  const fail = (why: string): never => {
    throw new EvtchnError('EINVAL', `the saved FIFO state ${why}`);
  };
  if (fifo === 0) fail('needs a VM with fifoPorts');
  const [capacity, limit] = [words.load(fifo + FIFO_CAPACITY), words.load(fifo + FIFO_LIMIT)];
  const isInt = (value: number, below: number): boolean => Number.isInteger(value) && value >= 0 && value < below;
  const end = Math.min(limit, pages.length * 1024);
  if (pages.length > capacity) fail(`has ${pages.length} pages of event words, this VM has room for ${capacity}`);
  for (const at of pages) if (!isInt(at, 2 ** 52) || at % PAGE_SIZE) fail(`has a page of event words at ${at}`);
  for (const { vcpu, control, tails, heads, ready } of vcpus) {
    if (!isInt(vcpu, vm.vcpus)) fail(`has vCPU ${vcpu}, this VM has ${vm.vcpus}`);
    if (!isInt(control, 2 ** 52) || control % 8 || (control % PAGE_SIZE) + CONTROL_SIZE > PAGE_SIZE)
      fail(`has a control block at ${control}`);
    if (tails.length !== FIFO_PRIORITIES || heads.length !== FIFO_PRIORITIES)
      fail(`has ${tails.length} queues of vCPU ${vcpu}`);
    for (const port of [...tails, ...heads]) if (!isInt(port, Math.max(end, 1))) fail(`has port ${port} in a queue`);
    if (!isInt(ready, 1 << FIFO_PRIORITIES)) fail(`has the ready bits ${ready}`);
  }
  const known = FIFO_QUEUE_BITS | PORT_BOUND | FIFO_SAVED;
  for (const { port, entry, last } of ports) {
    if (!isInt(port, limit) || port === 0) fail(`has port ${port}, the ports of this VM end at ${limit - 1}`);
    const bad = (entry & ~known) | (last & ~FIFO_QUEUE_BITS);
    if (bad || (entry & 0xffff) >= vm.vcpus || (last & 0xffff) >= vm.vcpus) fail(`has a bad record of port ${port}`);
  }
}
