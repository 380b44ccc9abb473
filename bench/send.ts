// One event at a time, in shared memory.

import { EventEmitter } from 'node:events';
import type { Vm } from '../src/index.ts';
import { type Guest, makeOne } from './guest.ts';
import { Native, targetOf } from './native.ts';
import {
  atomicsClassLoop,
  atomicsLookLoop,
  atomicsLoop,
  emitterLoop,
  makeSets,
  notifyLoop,
  setsLoop,
} from './peers.ts';
import { inOrder, shuffled } from './ports.ts';
import { type Claim, type Report, type Row, rowsOf, type Setting } from './report.ts';
import { type Effort, type Figures, FULL, fresh, type Loop, measureRounds, QUICK, type Variant } from './rounds.ts';

export const SELF = 'vm.send';
export const BRACKET = 'vm.send in a bracket';
export const ATOMICS = 'TypeScript Atomics';
export const EMITTER = 'EventEmitter.emit, 1 listener';
export const EMPTY = 'empty call TypeScript -> wasm';
export const NAIVE = 'native C';
export const NAIVE_SECTION = 'native C with reader section';
const LOOK = 'native C, selector looked at first';

export function sendLoop(given: Vm, list: Int32Array): Loop {
  const vm = given;
  const ports = list;
  return (from, to) => {
    let sum = 0;
    for (let i = from; i < to; i++) sum = (sum + vm.send(ports[i] as number)) | 0;
    return sum;
  };
}

/** The run inside one bracket. */
export function inBracket(vm: Vm, loop: () => number): () => number {
  return () => {
    vm.enter();
    const sum = loop();
    vm.leave();
    return sum;
  };
}

function emptyLoop(made: { nothing(vm: number, agent: number, port: number): number }, list: Int32Array): Loop {
  const kernel = made;
  const ports = list;
  return (from, to) => {
    let sum = 0;
    for (let i = from; i < to; i++) sum = (sum + kernel.nothing(4096, 8192, ports[i] as number)) | 0;
    return sum;
  };
}

/** (module (func (export "nothing") (param i32 i32 i32) (result i32) (i32.const 1))) */
const NOTHING = Uint8Array.of(
  ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 1, 8, 1, 0x60, 3, 0x7f, 0x7f, 0x7f, 1, 0x7f, 3, 2, 1, 0],
  ...[7, 11, 1, 7, 0x6e, 0x6f, 0x74, 0x68, 0x69, 0x6e, 0x67, 0, 0, 10, 6, 1, 4, 0, 0x41, 1, 0x0b],
);

/** What a call costs that does nothing: no send from TypeScript can be faster. */
export function emptyCall(list: Int32Array): Variant {
  const exports = new WebAssembly.Instance(new WebAssembly.Module(NOTHING)).exports as unknown as {
    nothing(vm: number, agent: number, port: number): number;
  };
  return { name: EMPTY, events: list.length, run: fresh(list.length, emptyLoop, exports, list) };
}

/** A workload: ports, and the state they are sent into. */
interface Work {
  readonly name: string;
  readonly ports: Int32Array;
  readonly reset: () => void;
}

/** The engine and those that can do the same on the same bytes. */
function same(guest: Guest, { ports, reset }: Work, native: Native): Variant[] {
  const { vm, at } = guest;
  const events = ports.length;
  const of = (name: string, run: () => number): Variant => ({ name, events, reset, run });
  return [
    of(SELF, fresh(events, sendLoop, vm, ports)),
    of(BRACKET, inBracket(vm, fresh(events, sendLoop, vm, ports))),
    of(ATOMICS, fresh(events, atomicsLoop, at, ports)),
    of('TypeScript Atomics, selector looked at first', fresh(events, atomicsLookLoop, at, ports)),
    ...native.variant(NAIVE, 'naive', [targetOf(guest)], ports, events, reset),
    ...native.variant(NAIVE_SECTION, 'naiveSection', [targetOf(guest)], ports, events, reset),
    ...native.variant(LOOK, 'look', [targetOf(guest)], ports, events, reset),
  ];
}

/** Those that only signal: compared on fresh events. */
function others({ at }: Guest, { ports, reset }: Work): Variant[] {
  const events = ports.length;
  const sets = makeSets();
  return [
    { ...emptyCall(ports), reset },
    { name: 'TypeScript Atomics, a class', events, reset, run: fresh(events, atomicsClassLoop, at, ports) },
    { name: 'TypeScript Set and Map', events, reset: sets.reset, run: fresh(events, setsLoop, sets, ports) },
    { name: EMITTER, events, run: fresh(events, emitterLoop, EventEmitter, ports) },
    { name: 'Atomics.notify, nobody waits', events, alone: true, run: fresh(events, notifyLoop, at) },
  ];
}

export function measure(setting: Setting): Report {
  const guest = makeOne(true);
  const native = new Native(setting.native);
  const effort: Effort = setting.quick ? QUICK : FULL;
  const fresh: Work = { name: 'random ports, all fresh', ports: shuffled(), reset: guest.reset };
  const figures = measureRounds([...same(guest, fresh, native), ...others(guest, fresh)], effort);
  const rows = rowsOf('send', fresh.name, figures, NAIVE, ATOMICS);
  if (!setting.quick) rows.push(...furtherRows(guest, native, effort));
  return { rows, claims: claims(figures) };
}

function furtherRows(guest: Guest, native: Native, effort: Effort): Row[] {
  const all = shuffled();
  const works: Work[] = [
    { name: 'ports in order, all fresh', ports: inOrder(), reset: guest.reset },
    { name: 'random ports, 90 % pending', ports: shuffled(4095, 7), reset: guest.resetTo(all.subarray(410)) },
  ];
  const rows = works.flatMap((work) =>
    rowsOf('send', work.name, measureRounds(same(guest, work, native), effort), NAIVE, ATOMICS),
  );
  guest.setMask(true);
  const masked: Work = { name: 'random ports, all masked', ports: all, reset: guest.reset };
  rows.push(...rowsOf('send', masked.name, measureRounds(same(guest, masked, native), effort), NAIVE, ATOMICS));
  guest.setMask(false);
  return rows;
}

function claims(figures: Figures): Claim[] {
  const claim = (name: string, way: string, base: string, goal: number): Claim => ({
    name,
    value: figures.ratio(way, base),
    goal,
    ...callCost(figures, base),
  });
  return [
    claim('single send in a bracket, to native C', BRACKET, NAIVE, 0.75),
    claim('single send in a bracket, to TypeScript Atomics', BRACKET, ATOMICS, 0.37),
    claim('single send, own reader section, to native C with one', SELF, NAIVE_SECTION, 1.15),
  ];
}

/** The reason that a single send can have: it is a call from TypeScript, and `base` is none. */
export function callCost(figures: Figures, base: string): Pick<Claim, 'why' | 'figures'> {
  return {
    why: `${base} takes {} ns here; a call from TypeScript to wasm that does nothing takes {} ns, {} of it before a bit is touched`,
    figures: [figures.has(base) ? figures.ns(base) : null, figures.ns(EMPTY), figures.ratio(EMPTY, base)],
  };
}
