// The port under fire: chosen by its cell, by its number or by the arrow keys; masked and unmasked by the button.

import { WORDS_LONG } from '../../src/abi/shared_info.ts';
import type { Vm } from '../../src/index.ts';
import type { Ledger } from './ledger.ts';
import type { Machine } from './machine.ts';
import { control, inFull, write } from './page.ts';
import type { Picture } from './picture.ts';

const STEPS: Readonly<Record<string, number>> = {
  ArrowLeft: -1,
  ArrowRight: 1,
  ArrowUp: -WORDS_LONG,
  ArrowDown: WORDS_LONG,
};

const FREE = 'Its events reach the receiver. Mask it, and they will wait.';
const MASKED = 'Masked: sends set its pending bit once and ask for no upcall. The event waits, it is not lost.';
const RAISED = 'Unmasked: the event that had waited was raised again and delivered.';
const QUIET = 'Unmasked: nothing had waited.';

export class ChosenPort {
  readonly #vm: Vm;
  readonly #picture: Picture;
  readonly #input = control('port', HTMLInputElement);
  readonly #button = control('mask', HTMLButtonElement);
  #hovered: number | null = null;
  #story = FREE;

  constructor(vm: Vm, picture: Picture, canvas: HTMLCanvasElement, first: number) {
    this.#vm = vm;
    this.#picture = picture;
    this.#choose(first);
    this.#input.onchange = () => this.#choose(this.#input.valueAsNumber);
    this.#button.onclick = () => this.#toggle();
    canvas.onclick = (event) => this.#choose(picture.portAt(event.clientX, event.clientY) ?? picture.chosen);
    canvas.onpointermove = (event) => {
      this.#hovered = picture.portAt(event.clientX, event.clientY);
    };
    canvas.onpointerleave = () => {
      this.#hovered = null;
    };
    canvas.onkeydown = (event) => {
      const step = STEPS[event.key];
      if (step === undefined) return;
      event.preventDefault();
      this.#choose(picture.chosen + step);
    };
  }

  #choose(port: number): void {
    if (port >= 1 && port < this.#vm.maxPorts) {
      if (port !== this.#picture.chosen) this.#story = FREE;
      this.#picture.chosen = Math.floor(port);
    }
    this.#input.value = String(this.#picture.chosen);
  }

  /** Masking and unmasking are the guest's own calls; neither waits, so the page may make them. */
  #toggle(): void {
    const port = this.#picture.chosen;
    if (this.#vm.mask(port) === 1) this.#story = MASKED;
    else this.#story = this.#vm.unmask(port) === 1 ? RAISED : QUIET;
  }

  show(machine: Machine, ledger: Ledger): void {
    const port = this.#picture.chosen;
    const masked = machine.isMasked(port);
    write('mask', `${masked ? 'Unmask' : 'Mask'} port ${port}`);
    write('port-pending', machine.isPending(port) ? '1' : '0');
    write('port-masked', masked ? '1' : '0');
    write('port-taken', `${inFull((ledger.taken[port] as number) >>> 0)} times`);
    write('port-story', masked ? MASKED : this.#story);
    write('readout', describe(this.#hovered ?? port, machine, ledger));
  }
}

function describe(port: number, machine: Machine, ledger: Ledger): string {
  const state = [machine.isPending(port) ? 'pending' : '', machine.isMasked(port) ? 'masked' : ''].filter(Boolean);
  const taken = inFull((ledger.taken[port] as number) >>> 0);
  const place = `port ${port}: word ${Math.floor(port / WORDS_LONG)}, bit ${port % WORDS_LONG}`;
  return `${place}; ${state.join(' and ') || 'nothing pending'}; taken ${taken} times`;
}
