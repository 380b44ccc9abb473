// The machine as a picture: a cell per port, 64 to a row because 64 ports share a word, and beside each row the bit of
// the selector that stands for that word.

import { PORTS_LONG, WORDS_LONG } from '../../src/abi/shared_info.ts';
import type { Ledger } from './ledger.ts';
import type { Machine } from './machine.ts';

/** Columns of the picture in cells: room for numbers, the selector, a gap, the ports. */
const NUMBERS = 3;
const SELECTOR = 2;
const GAP = 1;
const FIRST_COLUMN = NUMBERS + SELECTOR + GAP;
const COLUMNS = FIRST_COLUMN + WORDS_LONG;
/** Rows above the ports, for names. */
const FIRST_ROW = 3;
const ROWS = FIRST_ROW + WORDS_LONG;
/** Room right and below for the frame of a port at the edge, in cells. */
const MARGIN = 0.5;

/** Activity is an average over about so long, ms. */
const MEMORY = 600;
/** A pending bit lives for microseconds, a frame lasts 16,000: what was seen pending fades over about so long, ms. */
const AFTERGLOW = 250;
/** How strong it still is in the frame after. */
const SEEN_BEFORE = 0.6;
const SHADES = 64;
const TINTS = 32;

type Colour = readonly [number, number, number];

export class Picture {
  readonly #canvas: HTMLCanvasElement;
  readonly #context: CanvasRenderingContext2D;
  readonly #still: boolean;
  /** one pixel per port, then per selector bit; drawn enlarged */
  readonly #ports = new Bitmap(WORDS_LONG, WORDS_LONG);
  readonly #selector = new Bitmap(1, WORDS_LONG);
  readonly #activity = new Float32Array(PORTS_LONG);
  readonly #taken = new Int32Array(PORTS_LONG);
  readonly #seenPending = new Float32Array(PORTS_LONG);
  readonly #seenSelected = new Float32Array(WORDS_LONG);
  #busiest = 1;
  #palette = readPalette();
  #cell = 0;
  #last = 0;
  /** the port that is framed */
  chosen = 1;

