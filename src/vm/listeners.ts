/** Where the kernel's kick import finds the views of a VM: several VMs, and several views of one, may share an instance. @internal */
export class UpcallListeners {
  readonly #views = new Map<number, Set<(vcpu: number) => void>>();

  add(vm: number, answer: (vcpu: number) => void): void {
    const views = this.#views.get(vm) ?? new Set();
    this.#views.set(vm, views.add(answer));
  }
  remove(vm: number, answer: (vcpu: number) => void): void {
    const views = this.#views.get(vm);
    views?.delete(answer);
    if (views?.size === 0) this.#views.delete(vm);
  }
  kick(vm: number, vcpu: number): void {
    for (const answer of this.#views.get(vm >>> 0) ?? []) answer(vcpu);
  }
}
