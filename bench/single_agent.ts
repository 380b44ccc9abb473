// Memory of a single agent: the same source, compiled to plain loads and stores.

import { EventEmitter } from 'node:events';
import type { Vm } from '../src/index.ts';
import { makeOne } from './guest.ts';
import { Native, targetOf } from './native.ts';
import { atomicsLoop, emitterLoop, makeSets, plainClassLoop, setsLoop } from './peers.ts';
import { inOrder, shuffled } from './ports.ts';
import { type Claim, type Report, rowsOf, type Setting } from './report.ts';
import { FULL, fresh, type Loop, measureRounds, QUICK, type Variant } from './rounds.ts';
import { ATOMICS, callCost, EMITTER, emptyCall, NAIVE, sendLoop } from './send.ts';

export const SINGLE = 'vm.send, single agent';
const MANY = 'vm.sendMany, single agent, all in one call';
const CLASS = 'TypeScript without Atomics, a class';
const HEAP = 'the same class on typed arrays of its own';

export function measure(setting: Setting): Report {
  const native = new Native(setting.native);
  const effort = setting.quick ? QUICK : FULL;
  const guest = makeOne(false);
  const { vm, at, reset } = guest;
  const measureOrder = (ports: Int32Array) => {
    const events = ports.length;
    const own = { ...at, words: at.words.slice(), bytes: at.bytes.slice() };
    const resetOwn = (): void => {
      own.words.fill(0, at.pending, at.mask);
      own.words.fill(0, at.selector, at.selector + at.infoWords);
    };
    const sets = makeSets();
    const of = (name: string, run: () => number, resetOf = reset): Variant => ({ name, events, reset: resetOf, run });
    return measureRounds(
      [
        of(SINGLE, fresh(events, sendLoop, vm, ports)),
        of(MANY, fresh(1, manyLoop, vm, Uint32Array.from(ports))),
        { ...emptyCall(ports), reset },
        of(CLASS, fresh(events, plainClassLoop, at, ports)),
        of(HEAP, fresh(events, plainClassLoop, own, ports), resetOwn),
        of(ATOMICS, fresh(events, atomicsLoop, at, ports)),
        of('TypeScript Set and Map', fresh(events, setsLoop, sets, ports), sets.reset),
        of(EMITTER, fresh(events, emitterLoop, EventEmitter, ports)),
        ...native.variant(NAIVE, 'naive', [targetOf(guest)], ports, events, reset),
        ...native.variant('native C, single agent', 'singleAgent', [targetOf(guest)], ports, events, reset),
      ],
      effort,
    );
  };
  const figures = measureOrder(shuffled());
  const rows = rowsOf('single', 'random ports, all fresh', figures, NAIVE, ATOMICS);
  if (!setting.quick)
    rows.push(...rowsOf('single', 'ports in order, all fresh', measureOrder(inOrder()), NAIVE, ATOMICS));
  const claim = (name: string, base: string, goal: number): Claim => ({
    name,
    value: figures.ratio(SINGLE, base),
    goal,
    ...callCost(figures, base),
  });
  return {
    rows,
    claims: [
      claim('single send, single agent, to native C', NAIVE, 0.35),
      claim('single send, single agent, to a TypeScript class', CLASS, 0.65),
    ],
  };
}

function manyLoop(given: Vm, list: Uint32Array): Loop {
  const vm = given;
  const ports = list;
  return () => vm.sendMany(ports);
}
