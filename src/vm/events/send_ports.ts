// Outbound ports: what the guest rings by EVTCHNOP_send without leaving to the embedder. [kvm-xen 3.3, 3.4]
//
//   ring:    bracket ─ which copy ─ entry ─ deliver ─ leave            remove:  entry cleared ─ wait for brackets ─ reference dropped
//   replace: spare copy filled ─ the count changes ─ wait for brackets ─ the old copy's references dropped

import { EVTCHNSTAT_INTERDOMAIN, EVTCHNSTAT_IPI, PRIORITY_2LEVEL } from '../../abi/attribute.ts';
import { EAGAIN, ENOENT, ENOTCONN } from '../../abi/errno.ts';
import {
  PORT_TABLE_PORTS,
  REGION_SEND_PORT_TABLE,
  REGION_SEND_PORTS,
  SEND_PORT_EVENTFD,
  SEND_PORT_SIZE,
  SEND_PORT_TARGET_BITS,
  SEND_PORT_TYPE_BITS,
  SEND_PORT_TYPE_SHIFT,
  SEND_PORT_VCPU,
  SEND_PORT_WHAT,
} from '../../abi/region.ts';
import { checkRange, EvtchnError } from '../../errors.ts';
import { SEND_PORT_COPY } from '../../memory/region.ts';
import type { Row } from '../attribute_row.ts';
import type { EvtchnAttr, SendPort } from '../attributes.ts';
import type { Vm } from '../vm.ts';
import { is2Level, raiseFast, reading } from './event.ts';

/** An entry: the two words of SEND_PORT_. */
interface Entry {
  readonly sendPort: number;
  readonly what: number;
  /** KVM's id, u32; 0 of an eventfd */
  readonly vcpu: number;
}

const U32_MAX = 2 ** 32 - 1;

/** The send ports of a VM. They are changed by the attribute `evtchn`. */
export class SendPorts {
  readonly #vm: Vm;
  /** where the first copy is */
  readonly #tables: number;

  /** @internal */
  constructor(vm: Vm) {
    this.#vm = vm;
    this.#tables = vm.region.part(REGION_SEND_PORTS);
  }

  /** All of them, lowest first. */
  list(): SendPort[] {
    this.#vm.checkOpen();
    const ports: SendPort[] = [];
    reading(this.#vm, () => {
      const copy = this.#inForce();
      for (let sendPort = 1; sendPort < PORT_TABLE_PORTS; sendPort++) {
        const { what, vcpu } = this.#load(copy, sendPort);
        if (what !== 0) ports.push(this.#describe({ sendPort, what, vcpu }));
      }
      return 0;
    });
    return ports;
  }

  /**
   * What EVTCHNOP_send does once it has read the port. Any thread. Does not throw. [KX-HCL-40..44, KX-EVT-30..34]
   * @returns 0 the guest's result; null: the embedder answers the hypercall, because there is no such send port, its vCPU or its
   *   target port does not exist now, or shared_info cannot be reached
   */
  ring(sendPort: number): number | null {
    if (!isPort(sendPort)) return null;
    let result = this.#ringOnce(sendPort);
    if (result === -EAGAIN) result = this.#vm.retry(() => this.#ringOnce(sendPort));
    return result >= 0 || result === -ENOTCONN ? 0 : null;
  }

