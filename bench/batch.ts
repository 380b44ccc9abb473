// Many events in one call, by length of the list.

import { PORTS_LONG } from '../src/abi/shared_info.ts';
import type { Vm } from '../src/index.ts';
import { type Guest, makeOne } from './guest.ts';
import { Native, targetOf } from './native.ts';
import { atomicsLoop } from './peers.ts';
import { inOrder, parts, shuffled } from './ports.ts';
import { type Claim, type Report, type Row, rowsOf, type Setting } from './report.ts';
import { type Effort, type Figures, FULL, fresh, type Loop, measureRounds, QUICK, type Variant } from './rounds.ts';
import { ATOMICS, BRACKET, inBracket, NAIVE, SELF, sendLoop } from './send.ts';

/** Where the engine changes from runs to combining, and what lies around it. 4096 is all 4095 ports in one call. */
const SIZES = [1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 256, 1024, 4096];
const GOAL_SIZES = [8, 16, 32, 64, 256, 1024, 4096];
const QUICK_SIZES = [256, 4096];

const COMBINED = 'native C, combining';
const OUTBOX = 'vm.sendMany of 4095, from vm.outbox';

export const many = (n: number): string => `vm.sendMany of ${Math.min(n, PORTS_LONG - 1)}`;

/** Lists as an application has them: typed arrays of its own. */
function manyLoop(given: Vm, lists: Uint32Array[]): Loop {
  const vm = given;
  const ports = lists;
  return (from, to) => {
    let sum = 0;
    for (let i = from; i < to; i++) sum = (sum + vm.sendMany(ports[i] as Uint32Array)) | 0;
    return sum;
  };
}

/** The list is in the region already. */
function outboxLoop(given: Vm, count: number): Loop {
  const vm = given;
  const n = count;
  const { outbox } = vm;
  return () => vm.sendMany(outbox, n);
}

function measureOrder(guest: Guest, native: Native, ports: Int32Array, sizes: number[], effort: Effort): Figures {
  const { vm, at, reset } = guest;
  const events = ports.length;
  const of = (name: string, run: () => number): Variant => ({ name, events, reset, run });
  const resetOutbox = (): void => {
    reset();
    vm.outbox.set(ports);
  };
  return measureRounds(
    [
      ...sizes.map((n) => of(many(n), fresh(Math.ceil(events / n), manyLoop, vm, parts(ports, n)))),
      { ...of(OUTBOX, fresh(1, outboxLoop, vm, events)), reset: resetOutbox },
      of(SELF, fresh(events, sendLoop, vm, ports)),
      of(BRACKET, inBracket(vm, fresh(events, sendLoop, vm, ports))),
      of(ATOMICS, fresh(events, atomicsLoop, at, ports)),
      ...native.variant(NAIVE, 'naive', [targetOf(guest)], ports, events, reset),
      ...native.variant(COMBINED, 'combined', [targetOf(guest)], ports, events, reset),
    ],
    effort,
  );
}

export function measure(setting: Setting): Report {
  const guest = makeOne(true);
  const native = new Native(setting.native);
  const effort: Effort = setting.quick ? QUICK : { ...FULL, measureMs: 2 * FULL.measureMs };
  const sizes = setting.quick ? QUICK_SIZES : SIZES;
  const figures = measureOrder(guest, native, shuffled(), sizes, effort);
  const rows: Row[] = rowsOf('batch', 'random ports, all fresh', figures, NAIVE, ATOMICS);
  if (setting.quick) return { rows, claims: [] };
  const ordered = measureOrder(guest, native, inOrder(), [64, 4096], effort);
  rows.push(...rowsOf('batch', 'ports in order, all fresh', ordered, NAIVE, ATOMICS));
  return { rows, claims: claims(figures) };
}

function claims(figures: Figures): Claim[] {
  const sizes = GOAL_SIZES.map((n) => figures.ratio(many(n), SELF) ?? 0);
  const ns = (name: string): number | null => (figures.has(name) ? figures.ns(name) : null);
  return [
    {
      name: 'sendMany of 4096 from vm.outbox, to native C',
      value: figures.ratio(OUTBOX, NAIVE),
      goal: 0.13,
      why: `${NAIVE} takes {} ns an event here, whose locked operations are cheap; ${COMBINED}, takes {} ns, {} of it`,
      figures: [ns(NAIVE), ns(COMBINED), figures.ratio(COMBINED, NAIVE)],
    },
    {
      name: 'sendMany of 4096 from vm.outbox, to TypeScript Atomics',
      value: figures.ratio(OUTBOX, ATOMICS),
      goal: 0.065,
      why: `${COMBINED}, takes {} of it`,
      figures: [figures.ratio(COMBINED, ATOMICS)],
    },
    {
      name: 'sendMany of 8 to 4096, the worst of them, to single sends',
      value: Math.max(...sizes),
      goal: 1.05,
      why: `by length: ${GOAL_SIZES.map((n) => `${n}: {}`).join(', ')}`,
      figures: sizes,
    },
  ];
}
