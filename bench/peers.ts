// What a TypeScript author would write instead. Each is given as a loop over ports, to be made `fresh`: it uses nothing but
// its arguments. Sends answer as the engine's do.

import type { EventEmitter } from 'node:events';
import { ENOTCONN } from '../src/abi/errno.ts';
import { PORTS_LONG } from '../src/abi/shared_info.ts';
import type { Layout } from './guest.ts';
import type { Loop } from './rounds.ts';

/** Hand-written `Atomics` on the same bytes, nothing looked up, as few steps as the protocol allows. */
export function atomicsLoop(at: Layout, list: Int32Array): Loop {
  const { words, bytes, pending, mask, selector, upcall, held } = at;
  const ports = list;
  const send = (port: number): number => {
    const bit = 1 << (port & 31);
    if (Atomics.or(words, pending + (port >> 5), bit) & bit) return 0;
    if (Atomics.load(words, mask + (port >> 5)) & bit) return held;
    const word = 1 << ((port >> 6) & 31);
    if (!(Atomics.or(words, selector + (port >> 11), word) & word)) Atomics.store(bytes, upcall, 1);
    return 1;
  };
  return (from, to) => {
    let sum = 0;
    for (let i = from; i < to; i++) sum = (sum + send(ports[i] as number)) | 0;
    return sum;
  };
}

/** The same with the engine's trick: the selector is looked at before it is changed. */
export function atomicsLookLoop(at: Layout, list: Int32Array): Loop {
  const { words, bytes, pending, mask, selector, upcall, held } = at;
  const ports = list;
  const send = (port: number): number => {
    const bit = 1 << (port & 31);
    if (Atomics.or(words, pending + (port >> 5), bit) & bit) return 0;
    if (Atomics.load(words, mask + (port >> 5)) & bit) return held;
    const word = 1 << ((port >> 6) & 31);
    const place = selector + (port >> 11);
    if (Atomics.load(words, place) & word) return 1;
    if (!(Atomics.or(words, place, word) & word)) Atomics.store(bytes, upcall, 1);
    return 1;
  };
  return (from, to) => {
    let sum = 0;
    for (let i = from; i < to; i++) sum = (sum + send(ports[i] as number)) | 0;
    return sum;
  };
}

/** A class with the engine's structure (port checked, port table, a vcpu_info per vCPU) on `Atomics`. */
export function atomicsClassLoop(at: Layout, list: Int32Array): Loop {
  class Engine {
    readonly words = at.words;
    readonly bytes = at.bytes;
    readonly pending = at.pending;
    readonly mask = at.mask;
    readonly table = at.table;
    readonly selector = at.selector;
    readonly upcall = at.upcall;
    readonly infoWords = at.infoWords;
    readonly infoBytes = at.infoBytes;
    readonly ports = at.ports;
    readonly noPort = at.noPort;
    readonly held = at.held;

    send(port: number): number {
      if (port < 1 || port >= this.ports) return this.noPort;
      const { words } = this;
      const index = port >> 5;
      const bit = 1 << (port & 31);
      if (Atomics.or(words, this.pending + index, bit) & bit) return 0;
      if (Atomics.load(words, this.mask + index) & bit) return this.held;
      this.raise(Atomics.load(words, this.table + port) & 0xffff, port >> 6);
      return 1;
    }
    raise(vcpu: number, word: number): void {
      const bit = 1 << (word & 31);
      const place = this.selector + vcpu * this.infoWords + (word >> 5);
      if (!(Atomics.or(this.words, place, bit) & bit))
        Atomics.store(this.bytes, this.upcall + vcpu * this.infoBytes, 1);
    }
  }
  const engine = new Engine();
  const ports = list;
  return (from, to) => {
    let sum = 0;
    for (let i = from; i < to; i++) sum = (sum + engine.send(ports[i] as number)) | 0;
    return sum;
  };
}

