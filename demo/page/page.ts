// The elements of the page, by name, and how its numbers are written.

/** The element that carries `data-testid="name"`: values are written to, and tests read from, the same place. */
export function shown(name: string): HTMLElement {
  const found = document.querySelector<HTMLElement>(`[data-testid="${name}"]`);
  if (!found) throw new Error(`index.html has no element named ${name}`);
  return found;
}

export function control<T extends HTMLElement>(id: string, kind: new () => T): T {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`index.html has no ${kind.name} with the id ${id}`);
  return found;
}

/** Writes only what is new: the browser lays out nothing for numbers that stand still. */
export function write(name: string, text: string): void {
  const element = shown(name);
  if (element.textContent !== text) element.textContent = text;
}

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat('en', { notation: 'compact', maximumSignificantDigits: 3 });
const three = new Intl.NumberFormat('en', { maximumSignificantDigits: 3 });

/** 12,345,678 */
export const inFull = (n: number): string => whole.format(n);
/** 12.3M */
export const inShort = (n: number): string => short.format(n);
/** 0.123, 12.3 or 1,230 */
export const rounded = (n: number): string => (n >= 100 ? whole : three).format(n);
