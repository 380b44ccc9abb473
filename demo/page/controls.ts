// The page's wishes: what is clicked and dragged becomes a word of the ledger.

import { BATCH, COMPARING, GROUPED, type Ledger, RATE, RUNNING, SPINS } from './ledger.ts';
import { control, inFull, write } from './page.ts';

/** Stops of the slider; 0 = as fast as possible. */
const RATES = [1_000, 10_000, 100_000, 1_000_000, 10_000_000, 0];
/** Looks of a receiver that spins before it sleeps. */
const LOOKS = 2000;

export class Controls {
  readonly #ledger: Ledger;
  readonly #run = control('run', HTMLButtonElement);
  readonly #compare = control('compare', HTMLButtonElement);
  #running = true;
  #comparing = true;

  constructor(ledger: Ledger) {
    this.#ledger = ledger;
    slider('rate', (stop) => {
      const rate = RATES[stop] ?? 0;
      ledger.ask(RATE, rate);
      return rate === 0 ? 'as fast as possible' : inFull(rate);
    });
    slider('batch', (stop) => {
      ledger.ask(BATCH, 2 ** stop);
      return stop === 0 ? '1, single sends' : inFull(2 ** stop);
    });
    check('spin', (on) => ledger.ask(SPINS, on ? LOOKS : 0));
    check('grouped', (on) => ledger.ask(GROUPED, on ? 1 : 0));
    this.#run.onclick = () => {
      this.#running = !this.#running;
      this.#apply();
    };
    this.#compare.onclick = () => {
      this.#comparing = !this.#comparing;
      this.#apply();
    };
    // A page that nobody sees does no work.
    document.addEventListener('visibilitychange', () => this.#apply());
    this.#apply();
  }

  #apply(): void {
    this.#run.textContent = this.#running ? 'Stop' : 'Start';
    this.#compare.textContent = this.#comparing ? 'Pause' : 'Go on';
    this.#compare.disabled = !this.#running;
    this.#ledger.ask(COMPARING, this.#comparing ? 1 : 0);
    this.#ledger.ask(RUNNING, this.#running && !document.hidden ? 1 : 0);
  }
}

/** Calls `change` now and with every move; what it returns is shown beside the slider. */
function slider(id: string, change: (stop: number) => string): void {
  const input = control(id, HTMLInputElement);
  const apply = (): void => {
    const text = change(input.valueAsNumber);
    write(`${id}-value`, text);
    input.setAttribute('aria-valuetext', text);
  };
  input.oninput = apply;
  apply();
}

function check(id: string, change: (on: boolean) => void): void {
  const input = control(id, HTMLInputElement);
  input.onchange = () => change(input.checked);
  change(input.checked);
}
