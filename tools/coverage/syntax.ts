// The syntax tree of a source of assembly/, by asc's own parser: what it takes for a condition is one.

import { Node, newOptions, newProgram, parse, Source } from 'assemblyscript';

export { Node } from 'assemblyscript';

/** The tree of one file. Ranges are offsets into `text`. */
export function syntaxOf(file: string, text: string): Source {
  const program = newProgram(newOptions());
  parse(program, text, file, true);
  const source = program.sources.find((one) => one.normalizedPath === file);
  if (!source) throw new Error(`asc did not parse ${file}`);
  return source;
}

/** The nodes right below one, in the order of the text. */
export function children(node: Node): Node[] {
  const found: Node[] = [];
  for (const value of Object.values(node)) {
    if (Array.isArray(value)) found.push(...value.filter((one) => one instanceof Node));
    else if (value instanceof Node && !(value instanceof Source)) found.push(value);
  }
  return found.sort((a, b) => a.range.start - b.range.start);
}

/** The text of a node as it stands in its file. */
export function textOf(node: Node, text: string): string {
  return text.slice(node.range.start, node.range.end);
}

/** What stands between the two operands of a binary expression, without comments. */
export function operatorOf(left: Node, right: Node, text: string): string {
  return text
    .slice(left.range.end, right.range.start)
    .replaceAll(/\/\*[\s\S]*?\*\/|\/\/[^\n]*/g, '')
    .replaceAll(/[\s()]/g, '');
}

/** The number of the line, from 1, that holds an offset. */
export function lineOf(text: string, offset: number): number {
  return text.slice(0, offset).split('\n').length;
}
