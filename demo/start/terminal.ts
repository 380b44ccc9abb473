// What a terminal shows: paint where it can be shown, one status line that is rewritten where there is a terminal.

import type { WriteStream } from 'node:tty';

/** Paints text, or leaves it alone. */
export interface Paint {
  good(text: string): string;
  bad(text: string): string;
  bold(text: string): string;
  dim(text: string): string;
}

const code = (number: number) => (text: string) => `\x1b[${number}m${text}\x1b[0m`;
const plain = (text: string) => text;

export const COLORS: Paint = { good: code(32), bad: code(31), bold: code(1), dim: code(2) };
export const PLAIN: Paint = { good: plain, bad: plain, bold: plain, dim: plain };

/** Colours for a terminal, unless the user has set NO_COLOR. */
export function paintFor(stream: { readonly isTTY?: boolean }): Paint {
  return stream.isTTY && !process.env['NO_COLOR'] ? COLORS : PLAIN;
}

/** Shows what is going on. */
export interface Status {
  show(text: string): void;
  /** Takes the status away, before something is printed for good. */
  clear(): void;
}

/** One line that is rewritten on a terminal; elsewhere a line each time another thing begins. */
export function statusOn(
  stream: Pick<WriteStream, 'write'> & { readonly isTTY?: boolean; readonly columns?: number },
): Status {
  if (!stream.isTTY) return plainStatus((text) => stream.write(text));
  return {
    show: (text) => {
      // A line that wraps could not be taken back.
      stream.write(`\r\x1b[2K  ${text.slice(0, (stream.columns ?? 80) - 3)}`);
    },
    clear: () => {
      stream.write('\r\x1b[2K');
    },
  };
}

function plainStatus(write: (text: string) => void): Status {
  let last = '';
  return {
    show: (text) => {
      const [topic = ''] = text.split(':');
      if (topic !== last) write(`  ... ${topic}\n`);
      last = topic;
    },
    clear: () => {},
  };
}

/** A column of a table: words to the left, numbers to the right. */
export interface Column {
  readonly title: string;
  readonly numeric?: boolean;
}

const GAP = '   ';

/** Lines of equal columns under dim titles; a row without cells is a rule. */
export function table(columns: readonly Column[], rows: readonly (readonly string[])[], paint: Paint): string[] {
  const widths = columns.map(({ title }, i) => Math.max(title.length, ...rows.map((row) => row[i]?.length ?? 0)));
  const rule = paint.dim('─'.repeat(widths.reduce((sum, width) => sum + width + GAP.length, -GAP.length)));
  const format = (cells: readonly string[]): string =>
    cells.length === 0
      ? rule
      : columns
          .map(({ numeric }, i) => {
            const [cell, width] = [cells[i] ?? '', widths[i] ?? 0];
            return numeric ? cell.padStart(width) : cell.padEnd(width);
          })
          .join(GAP)
          .trimEnd();
  return [paint.dim(format(columns.map(({ title }) => title))), ...rows.map(format)];
}

/** A whole number with separators between thousands. */
export function count(value: number): string {
  return value.toLocaleString('en-US');
}

/** A number with a fixed number of decimals and separators between thousands. */
export function decimal(value: number, digits: number): string {
  return value.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits });
}