/** The same class for one agent: plain reads and writes on the same bytes. */
export function plainClassLoop(at: Layout, list: Int32Array): Loop {
  class Engine {
    readonly words = at.words;
    readonly bytes = at.bytes;
    readonly pending = at.pending;
    readonly mask = at.mask;
    readonly table = at.table;
    readonly selector = at.selector;
    readonly upcall = at.upcall;
    readonly infoWords = at.infoWords;
    readonly infoBytes = at.infoBytes;
    readonly ports = at.ports;
    readonly noPort = at.noPort;
    readonly held = at.held;

    send(port: number): number {
      if (port < 1 || port >= this.ports) return this.noPort;
      const { words } = this;
      const index = port >> 5;
      const bit = 1 << (port & 31);
      const place = this.pending + index;
      const old = words[place] as number;
      if (old & bit) return 0;
      words[place] = old | bit;
      if ((words[this.mask + index] as number) & bit) return this.held;
      this.raise((words[this.table + port] as number) & 0xffff, port >> 6);
      return 1;
    }
    raise(vcpu: number, word: number): void {
      const bit = 1 << (word & 31);
      const place = this.selector + vcpu * this.infoWords + (word >> 5);
      const old = this.words[place] as number;
      if (old & bit) return;
      this.words[place] = old | bit;
      this.bytes[this.upcall + vcpu * this.infoBytes] = 1;
    }
  }
  const engine = new Engine();
  const ports = list;
  return (from, to) => {
    let sum = 0;
    for (let i = from; i < to; i++) sum = (sum + engine.send(ports[i] as number)) | 0;
    return sum;
  };
}

/** State that `Set` and `Map` hold; cleared between runs. */
export interface Sets {
  readonly pending: Set<number>;
  readonly masked: Set<number>;
  readonly owner: Map<number, number>;
  readonly vcpus: { upcall: boolean; readonly selector: Set<number> }[];
  /** what a send of a masked port answers */
  readonly held: number;
  readonly reset: () => void;
}

export function makeSets(): Sets {
  const pending = new Set<number>();
  const vcpu = { upcall: false, selector: new Set<number>() };
  const owner = new Map(Array.from({ length: PORTS_LONG }, (_, port) => [port, 0]));
  const reset = (): void => {
    pending.clear();
    vcpu.selector.clear();
    vcpu.upcall = false;
  };
  return { pending, masked: new Set(), owner, vcpus: [vcpu], held: -ENOTCONN, reset };
}

export function setsLoop(sets: Sets, list: Int32Array): Loop {
  const { pending, masked, owner, vcpus, held } = sets;
  const ports = list;
  const send = (port: number): number => {
    if (pending.has(port)) return 0;
    pending.add(port);
    if (masked.has(port)) return held;
    const vcpu = vcpus[owner.get(port) ?? 0];
    if (vcpu && !vcpu.selector.has(port >> 6)) {
      vcpu.selector.add(port >> 6);
      vcpu.upcall = true;
    }
    return 1;
  };
  return (from, to) => {
    let sum = 0;
    for (let i = from; i < to; i++) sum = (sum + send(ports[i] as number)) | 0;
    return sum;
  };
}

/** `emit` to one listener: no mask, no coalescing, no other thread. */
export function emitterLoop(Emitter: typeof EventEmitter, list: Int32Array): Loop {
  const emitter = new Emitter();
  const ports = list;
  let heard = 0;
  emitter.on('event', (port: number) => {
    heard = (heard + (port > 0 ? 1 : 0)) | 0;
  });
  return (from, to) => {
    heard = 0;
    for (let i = from; i < to; i++) emitter.emit('event', ports[i] as number);
    return heard;
  };
}

/** `Atomics.notify` for each event, with nobody waiting. */
export function notifyLoop(at: Layout): Loop {
  const { words, upcall } = at;
  const place = upcall >> 2;
  return (from, to) => {
    let woken = 0;
    for (let i = from; i < to; i++) woken = (woken + Atomics.notify(words, place)) | 0;
    return woken;
  };
}
