// The receiver: what it costs to take what is pending, for few and for many ports.
//
// A drain is short, so one run drains several vCPUs, filled anew before it. All write a list of ports.

import { GROUP_SHIFT } from '../src/abi/region.ts';
import { WORDS_LONG } from '../src/abi/shared_info.ts';
import type { Vcpu } from '../src/index.ts';
import { type Guest, type Layout, makeGuests } from './guest.ts';
import { Native, type Target, targetOf } from './native.ts';
import { inOrder, shuffled } from './ports.ts';
import { type Claim, type Report, type Row, rowsOf, type Setting } from './report.ts';
import { type Figures, FULL, fresh, type Loop, measureRounds, QUICK, type Variant } from './rounds.ts';

/** As many as the first-level cache holds in the sets that a page leaves. */
const GUESTS = 4;

const DRAIN = 'vcpu.drain';
const BY_BIT = 'native C, bit by bit';
const BY_WORD = 'native C, by word';

const SPARSE = '64 words with 1 port each';
const DENSE = 'all 4095 ports';

/** Ports of one drain each. The first two are too short to time: 64 vCPUs have such a word each. */
const FEW = [
  { name: '1 port', ports: (group: number) => [group * 64 + 5] },
  { name: '8 ports in 1 word', ports: (group: number) => Array.from({ length: 8 }, (_, i) => group * 64 + 8 * i + 5) },
];
const MANY = [
  { name: SPARSE, ports: Uint32Array.from({ length: WORDS_LONG }, (_, i) => i * 64 + ((i * 37) % 63) + 1) },
  { name: '512 random ports', ports: shuffled().subarray(0, 512) },
  { name: DENSE, ports: inOrder() },
];

function drainLoop(given: Vcpu[]): Loop {
  const vcpus = given;
  return (from, to) => {
    let sum = 0;
    for (let i = from; i < to; i++) sum = (sum + (vcpus[i] as Vcpu).drain()) | 0;
    return sum;
  };
}

/** By word with `Atomics`, a list written: as a TypeScript author would, who knows about the selector. */
function atomicsLoop(given: { readonly at: Layout; readonly vcpu: number }[]): Loop {
  const targets = given;
  const drain = (at: Layout, vcpu: number): number => {
    const { words, pending, mask, inbox } = at;
    const selector = at.selector + vcpu * at.infoWords;
    let out = inbox;
    Atomics.store(at.bytes, at.upcall + vcpu * at.infoBytes, 0);
    for (let half = 0; half < 2; half++) {
      for (let rest = Atomics.exchange(words, selector + half, 0); rest !== 0; rest &= rest - 1) {
        const first = (half * 32 + 31 - Math.clz32(rest & -rest)) * 2;
        for (let word = first; word < first + 2; word++) {
          const held = Atomics.load(words, mask + word);
          let taken = held
            ? Atomics.and(words, pending + word, held) & ~held
            : Atomics.exchange(words, pending + word, 0);
          for (; taken !== 0; taken &= taken - 1) words[out++] = word * 32 + 31 - Math.clz32(taken & -taken);
        }
      }
    }
    return out - inbox;
  };
  return (from, to) => {
    let sum = 0;
    for (let i = from; i < to; i++) {
      const target = targets[i] as { readonly at: Layout; readonly vcpu: number };
      sum = (sum + drain(target.at, target.vcpu)) | 0;
    }
    return sum;
  };
}

/** Times drains of all targets, which find `events` ports in all after `reset`. */
function measureDrains(
  targets: Target[],
  native: Native,
  events: number,
  reset: () => void,
  setting: Setting,
): Figures {
  const none = new Int32Array(0);
  const vcpus = targets.map(({ guest, vcpu }) => guest.vm.vcpu(vcpu));
  const layouts = targets.map(({ guest, vcpu }) => ({ at: guest.at, vcpu }));
  const of = (name: string, run: () => number): Variant => ({ name, events, reset, run });
  return measureRounds(
    [
      of(DRAIN, fresh(vcpus.length, drainLoop, vcpus)),
      of('TypeScript Atomics, by word', fresh(layouts.length, atomicsLoop, layouts)),
      ...native.variant(BY_BIT, 'byBit', targets, none, events, reset),
      ...native.variant(BY_WORD, 'byWord', targets, none, events, reset),
    ],
    setting.quick ? QUICK : FULL,
  );
}

/** A guest in which every vCPU has the 64 ports of one word. */
function bindWords(guest: Guest): Guest {
  for (const port of inOrder()) guest.vm.bindVcpu(port, port >> GROUP_SHIFT);
  return guest;
}

export function measure(setting: Setting): Report {
  const guests = makeGuests(true, WORDS_LONG, ...Array.from({ length: GUESTS }, () => 1));
  const native = new Native(setting.native);
  const wide = bindWords(guests.shift() as Guest);
  const figures = new Map<string, Figures>();
  for (const { name, ports } of FEW) {
    const targets = Array.from({ length: WORDS_LONG }, (_, vcpu) => targetOf(wide, vcpu));
    const all = targets.flatMap(({ vcpu }) => ports(vcpu));
    figures.set(name, measureDrains(targets, native, all.length, wide.resetTo(all), setting));
  }
  for (const { name, ports } of MANY) {
    const resets = guests.map((guest) => guest.resetTo(ports));
    const reset = (): void => {
      for (const one of resets) one();
    };
    const targets = guests.map((guest) => targetOf(guest));
    figures.set(name, measureDrains(targets, native, GUESTS * ports.length, reset, setting));
  }
  const rows = [...figures].flatMap(([name, measured]): Row[] => rowsOf('drain', name, measured, BY_BIT, DRAIN));
  return { rows, claims: claims(figures) };
}

function claims(figures: ReadonlyMap<string, Figures>): Claim[] {
  const claim = (name: string, pattern: string, base: string, goal: number): Claim => {
    const measured = figures.get(pattern);
    return {
      name,
      value: measured?.ratio(DRAIN, base) ?? null,
      goal,
      why: `{} ns per port, ${base} {} ns, by word {} ns`,
      figures: [DRAIN, base, BY_WORD].map((way) => (measured?.has(way) ? measured.ns(way) : null)),
    };
  };
  return [
    claim('drain of 4095 dense ports, to native C by word', DENSE, BY_WORD, 1),
    claim('drain of 64 sparse words, to native C bit by bit', SPARSE, BY_BIT, 1.05),
  ];
}
