// The FIFO ABI beside the 2-level one, which the rest of the bench measures: two guests in one memory, the same ports in the same order.

import { CONTROL_SIZE, EVENT_WORDS_PER_PAGE, FIFO_LOCAL_HEADS, FIFO_QUEUES, FIFO_VCPU_SIZE } from '../src/abi/fifo.ts';
import { PAGE_SIZE } from '../src/abi/shared_info.ts';
import { VCPU_INFO_SIZE } from '../src/abi/vcpu_info.ts';
import { createVm, gfn, gpa, regionBytes, type Vm } from '../src/index.ts';
import { Fifo } from '../src/xen/fifo.ts';
import { shuffled } from './ports.ts';
import { type Claim, type Report, type Row, rowsOf, type Setting } from './report.ts';
import { type Figures, FULL, fresh, type Loop, measureRounds, QUICK, type Variant } from './rounds.ts';
import { sendLoop } from './send.ts';

const PORTS = 4096;
const READY = 1024;
const ARRAY = 3;
const PAGES = PORTS / EVENT_WORDS_PER_PAGE;
const GUEST_PAGES = ARRAY + PAGES;

const FIFO_SEND = 'vm.send, FIFO';
const LEVEL_SEND = 'vm.send, 2-level';
const FIFO_MANY = 'vm.sendMany, FIFO';
const LEVEL_MANY = 'vm.sendMany, 2-level';
const FIFO_DRAIN = 'vcpu.drain, FIFO';
const LEVEL_DRAIN = 'vcpu.drain, 2-level, 16 ports in each of 64 words';
const LEVEL_SPARSE = 'vcpu.drain, 2-level, 1 port in each of 64 words';

interface Side {
  readonly vm: Vm;
  /** Nothing is pending or queued. */
  readonly reset: () => void;
  /** A reset after which these ports are. */
  readonly resetTo: (ports: Int32Array) => () => void;
}

/** Two guests with 64-bit layout and one vCPU each; the second has gone over to the FIFO ABI. */
function makeSides(shared: boolean): { level: Side; fifo: Side } {
  const sizes = { agents: 2, fifoPorts: PORTS };
  const step = Math.ceil(regionBytes(sizes) / PAGE_SIZE) * PAGE_SIZE + GUEST_PAGES * PAGE_SIZE;
  const pages = Math.ceil((PAGE_SIZE + 2 * step) / 65536);
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared });
  const [level, fifo] = [0, 1].map((i) => {
    const regionBase = PAGE_SIZE + i * step;
    const guestBase = regionBase + step - GUEST_PAGES * PAGE_SIZE;
    const vm = createVm({ memory, regionBase, guestBase, guestPages: GUEST_PAGES, ...sizes });
    vm.setAttr({ type: 'long_mode', enabled: true });
    vm.setAttr({ type: 'shared_info', gfn: gfn(0) });
    vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(PAGE_SIZE) });
    return vm;
  }) as [Vm, Vm];
  const abi = new Fifo({ vm: fifo, isValid: () => true, isUsable: () => true });
  abi.initControl({ controlGfn: 2, offset: 0, vcpu: 0 });
  for (let page = 0; page < PAGES; page++) abi.expandArray({ arrayGfn: ARRAY + page });
  return { level: sideOf(level), fifo: sideOf(fifo) };
}

/** What of a guest's memory, and of the region, a send changes: put back as it was, or as it was after sends. */
function sideOf(vm: Vm): Side {
  const bytes = new Uint8Array(vm.memory.buffer);
  const areas: [number, number][] = [
    [vm.guestBase, PAGE_SIZE],
    [vm.guestBase + PAGE_SIZE, VCPU_INFO_SIZE],
  ];
  if (vm.region.fifoActive) {
    const vcpu = vm.region.fifoVcpu(0);
    areas.push([vm.guestBase + 2 * PAGE_SIZE, CONTROL_SIZE], [vm.guestBase + ARRAY * PAGE_SIZE, PAGES * PAGE_SIZE]);
    areas.push([vcpu + FIFO_QUEUES, 64], [vcpu + FIFO_LOCAL_HEADS, FIFO_VCPU_SIZE - FIFO_LOCAL_HEADS]);
  }
  const keep = (): (() => void) => {
    const kept = areas.map(([at, length]) => [at, bytes.slice(at, at + length)] as const);
    return () => {
      for (const [at, part] of kept) bytes.set(part, at);
    };
  };
  const drain = (): void => {
    while (vm.vcpu(0).drain() > 0);
  };
  // Each port has been on its queue once, as ports in use have.
  vm.sendMany(Uint32Array.from(shuffled(PORTS - 1)));
  drain();
  const reset = keep();
  const resetTo = (ports: Int32Array): (() => void) => {
    reset();
    vm.sendMany(Uint32Array.from(ports));
    const back = keep();
    reset();
    return back;
  };
  return { vm, reset, resetTo };
}

