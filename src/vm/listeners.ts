/** One thread's view of a VM, as far as synchronous upcalls go. @internal */
export interface Listening {
  listens(vcpu: number): boolean;
  answer(vcpu: number): void;
}

/**
 * Where the kernel's kick import finds the views of a VM: several VMs, and several views of one, may share an instance.
 * @internal
 */
export class UpcallListeners {
  readonly #views = new Map<number, Set<Listening>>();

  add(vm: number, view: Listening): void {
    const views = this.#views.get(vm) ?? new Set();
    this.#views.set(vm, views.add(view));
  }
  remove(vm: number, view: Listening): void {
    const views = this.#views.get(vm);
    views?.delete(view);
    if (views?.size === 0) this.#views.delete(vm);
  }
  kick(vm: number, vcpu: number): void {
    for (const view of this.#views.get(vm >>> 0) ?? []) view.answer(vcpu);
  }
  /** Whether any view listens to the vCPU. */
  any(vm: number, vcpu: number): boolean {
    return [...(this.#views.get(vm) ?? [])].some((view) => view.listens(vcpu));
  }
}
