// The edge of an upcall when nobody sleeps: a look at a flag in place of a notify.

import { VCPU_KICK } from '../src/abi/region.ts';
import { PORTS_LONG } from '../src/abi/shared_info.ts';
import type { Vm } from '../src/index.ts';
import { makeOne } from './guest.ts';
import { shuffle } from './ports.ts';
import { type Claim, type Report, type Row, rowsOf, type Setting } from './report.ts';
import { type Figures, FULL, fresh, type Loop, measureRounds, QUICK, type Variant } from './rounds.ts';

const FLAG = 'look at the flag';
const NOTIFY = 'memory.atomic.notify, nobody waits';
const OPERATIONS = 4096;

/** i32.atomic.load, align 4 */
const LOAD = [0xfe, 0x10, 2, 0];
/** i32.const 1; memory.atomic.notify, align 4 */
const NOTIFY_ONE = [0x41, 1, 0xfe, 0x00, 2, 0];

/** A function (place, n): does `operation` on `place` n times, adds up what it answers, as the engine's code would. */
function body(operation: number[]): number[] {
  const code = [
    ...[1, 1, 0x7f], // one local: the sum
    ...[0x03, 0x40, 0x20, 2, 0x20, 0, ...operation, 0x6a, 0x21, 2], // loop: sum += operation(place)
    ...[0x20, 1, 0x41, 1, 0x6b, 0x22, 1, 0x0d, 0, 0x0b], // while --n
    ...[0x20, 2, 0x0b], // return sum
  ];
  return [code.length, ...code];
}

function section(id: number, content: number[]): number[] {
  return [id, content.length, ...content];
}

function named(name: string): number[] {
  return [name.length, ...Buffer.from(name)];
}

type Count = (place: number, n: number) => number;

/** A module with both loops over a shared memory. */
function loops(memory: WebAssembly.Memory): { flag: Count; notify: Count } {
  const bytes = Uint8Array.from([
    ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, [1, 0x60, 2, 0x7f, 0x7f, 1, 0x7f]),
    ...section(2, [1, ...named('env'), ...named('memory'), 2, 3, 1, 0x80, 0x80, 4]),
    ...section(3, [2, 0, 0]),
    ...section(7, [2, ...named('flag'), 0, 0, ...named('notify'), 0, 1]),
    ...section(10, [2, ...body(LOAD), ...body(NOTIFY_ONE)]),
  ]);
  return new WebAssembly.Instance(new WebAssembly.Module(bytes), { env: { memory } }).exports as unknown as {
    flag: Count;
    notify: Count;
  };
}

/** One port per word: every send is an edge. */
function edgeLoop(given: Vm, list: Int32Array): Loop {
  const vm = given;
  const ports = list;
  return (from, to) => {
    let sum = 0;
    for (let i = from; i < to; i++) sum = (sum + vm.send(ports[i] as number)) | 0;
    return sum;
  };
}

/** What a library without the flag does. */
function notifyingLoop(given: Vm, list: Int32Array, view: Int32Array, at: number): Loop {
  const vm = given;
  const ports = list;
  const words = view;
  const place = at;
  return (from, to) => {
    let sum = 0;
    for (let i = from; i < to; i++) {
      sum = (sum + vm.send(ports[i] as number)) | 0;
      Atomics.notify(words, place);
    }
    return sum;
  };
}

export function measure(setting: Setting): Report {
  const { vm, at, reset } = makeOne(true);
  const effort = setting.quick ? QUICK : FULL;
  const flag = vm.vcpu(0).line + VCPU_KICK;
  const { flag: look, notify } = loops(vm.memory);
  const of = (name: string, run: () => number): Variant => ({ name, events: OPERATIONS, run });
  const primitives = measureRounds(
    [of(FLAG, () => look(flag, OPERATIONS)), of(NOTIFY, () => notify(flag, OPERATIONS))],
    effort,
  );
  const ports = shuffle(
    Int32Array.from({ length: PORTS_LONG / 64 }, (_, i) => i * 64 + 1),
    1,
  );
  const send = (name: string, run: () => number): Variant => ({ name, events: ports.length, reset, run });
  const sends = measureRounds(
    [
      send('vm.send, every one an edge, nobody sleeps', fresh(ports.length, edgeLoop, vm, ports)),
      send(
        'the same with Atomics.notify each time',
        fresh(ports.length, notifyingLoop, vm, ports, at.words, flag >> 2),
      ),
    ],
    effort,
  );
  return { rows: rows(primitives, sends), claims: [claim(primitives)] };
}

function rows(primitives: Figures, sends: Figures): Row[] {
  return [
    ...rowsOf('edge', 'the word a sleeper waits on', primitives, NOTIFY),
    ...rowsOf('edge', '64 ports, one per word', sends),
  ];
}

function claim(primitives: Figures): Claim {
  return {
    name: 'edge with nobody asleep, to a notify',
    value: primitives.ratio(FLAG, NOTIFY),
    goal: 0.03,
    why: 'a look at the flag takes {} ns, a notify that finds nobody {} ns',
    figures: [primitives.ns(FLAG), primitives.ns(NOTIFY)],
  };
}
