// The engine as a plain sequential program over sets: slow, obvious, and written without a look at assembly/.

const MASKED = -107;
const BAD = -22;

/** What lies in guest RAM at one address where a vcpu_info can be. */
interface Place {
  upcall: boolean;
  readonly selector: Set<number>;
}

interface ModelVcpu {
  place: Place | null;
  /** registered by host address: memory slots do not matter to it */
  byHost: boolean;
  /** false after an invalidation, until somebody needs it */
  mapped: boolean;
  readonly places: Map<number, Place>;
  readonly shadow: Set<number>;
  upcalls: number;
}

export class Reference {
  readonly pending = new Set<number>();
  readonly mask = new Set<number>();
  readonly vcpus: ModelVcpu[];
  /** A port that is not in it is unbound: it asks vCPU 0, and any vCPU takes it. */
  readonly #bound = new Map<number, number>();
  readonly #maxPorts: number;
  readonly #bits: number;

  constructor(maxPorts: number, bits: number, vcpus: number) {
    this.#maxPorts = maxPorts;
    this.#bits = bits;
    this.vcpus = Array.from({ length: vcpus }, () => ({
      place: null,
      byHost: false,
      mapped: false,
      places: new Map(),
      shadow: new Set(),
      upcalls: 0,
    }));
  }

  #isPort(port: number): boolean {
    return port >= 1 && port < this.#maxPorts;
  }

  vcpu(index: number): ModelVcpu {
    const vcpu = this.vcpus[index];
    if (!vcpu) throw new Error(`no vCPU ${index}`);
    return vcpu;
  }

  register(index: number, address: number | null, byHost = false): void {
    const vcpu = this.vcpu(index);
    const wasEmpty = vcpu.shadow.size === 0;
    for (const word of vcpu.place?.selector ?? []) vcpu.shadow.add(word);
    vcpu.place = null;
    vcpu.mapped = false;
    if (wasEmpty && vcpu.shadow.size > 0) vcpu.upcalls++;
    if (address === null) return;
    const place = vcpu.places.get(address) ?? { upcall: false, selector: new Set() };
    vcpu.places.set(address, place);
    vcpu.place = place;
    vcpu.byHost = byHost;
    vcpu.mapped = true;
  }

  bind(port: number, index: number): void {
    this.#bound.set(port, index);
    if (this.pending.has(port) && !this.mask.has(port)) this.#raise(port);
  }

  send(port: number): number {
    return this.#isPort(port) ? this.#send(port, 0) : BAD;
  }

  /** An event that names its vCPU: port 0 is one like any other there. */
  sendTo(port: number, index: number): number {
    return this.#isPort(port) || port === 0 ? this.#send(port, index) : BAD;
  }

  #send(port: number, index: number): number {
    if (this.pending.has(port)) return 0;
    this.pending.add(port);
    if (this.mask.has(port)) return MASKED;
    this.#raise(port, index);
    return 1;
  }

  /** On the vCPU that the port is bound to, else on the one with `index`. */
  #raise(port: number, index = 0): void {
    const vcpu = this.vcpu(this.#bound.get(port) ?? index);
    const word = Math.floor(port / this.#bits);
    if (vcpu.place && vcpu.mapped) {
      if (vcpu.place.selector.has(word)) return;
      vcpu.place.selector.add(word);
      this.#ask(vcpu.place, vcpu);
    } else {
      if (vcpu.shadow.size === 0) vcpu.upcalls++;
      vcpu.shadow.add(word);
    }
  }

  #ask(place: Place, vcpu: ModelVcpu): void {
    if (!place.upcall) vcpu.upcalls++;
    place.upcall = true;
  }

  setMask(port: number): number {
    if (!this.#isPort(port)) return BAD;
    if (this.mask.has(port)) return 0;
    this.mask.add(port);
    return 1;
  }

  unmask(port: number): number {
    if (!this.#isPort(port)) return BAD;
    if (!this.mask.delete(port) || !this.pending.has(port)) return 0;
    this.#raise(port);
    return 1;
  }

  flush(index: number): boolean {
    const vcpu = this.vcpu(index);
    if (!vcpu.place || vcpu.shadow.size === 0) return false;
    vcpu.mapped = true;
    for (const word of vcpu.shadow) vcpu.place.selector.add(word);
    vcpu.shadow.clear();
    this.#ask(vcpu.place, vcpu);
    return true;
  }

  level(index: number): boolean {
    this.flush(index);
    const vcpu = this.vcpu(index);
    vcpu.mapped = true;
    return vcpu.place?.upcall ?? false;
  }

  invalidate(): void {
    for (const vcpu of this.vcpus) vcpu.mapped = false;
  }

  changeSlots(): void {
    for (const vcpu of this.vcpus) if (!vcpu.byHost) vcpu.mapped = false;
  }

  /** The vCPU a port is bound to, or null. */
  boundTo(port: number): number | null {
    return this.#bound.get(port) ?? null;
  }

  /** null: not registered */
  drain(index: number): number[] | null {
    const vcpu = this.vcpu(index);
    if (!vcpu.place) return null;
    vcpu.mapped = true;
    vcpu.place.upcall = false;
    const words = new Set([...vcpu.place.selector, ...vcpu.shadow]);
    vcpu.place.selector.clear();
    vcpu.shadow.clear();
    const ports = [...this.pending].filter(
      (port) =>
        words.has(Math.floor(port / this.#bits)) && !this.mask.has(port) && (this.#bound.get(port) ?? index) === index,
    );
    for (const port of ports) this.pending.delete(port);
    return ports.sort((a, b) => a - b);
  }
}
