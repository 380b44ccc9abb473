// The parts that most models are made of: drivers that send, vCPUs that drain, unmask, sleep and poll; and what must hold when
// they are through: no event lost, none invented. [R1, R2]

import type { Vm } from '../vm/vm.ts';
import type { Code, Self } from './actor.ts';
import type { Model, World } from './world.ts';

/** Counters of a model by port: what was written for its events, how often it was handled, and what its handler has seen. */
const PER_PORT = 3;
const [WRITTEN, HANDLED, SEEN] = [0, 1, 2];

/** The ports of a model, with their counters. */
export class Ports {
  readonly #ports: readonly number[];
  #world: World | null = null;

  constructor(ports: readonly number[]) {
    this.#ports = ports;
  }

  /** Counters that a model has to have for them. */
  get counters(): number {
    return this.#ports.length * PER_PORT;
  }

  /** Which world it is; part of a model's setup. */
  begin(world: World): void {
    this.#world = world;
  }

  #at(port: number, what: number): number {
    const i = this.#ports.indexOf(port);
    if (i < 0) throw new RangeError(`port ${port} is none of the model's ports ${this.#ports.join(', ')}`);
    return i * PER_PORT + what;
  }

  #count(port: number, what: number): number {
    return this.#world?.count(this.#at(port, what)) ?? 0;
  }

  /** A driver writes what an event is about, then sends. */
  send(vm: Vm, self: Self, port: number, send: () => number = () => vm.send(port)): void {
    self.publish(this.#at(port, WRITTEN));
    self.do(`send ${port}`, () => void send());
  }

  /** The same with several ports in one batch. */
  sendMany(vm: Vm, self: Self, ports: readonly number[]): void {
    for (const port of ports) self.publish(this.#at(port, WRITTEN));
    self.do(`send ${ports.join(' ')} as a batch`, () => void vm.sendMany(ports));
  }

  /** A handler of the guest's: sees what was written so far. */
  handle(self: Self, port: number): void {
    self.note(() => {
      const world = this.#world as World;
      world.add(this.#at(port, SEEN), this.#count(port, WRITTEN) - this.#count(port, SEEN));
      return world.add(this.#at(port, HANDLED)) > this.#count(port, WRITTEN) ? port : 0;
    });
  }

  /** A vCPU takes what is pending and handles it. @returns how many ports */
  drain(vm: Vm, self: Self, vcpu = 0): number {
    return self.do(`vCPU ${vcpu} drains`, () => vm.vcpu(vcpu).drain((port) => this.handle(self, port)));
  }

  /** An event that was handled and never sent. [R2] */
  invented(): string | null {
    for (const port of this.#ports) {
      if (this.#count(port, HANDLED) > this.#count(port, WRITTEN))
        return `port ${port} was handled more often than it was sent`;
    }
    return null;
  }

  /** An event that was sent and whose handler has not seen what was written for it. [R1] */
  lost(except: readonly number[] = []): string | null {
    for (const port of this.#ports) {
      if (except.includes(port) || this.#count(port, SEEN) >= this.#count(port, WRITTEN)) continue;
      return this.#count(port, HANDLED) === 0
        ? `port ${port} was sent and not handled`
        : `port ${port} was handled before what its last event announces was written`;
    }
    return null;
  }

  /** The guest answers every upcall that it is asked for and looks at nothing else; a vCPU that sleeps looks at nothing at all. */
  settle(): string | null {
    const world = this.#world as World;
    const { vm } = world;
    for (let i = 0; i < vm.vcpus; i++) {
      if (isAsleep(world, i)) continue;
      for (let round = 0; vm.vcpu(i).upcallPending; round++) {
        if (round > 8) return `vCPU ${i} is asked for upcalls without end`;
        vm.vcpu(i).drain((port) => this.#handleNow(port));
      }
    }
    return null;
  }

  #handleNow(port: number): void {
    const world = this.#world as World;
    world.add(this.#at(port, SEEN), this.#count(port, WRITTEN) - this.#count(port, SEEN));
    world.add(this.#at(port, HANDLED));
  }

  /** What must hold at every end. */
  judge(except: readonly number[] = []): string | null {
    const world = this.#world as World;
    const unwritten = world.actors.find((actor) => actor.buffered !== 0 && !actor.dead);
    unwritten?.flush();
    return this.settle() ?? this.lost(except) ?? this.invented();
  }
}

/** Whether the vCPU's own actor sleeps. */
function isAsleep(world: World, vcpu: number): boolean {
  const line = world.vm.region.vcpuLine(vcpu);
  return world.actors.some((actor) => actor.asleep >= line && actor.asleep < line + 64);
}

/** A vCPU that takes events until it has handled `events` of them, and sleeps when there are none. [KF-16] */
export function vcpuLoop(ports: Ports, vcpu: number, rounds: number): Code {
  return (vm, self) => {
    for (let i = 0; i < rounds; i++) {
      ports.drain(vm, self, vcpu);
      self.do(`vCPU ${vcpu} sleeps`, () => void vm.vcpu(vcpu).wait());
    }
    ports.drain(vm, self, vcpu);
  };
}

/** A model of drivers and vCPUs over `ports`. */
export function deliveryModel(
  ports: Ports,
  model: Omit<Model, 'counters'> & { readonly except?: readonly number[] },
): Model {
  return {
    ...model,
    counters: ports.counters,
    setup: (world) => {
      ports.begin(world);
      model.setup?.(world);
    },
    always: model.always ?? (() => ports.invented()),
    finally: (world) => model.finally?.(world) ?? ports.judge(model.except),
  };
}
