// The FIFO ABI as a person would describe it: queues are lists of ports. It knows no link, tail or ready bit, and shares no code with
// the engine.

interface RefPort {
  pending: boolean;
  masked: boolean;
  /** the queue it is in, or null */
  on: string | null;
  priority: number;
  vcpu: number;
  saved: boolean;
}

export class FifoReference {
  fifo = false;
  pages = 0;
  /** vCPUs that have a control block */
  readonly controls = new Set<number>();
  dropped = 0;
  /** vCPUs that may be asked for an upcall with nothing to find, until they look: after a switch, and for what the 2-level ABI raised */
  readonly spurious = new Set<number>();
  readonly #ports = new Map<number, RefPort>();
  readonly #queues = new Map<string, number[]>();
  readonly #limit: number;
  readonly #vcpus: number;

  constructor(limit: number, vcpus: number) {
    this.#limit = limit;
    this.#vcpus = vcpus;
  }

  #port(port: number): RefPort {
    let found = this.#ports.get(port);
    if (!found) {
      found = { pending: false, masked: false, on: null, priority: 7, vcpu: port % this.#vcpus, saved: false };
      this.#ports.set(port, found);
    }
    return found;
  }

  #queue(name: string): number[] {
    const found = this.#queues.get(name) ?? [];
    this.#queues.set(name, found);
    return found;
  }

  #hasWord(port: number): boolean {
    return port < this.pages * 1024;
  }

  isPort(port: number): boolean {
    return port > 0 && port < this.#limit;
  }

  send(port: number): number {
    if (!this.isPort(port)) return -22;
    const p = this.#port(port);
    if (!this.fifo) {
      if (p.pending) return 0;
      p.pending = true;
      this.spurious.add(p.vcpu);
      return p.masked ? -107 : 1;
    }
    if (!this.#hasWord(port)) {
      const was = p.saved;
      p.saved = true;
      return was ? 0 : -107;
    }
    if (!this.controls.has(p.vcpu)) {
      this.dropped++;
      return -6;
    }
    const was = p.pending;
    p.pending = true;
    if (!p.masked) this.#enqueue(port);
    if (was) return 0;
    return p.masked ? -107 : 1;
  }

  #enqueue(port: number): boolean {
    const p = this.#port(port);
    if (p.on !== null) return false;
    p.on = `${p.vcpu}:${p.priority}`;
    this.#queue(p.on).push(port);
    return true;
  }

  mask(port: number): number {
    if (!this.isPort(port)) return -22;
    const p = this.#port(port);
    if (this.fifo && !this.#hasWord(port)) return 0;
    const was = p.masked;
    p.masked = true;
    return was ? 0 : 1;
  }

  unmask(port: number): number {
    if (!this.isPort(port)) return -22;
    const p = this.#port(port);
    if (!this.fifo) {
      const was = p.masked;
      p.masked = false;
      this.spurious.add(p.vcpu);
      return was && p.pending ? 1 : 0;
    }
    if (!this.#hasWord(port)) return 0;
    p.masked = false;
    if (!p.pending) return 0;
    if (!this.controls.has(p.vcpu)) {
      this.dropped++;
      return 0;
    }
    return this.#enqueue(port) ? 1 : 0;
  }

  /** What a vCPU takes: everything that is queued for it, by priority; masked ports leave their queue as well. */
  drain(vcpu: number): number[] {
    this.spurious.delete(vcpu);
    if (!this.fifo) {
      const taken = [...this.#ports.keys()].filter((port) => {
        const p = this.#port(port);
        return p.pending && !p.masked && p.vcpu === vcpu;
      });
      for (const port of taken) this.#port(port).pending = false;
      return taken.sort((a, b) => a - b);
    }
    const taken: number[] = [];
    for (let priority = 0; priority < 16; priority++) {
      for (const port of this.#queue(`${vcpu}:${priority}`).splice(0)) {
        const p = this.#port(port);
        p.on = null;
        if (!p.pending || p.masked) continue;
        p.pending = false;
        taken.push(port);
      }
    }
    return taken;
  }

  /** Whether a vCPU is asked for an upcall, under the FIFO ABI. */
  asked(vcpu: number): boolean {
    return [...this.#queues].some(([name, ports]) => name.startsWith(`${vcpu}:`) && ports.length > 0);
  }

  move(port: number, vcpu: number): void {
    if (!this.fifo) this.spurious.add(vcpu);
    this.#port(port).vcpu = vcpu;
  }

  setPriority(port: number, priority: number): number {
    if (!this.fifo) return -38;
    this.#port(port).priority = priority;
    return 0;
  }

  clearPending(port: number): number {
    const p = this.#port(port);
    if (!this.fifo) return 0;
    const was = this.#hasWord(port) ? p.pending || p.saved : p.saved;
    p.saved = false;
    if (this.#hasWord(port)) p.pending = false;
    return was ? 1 : 0;
  }

  isBusy(port: number): boolean {
    return this.fifo && this.#port(port).on !== null;
  }

  init(vcpu: number): number {
    if (this.fifo && this.controls.has(vcpu)) return -22;
    if (!this.fifo) {
      this.fifo = true;
      this.pages = 0;
      this.controls.clear();
      for (const p of this.#ports.values()) {
        p.saved = p.pending;
        p.priority = 7;
        p.pending = false;
        p.masked = false;
      }
    }
    this.controls.add(vcpu);
    return 0;
  }

  /** The guest gives a page in which no word has a bit. */
  expand(most: number): number {
    if (!this.fifo) return -95;
    if (this.pages === most) return -28;
    this.pages++;
    for (const [port, p] of [...this.#ports].sort(([a], [b]) => a - b)) {
      if (!p.saved || !this.#hasWord(port)) continue;
      p.saved = false;
      p.pending = p.masked = false;
      this.send(port);
    }
    return 0;
  }

  toTwoLevel(masks: (port: number) => boolean): number {
    if (!this.fifo) return 0;
    for (const [port, p] of this.#ports) {
      if (!this.#hasWord(port)) p.masked = masks(port);
      p.pending = p.pending || p.saved;
      p.saved = false;
      p.on = null;
    }
    for (const ports of this.#queues.values()) ports.length = 0;
    this.controls.clear();
    for (let vcpu = 0; vcpu < this.#vcpus; vcpu++) this.spurious.add(vcpu);
    this.pages = 0;
    this.fifo = false;
    return 0;
  }

  status(port: number): { pending: boolean; masked: boolean; linked: boolean } {
    const p = this.#port(port);
    if (!this.fifo || this.#hasWord(port)) return { pending: p.pending, masked: p.masked, linked: p.on !== null };
    return { pending: p.saved, masked: true, linked: false };
  }
}