  constructor(canvas: HTMLCanvasElement) {
    const context = canvas.getContext('2d');
    if (!context) throw new Error('this browser gives no 2D canvas');
    this.#canvas = canvas;
    this.#context = context;
    this.#still = matchMedia('(prefers-reduced-motion: reduce)').matches;
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
      this.#palette = readPalette();
      this.#cell = 0;
    });
    new ResizeObserver(() => this.#resize()).observe(canvas.parentElement ?? canvas);
    this.#resize();
  }

  /** The port under a point of the page, or null. */
  portAt(x: number, y: number): number | null {
    const box = this.#canvas.getBoundingClientRect();
    const scale = this.#canvas.width / box.width / this.#cell;
    const column = Math.floor((x - box.left) * scale) - FIRST_COLUMN;
    const row = Math.floor((y - box.top) * scale) - FIRST_ROW;
    if (column < 0 || column >= WORDS_LONG || row < 0 || row >= WORDS_LONG) return null;
    return row * WORDS_LONG + column || null;
  }

  draw(machine: Machine, ledger: Ledger, now: number): void {
    if (this.#cell === 0) this.#resize();
    const elapsed = now - this.#last;
    this.#last = now;
    this.#followActivity(ledger, Math.exp(-elapsed / MEMORY));
    this.#paint(machine, this.#still ? 0 : Math.exp(-elapsed / AFTERGLOW));
    const cell = this.#cell;
    const context = this.#context;
    const left = FIRST_COLUMN * cell;
    const top = FIRST_ROW * cell;
    const size = WORDS_LONG * cell;
    context.drawImage(this.#selector.update(), NUMBERS * cell, top, SELECTOR * cell, size);
    context.drawImage(this.#ports.update(), left, top, size, size);
    this.#rule(NUMBERS * cell, top, SELECTOR, WORDS_LONG, SELECTOR);
    this.#rule(left, top, WORDS_LONG, WORDS_LONG, 1);
    this.#frame(left, top);
  }

  #followActivity(ledger: Ledger, fade: number): void {
    let busiest = 1;
    for (let port = 1; port < PORTS_LONG; port++) {
      const taken = ledger.taken[port] as number;
      const activity = (this.#activity[port] as number) * fade + ((taken - (this.#taken[port] as number)) | 0);
      this.#taken[port] = taken;
      this.#activity[port] = activity;
      if (activity > busiest) busiest = activity;
    }
    // Follows slowly, so that the scale does not flicker.
    this.#busiest += (busiest - this.#busiest) * (1 - fade);
  }

  #paint(machine: Machine, fade: number): void {
    const { masked, heldPending, none } = this.#palette;
    const cells = this.#ports.pixels;
    const scale = (SHADES - 1) / Math.log1p(this.#busiest);
    for (let row = 0, port = 0; row < WORDS_LONG; row++) {
      let warmest = 0;
      for (let column = 0; column < WORDS_LONG; column++, port++) {
        const shade = Math.min(SHADES - 1, Math.log1p(this.#activity[port] as number) * scale);
        if (shade > warmest) warmest = shade;
        const isPending = machine.isPending(port);
        const tinted = this.#tint(this.#seenPending, port, isPending, shade, fade);
        if (machine.isMasked(port)) cells[port] = isPending ? heldPending : masked;
        else cells[port] = tinted;
      }
      this.#selector.pixels[row] = this.#tint(this.#seenSelected, row, machine.isSelected(row), warmest, fade);
    }
    cells[0] = none;
  }

  /** The shade of some activity under the colour of a bit that is set now or was set a moment ago. */
  #tint(seen: Float32Array, index: number, isSet: boolean, shade: number, fade: number): number {
    const before = seen[index] as number;
    const strength = isSet ? 1 : (before === 1 ? SEEN_BEFORE : before) * fade;
    seen[index] = strength;
    const step = Math.round(strength * (TINTS - 1));
    return this.#palette.tints[step * SHADES + Math.round(shade)] as number;
  }

  /** Lines between the cells, in the colour of the ground. */
  #rule(left: number, top: number, columns: number, rows: number, step: number): void {
    const cell = this.#cell;
    const line =
      cell >= 8 * devicePixelRatio ? Math.max(1, Math.round(devicePixelRatio)) : Math.max(1, Math.floor(cell / 8));
    const context = this.#context;
    context.fillStyle = this.#palette.ground;
    for (let i = step; i <= columns; i += step) context.fillRect(left + i * cell - line, top, line, rows * cell);
    for (let i = 1; i <= rows; i++) context.fillRect(left, top + i * cell - line, columns * cell, line);
  }

  #frame(left: number, top: number): void {
    const cell = this.#cell;
    const width = Math.max(2, Math.round(devicePixelRatio * 2));
    const x = left + (this.chosen % WORDS_LONG) * cell;
    const y = top + Math.floor(this.chosen / WORDS_LONG) * cell;
    const context = this.#context;
    // The strip around the grid is cleared, because the frame of a port at the edge reaches into it.
    this.#clearEdges(left, top, width + 1);
    context.strokeStyle = this.#palette.chosen;
    context.lineWidth = width;
    context.strokeRect(x - width / 2, y - width / 2, cell - 1 + width, cell - 1 + width);
  }

  #clearEdges(left: number, top: number, width: number): void {
    const context = this.#context;
    const size = WORDS_LONG * this.#cell;
    context.fillStyle = this.#palette.ground;
    context.fillRect(left - width, top - width, size + 2 * width, width);
    context.fillRect(left - width, top + size, size + 2 * width, width);
    context.fillRect(left - width, top, width, size);
    context.fillRect(left + size, top, width, size);
  }

  /** Whole device pixels per cell, as many as the place allows. */
  #resize(): void {
    const room = (this.#canvas.parentElement?.clientWidth ?? 600) * devicePixelRatio;
    const cell = Math.max(3, Math.floor(room / (COLUMNS + MARGIN)));
    if (cell === this.#cell) return;
    this.#cell = cell;
    this.#canvas.width = Math.ceil((COLUMNS + MARGIN) * cell);
    this.#canvas.height = Math.ceil((ROWS + MARGIN) * cell);
    this.#canvas.style.width = `${this.#canvas.width / devicePixelRatio}px`;
    this.#drawNames();
  }

  #drawNames(): void {
    const cell = this.#cell;
    const context = this.#context;
    context.imageSmoothingEnabled = false;
    context.fillStyle = this.#palette.ground;
    context.fillRect(0, 0, this.#canvas.width, this.#canvas.height);
    context.fillStyle = this.#palette.faint;
    context.font = `${Math.round(11 * devicePixelRatio)}px ui-monospace, "Liberation Mono", monospace`;
    context.textBaseline = 'alphabetic';
    context.textAlign = 'left';
    context.fillText('selector', 0, 2 * cell);
    context.textAlign = 'right';
    context.fillText('one row = one word of 64 ports', (FIRST_COLUMN + WORDS_LONG) * cell, 2 * cell);
    for (const row of [0, 16, 32, 48, 63]) context.fillText(String(row), 2.4 * cell, (FIRST_ROW + row + 1) * cell);
  }
}

/** Pixels that are drawn enlarged. */
class Bitmap {
  readonly pixels: Uint32Array;
  readonly #image: ImageData;
  readonly #canvas = document.createElement('canvas');
  readonly #context: CanvasRenderingContext2D | null;

  constructor(width: number, height: number) {
    this.#canvas.width = width;
    this.#canvas.height = height;
    this.#context = this.#canvas.getContext('2d');
    this.#image = new ImageData(width, height);
    this.pixels = new Uint32Array(this.#image.data.buffer);
  }

  update(): HTMLCanvasElement {
    this.#context?.putImageData(this.#image, 0, 0);
    return this.#canvas;
  }
}

interface Palette {
  readonly ground: string;
  readonly chosen: string;
  readonly faint: string;
  readonly masked: number;
  readonly heldPending: number;
  readonly none: number;
  /** rows from not pending to pending, columns from a quiet port to the busiest */
  readonly tints: Uint32Array;
}

/** The colours are the style sheet's. */
function readPalette(): Palette {
  const style = getComputedStyle(document.documentElement);
  const context = document.createElement('canvas').getContext('2d');
  // A canvas spells every opaque colour as #rrggbb, however the style sheet does.
  const text = (name: string): string => {
    if (!context) return '#000000';
    context.fillStyle = style.getPropertyValue(name).trim();
    return String(context.fillStyle);
  };
  const colour = (name: string): Colour => parseHex(text(name));
  const quiet = colour('--quiet');
  const taken = colour('--taken');
  const pending = colour('--pending');
  const tints = new Uint32Array(TINTS * SHADES);
  for (let i = 0; i < tints.length; i++) {
    const shade = mix(quiet, taken, (i % SHADES) / (SHADES - 1));
    tints[i] = pixel(mix(shade, pending, Math.floor(i / SHADES) / (TINTS - 1)));
  }
  return {
    ground: text('--card'),
    chosen: text('--chosen'),
    faint: text('--faint'),
    masked: pixel(colour('--masked')),
    heldPending: pixel(colour('--held')),
    none: pixel(colour('--card')),
    tints,
  };
}

function parseHex(text: string): Colour {
  const n = Number.parseInt(text.slice(1), 16);
  return [n >> 16, (n >> 8) & 255, n & 255];
}

function mix(a: Colour, b: Colour, t: number): Colour {
  return [a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t];
}

/** Little-endian RGBA. */
function pixel([red, green, blue]: Colour): number {
  return (0xff000000 | (Math.round(blue) << 16) | (Math.round(green) << 8) | Math.round(red)) >>> 0;
}