  /** Looked up again at each try: nothing is delivered for a port that is gone when `deassign` has returned. [KF-29, KX-EVA-14] */
  #ringOnce(sendPort: number): number {
    const vm = this.#vm;
    let late = 0;
    let index = 0;
    const result = reading(vm, () => {
      const { what, vcpu } = this.#load(this.#inForce(), sendPort);
      if (what === 0) return -ENOENT;
      const target = what & SEND_PORT_TARGET_BITS;
      if (!(what & SEND_PORT_EVENTFD)) {
        const to = vm.indexOf(vcpu);
        return to < 0 ? -ENOENT : raiseFast(vm, target, to);
      }
      index = target;
      late = vm.eventfds.signal(target);
      return 0;
    });
    if (late !== 0 && !vm.eventfds.raiseLate(index, late)) vm.eventfds.giveBack(index, late);
    return result;
  }

  // ── the attribute ────────────────────────────────────────────────────────────────────────────────────────────────

  /** Throws what `change` would, in KVM's order. [KX-EVA-01..13] @internal */
  check(attr: EvtchnAttr): void {
    switch (attr.action) {
      case 'reset':
        return;
      case 'set':
        this.#entries(attr.ports);
        return;
      case 'assign':
        this.#entry(attr, this.#vm.max2LevelPorts);
        if (this.#load(this.#inForce(), attr.sendPort).what !== 0) throw present(attr.sendPort);
        return;
      case 'update':
        this.#checkUpdate(attr);
        return;
      case 'deassign':
        this.#existing(attr.sendPort);
        return;
      default:
        throw new EvtchnError(
          'EINVAL',
          `the action is ${String((attr as { action: unknown }).action)}, allowed are assign, update, deassign, reset and set`,
        );
    }
  }

  /**
   * Makes a change that was checked. Throws EBUSY inside a bracket or when a reader does not leave: nothing has changed then, but
   * for a ring meanwhile that may have missed the port. @internal
   */
  change(attr: EvtchnAttr): void {
    switch (attr.action) {
      case 'reset':
        this.#replace([]);
        return;
      case 'set':
        this.#replace(this.#entries(attr.ports));
        return;
      case 'assign':
        this.#store(this.#inForce(), this.#entry(attr, this.#vm.max2LevelPorts));
        return;
      case 'update':
        // One word: a ring goes to the old vCPU or to the new one. Eventfds have none and were refused.
        if ('vcpu' in attr.target) {
          const at = this.#at(this.#inForce(), attr.sendPort);
          this.#vm.region.words.store(at + SEND_PORT_VCPU, attr.target.vcpu | 0);
        }
        return;
      case 'deassign':
        this.#remove(attr.sendPort);
    }
  }

  /** The VM ends. Who is late finds nothing, or signals an eventfd that is nobody's any more. [KX-GEN-04] @internal */
  end(): void {
    this.#sweep(0);
    this.#sweep(1);
  }

  // ── checks ───────────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * What a send port will say. Type, then target, then priority. `ports` is the number of ports there are: KVM takes those of
   * the guest's mode.
   */
  #entry({ sendPort, channel, target }: SendPort, ports: number): Entry {
    checkRange('the send port', sendPort, 1, ports - 1);
    if (channel !== 'ipi' && channel !== 'interdomain') {
      throw new EvtchnError('EINVAL', `a send port is of type ${String(channel)}, allowed are ipi and interdomain`);
    }
    if (typeof target !== 'object' || target === null) {
      throw new EvtchnError(
        'EINVAL',
        `the target of a send port is ${String(target)}, allowed are a port and an eventfd`,
      );
    }
    const type = channel === 'ipi' ? EVTCHNSTAT_IPI : EVTCHNSTAT_INTERDOMAIN;
    if ('eventfd' in target) {
      if (channel === 'ipi')
        throw new EvtchnError('EINVAL', `send port ${sendPort} is an IPI: it raises a port, no eventfd`);
      const index = this.#vm.eventfds.indexOf(target.eventfd);
      return { sendPort, what: SEND_PORT_EVENTFD | (type << SEND_PORT_TYPE_SHIFT) | index, vcpu: 0 };
    }
    if (channel === 'ipi' && target.port !== sendPort) {
      throw new EvtchnError(
        'EINVAL',
        `send port ${sendPort} is an IPI to port ${target.port}: it raises its own number only`,
      );
    }
    checkRange('the target port', target.port, 1, ports - 1);
    checkPriority(target.priority);
    checkRange("KVM's id of the vCPU", target.vcpu, 0, U32_MAX);
    return { sendPort, what: (type << SEND_PORT_TYPE_SHIFT) | target.port, vcpu: target.vcpu };
  }

  /** A whole table: every port there is in any mode, so that a saved one can be set before the mode is. [KX-EVA-24, KF-34] */
  #entries(ports: readonly SendPort[]): Entry[] {
    if (!Array.isArray(ports)) throw new EvtchnError('EINVAL', `the send ports are ${String(ports)}, not a list`);
    const seen = new Set<number>();
    return ports.map((port) => {
      const entry = this.#entry(port, PORT_TABLE_PORTS);
      if (seen.has(entry.sendPort)) throw present(entry.sendPort);
      seen.add(entry.sendPort);
      return entry;
    });
  }

  /** Type, kind and target port have to be what they are. [KX-EVA-13] */
  #checkUpdate({ sendPort, channel, target }: SendPort): void {
    const { what, vcpu } = this.#existing(sendPort);
    const old = this.#describe({ sendPort, what, vcpu });
    if (old.channel !== channel) {
      throw new EvtchnError('EINVAL', `send port ${sendPort} is of type ${old.channel}, not ${String(channel)}`);
    }
    if ('eventfd' in old.target) {
      throw new EvtchnError(
        'EINVAL',
        `send port ${sendPort} signals an eventfd, which cannot be updated: deassign it first`,
      );
    }
    if (typeof target !== 'object' || target === null || !('port' in target) || target.port !== old.target.port) {
      throw new EvtchnError(
        'EINVAL',
        `send port ${sendPort} raises port ${old.target.port}: only its vCPU can be updated`,
      );
    }
    checkPriority(target.priority);
    checkRange("KVM's id of the vCPU", target.vcpu, 0, U32_MAX);
  }

  #existing(sendPort: number): Omit<Entry, 'sendPort'> {
    checkRange('the send port', sendPort, 1, this.#vm.max2LevelPorts - 1);
    const entry = this.#load(this.#inForce(), sendPort);
    if (entry.what === 0) throw new EvtchnError('ENOENT', `there is no send port ${sendPort}`);
    return entry;
  }

  #describe({ sendPort, what, vcpu }: Entry): SendPort {
    const type = (what >>> SEND_PORT_TYPE_SHIFT) & SEND_PORT_TYPE_BITS;
    const to = what & SEND_PORT_TARGET_BITS;
    return {
      sendPort,
      channel: type === EVTCHNSTAT_IPI ? 'ipi' : 'interdomain',
      target: what & SEND_PORT_EVENTFD ? { eventfd: this.#vm.eventfds.fdOf(to) } : { port: to, vcpu },
    };
  }

  // ── the table ────────────────────────────────────────────────────────────────────────────────────────────────────

  #remove(sendPort: number): void {
    const { changes, region } = this.#vm;
    changes.checkNoBracket();
    const at = this.#at(this.#inForce(), sendPort) + SEND_PORT_WHAT;
    const what = region.words.exchange(at, 0);
    try {
      changes.awaitReaders();
    } catch (error) {
      region.words.store(at, what);
      throw error;
    }
    this.#drop(what);
  }

  #replace(entries: readonly Entry[]): void {
    const { changes, region } = this.#vm;
    changes.checkNoBracket();
    // Nobody reads the spare copy any more; if the replacement before was given up, it still holds references.
    changes.awaitReaders();
    const word = region.base + REGION_SEND_PORT_TABLE;
    const table = region.words.load(word);
    this.#sweep(table + 1);
    for (const entry of entries) this.#store(this.#copy(table + 1), entry);
    region.words.store(word, (table + 1) | 0);
    try {
      changes.awaitReaders();
    } catch (error) {
      // A reader of the new copy may be inside: its references stay until the next replacement has waited for it.
      region.words.store(word, table);
      throw error;
    }
    this.#sweep(table);
  }

  /** Empties a copy that nobody reads. */
  #sweep(table: number): void {
    const { words } = this.#vm.region;
    const { i32 } = words;
    const copy = this.#copy(table);
    for (let sendPort = 1; sendPort < PORT_TABLE_PORTS; sendPort++) {
      const at = this.#at(copy, sendPort) + SEND_PORT_WHAT;
      if (Atomics.load(i32, at >>> 2) !== 0) this.#drop(words.exchange(at, 0));
    }
  }

  /** Into an entry that is empty. */
  #store(copy: number, { sendPort, what, vcpu }: Entry): void {
    const { words } = this.#vm.region;
    const at = this.#at(copy, sendPort);
    if (what & SEND_PORT_EVENTFD) this.#vm.eventfds.hold(what & SEND_PORT_TARGET_BITS);
    words.store(at + SEND_PORT_VCPU, vcpu | 0);
    // Last: whoever sees it sees the vCPU, and an eventfd that is held.
    words.store(at + SEND_PORT_WHAT, what);
  }

  #drop(what: number): void {
    if (what & SEND_PORT_EVENTFD) this.#vm.eventfds.drop(what & SEND_PORT_TARGET_BITS);
  }

  #load(copy: number, sendPort: number): Omit<Entry, 'sendPort'> {
    // The view is asked for once: it costs as much as ten loads.
    const { i32 } = this.#vm.region.words;
    const at = this.#at(copy, sendPort);
    const what = Atomics.load(i32, (at + SEND_PORT_WHAT) >>> 2);
    return { what, vcpu: Atomics.load(i32, (at + SEND_PORT_VCPU) >>> 2) >>> 0 };
  }

  #at(copy: number, sendPort: number): number {
    return copy + sendPort * SEND_PORT_SIZE;
  }

  #inForce(): number {
    const { words, base } = this.#vm.region;
    return this.#copy(words.load(base + REGION_SEND_PORT_TABLE));
  }

  #copy(table: number): number {
    return this.#tables + (table & 1) * SEND_PORT_COPY;
  }
}

function isPort(sendPort: number): boolean {
  return Number.isInteger(sendPort) && sendPort > 0 && sendPort < PORT_TABLE_PORTS;
}

function present(sendPort: number): EvtchnError {
  return new EvtchnError('EEXIST', `there is a send port ${sendPort} already: deassign it first`);
}

function checkPriority(priority: number | undefined): void {
  if (is2Level(priority)) return;
  throw new EvtchnError(
    'EINVAL',
    `the priority is ${String(priority)}, allowed is ${PRIORITY_2LEVEL}: there is one priority`,
  );
}

/** @internal */
export const EVTCHN_ROW: Row<Vm, EvtchnAttr> = {
  validate: (attr, vm) => vm.sendPorts.check(attr),
  set: (attr, vm) => vm.sendPorts.change(attr),
  get: (vm) => ({ type: 'evtchn', action: 'set', ports: vm.sendPorts.list() }),
};