function manyLoop(given: Vm, list: Uint32Array): Loop {
  const vm = given;
  const ports = list;
  return () => vm.sendMany(ports);
}

function drainLoop(given: Vm): Loop {
  const vcpu = given.vcpu(0);
  return () => vcpu.drain();
}

function measureSends(level: Side, fifo: Side, setting: Setting): Figures {
  const ports = shuffled(PORTS - 1);
  const list = Uint32Array.from(ports);
  const events = ports.length;
  const of = (name: string, side: Side, run: () => number): Variant => ({ name, events, reset: side.reset, run });
  return measureRounds(
    [
      of(LEVEL_SEND, level, fresh(events, sendLoop, level.vm, ports)),
      of(FIFO_SEND, fifo, fresh(events, sendLoop, fifo.vm, ports)),
      of(LEVEL_MANY, level, fresh(1, manyLoop, level.vm, list)),
      of(FIFO_MANY, fifo, fresh(1, manyLoop, fifo.vm, list)),
    ],
    setting.quick ? QUICK : FULL,
  );
}

function measureDrains(level: Side, fifo: Side, setting: Setting): Figures {
  const ready = shuffled(PORTS - 1).subarray(0, READY);
  const spread = Int32Array.from({ length: READY }, (_, i) => (i >> 4) * 64 + 4 * (i & 15) + 3);
  const sparse = Int32Array.from({ length: 64 }, (_, i) => i * 64 + 3);
  const of = (name: string, side: Side, ports: Int32Array): Variant => ({
    name,
    events: ports.length,
    reset: side.resetTo(ports),
    run: fresh(1, drainLoop, side.vm),
    alone: ports.length !== READY,
  });
  return measureRounds(
    [of(LEVEL_DRAIN, level, spread), of(FIFO_DRAIN, fifo, ready), of(LEVEL_SPARSE, level, sparse)],
    setting.quick ? QUICK : FULL,
  );
}

export function measure(setting: Setting): Report {
  const { level, fifo } = makeSides(setting.shared);
  const memory = setting.shared ? '' : ', single agent';
  const sends = measureSends(level, fifo, setting);
  const drains = measureDrains(level, fifo, setting);
  const rows: Row[] = [
    ...rowsOf('fifo', `4095 random ports, all fresh${memory}`, sends, LEVEL_SEND),
    ...rowsOf('fifo', `drain of ${READY} ready ports${memory}`, drains, LEVEL_DRAIN),
  ];
  const floor = 'a queue costs one locked operation per event, a bitmap one per word: {} ns and {} ns per port';
  const claims: Claim[] = [
    {
      name: `FIFO send${memory}, to a 2-level send`,
      value: sends.ratio(FIFO_SEND, LEVEL_SEND),
      goal: 1.6,
      why: 'it takes {} ns, a 2-level send {} ns',
      figures: [sends.ns(FIFO_SEND), sends.ns(LEVEL_SEND)],
    },
    {
      name: `FIFO drain${memory} of ${READY}, to a 2-level drain of a port per word`,
      value: drains.ratio(FIFO_DRAIN, LEVEL_SPARSE),
      goal: 2.5,
      why: floor,
      figures: [drains.ns(FIFO_DRAIN), drains.ns(LEVEL_SPARSE)],
    },
    {
      name: `FIFO drain${memory} of ${READY}, to a 2-level drain of as many`,
      value: drains.ratio(FIFO_DRAIN, LEVEL_DRAIN),
      goal: 2.5,
      why: floor,
      figures: [drains.ns(FIFO_DRAIN), drains.ns(LEVEL_DRAIN)],
    },
  ];
  return { rows, claims };
}
