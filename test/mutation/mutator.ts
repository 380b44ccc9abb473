// Single small faults that can be put into a source of assembly/: what mutation testing calls mutants.

import {
  BinaryExpression,
  CallExpression,
  ClassDeclaration,
  ExpressionStatement,
  FunctionDeclaration,
  IdentifierExpression,
  ImportStatement,
  IntegerLiteralExpression,
  ReturnStatement,
  type Source,
  UnaryPostfixExpression,
  UnaryPrefixExpression,
} from 'assemblyscript';
import { conditionsOf } from '../../tools/coverage/branches.ts';
import { children, lineOf, type Node, operatorOf, syntaxOf, textOf } from '../../tools/coverage/syntax.ts';

export interface Mutant {
  readonly file: string;
  readonly line: number;
  readonly function: string;
  /** what was done, by operator: `== to !=`, `drop`, `negate` … */
  readonly kind: string;
  /** the line as it becomes, without its indentation */
  readonly becomes: string;
  readonly start: number;
  readonly end: number;
  readonly put: string;
}

/** The text of a file with a mutant in it. */
export function mutate(text: string, { start, end, put }: Mutant): string {
  return text.slice(0, start) + put + text.slice(end);
}

const SWAPS: Readonly<Record<string, string>> = {
  '==': '!=',
  '!=': '==',
  '<': '<=',
  '<=': '<',
  '>': '>=',
  '>=': '>',
  '&': '|',
  '|': '&',
  '&&': '||',
  '||': '&&',
  '+': '-',
  '-': '+',
  '<<': '>>',
  '>>': '<<',
  '>>>': '<<',
  '+=': '-=',
  '-=': '+=',
  '|=': '&=',
};

interface Place {
  readonly name: string;
  readonly returns: string;
}

/** All mutants of a file, in the order of its text. */
export function mutantsOf(file: string, text: string): Mutant[] {
  const source = syntaxOf(file, text);
  const neighbours = neighbourConstants(source);
  const found: Mutant[] = [];
  const put = (place: Place, kind: string, start: number, end: number, by: string): void => {
    const line = lineOf(text, start);
    const [from, to] = [text.lastIndexOf('\n', start - 1) + 1, text.indexOf('\n', end)];
    const [becomes = ''] = `${text.slice(from, start)}${by}${text.slice(end, to)}`.trim().split('\n');
    found.push({ file, line, function: place.name, kind, becomes, start, end, put: by });
  };

  const visit = (node: Node, place: Place): void => {
    const inner = placeOf(node, place, text);
    if (inner.returns) mutateNode(node, inner);
    for (const child of children(node)) visit(child, inner);
  };

  const mutateNode = (node: Node, place: Place): void => {
    const { start, end } = node.range;
    if (node instanceof BinaryExpression) {
      const operator = operatorOf(node.left, node.right, text);
      const swapped = SWAPS[operator];
      const at = text.indexOf(operator, node.left.range.end);
      if (swapped) put(place, `${operator} to ${swapped}`, at, at + operator.length, swapped);
    } else if (node instanceof UnaryPrefixExpression && text[start] === '~') {
      put(place, '~ left out', start, start + 1, '');
    } else if (node instanceof UnaryPostfixExpression) {
      const swapped = text.slice(end - 2, end) === '++' ? '--' : '++';
      put(place, `${text.slice(end - 2, end)} to ${swapped}`, end - 2, end, swapped);
    } else if (node instanceof ExpressionStatement) {
      // A statement that is nothing but a call is the call that is left out.
      const kind = node.expression instanceof CallExpression ? 'call left out' : 'statement left out';
      put(place, kind, start, text[end] === ';' ? end + 1 : end, '{}');
    } else if (node instanceof ReturnStatement && node.value) {
      const { value } = node;
      for (const by of place.returns === 'bool' ? ['false', 'true'] : ['0', '1']) {
        const typed = /^(W|T)$/.test(place.returns) ? `(${by} as ${place.returns})` : by;
        if (textOf(value, text) !== by) put(place, `return ${by}`, value.range.start, value.range.end, typed);
      }
    } else if (node instanceof IntegerLiteralExpression) {
      const number = Number(textOf(node, text));
      if (Number.isSafeInteger(number)) put(place, 'constant', start, end, String(number === 1 ? 0 : number + 1));
    } else if (node instanceof IdentifierExpression) {
      const other = neighbours.get(textOf(node, text));
      if (other) put(place, 'constant', start, end, other);
    }
  };

  visit(source, { name: '', returns: '' });
  for (const { node, function: name } of conditionsOf(source, text)) {
    put({ name, returns: '' }, 'negate', node.range.start, node.range.end, `!(${textOf(node, text)})`);
  }
  return found.sort((a, b) => a.start - b.start || a.end - b.end);
}

function placeOf(node: Node, outer: Place, text: string): Place {
  if (node instanceof ClassDeclaration) return { name: `${node.name.text}.`, returns: '' };
  if (!(node instanceof FunctionDeclaration)) return outer;
  const name = outer.name.endsWith('.') ? outer.name + node.name.text : node.name.text;
  return { name, returns: textOf(node.signature.returnType, text) };
}

/** For each imported constant the next one of the same import, of the same family (the word before the first `_`) if there is one. */
function neighbourConstants(source: Source): Map<string, string> {
  const next = new Map<string, string>();
  for (const statement of source.statements) {
    if (!(statement instanceof ImportStatement)) continue;
    const names = (statement.declarations ?? [])
      .map((one) => one.name.text)
      .filter((name) => /^[A-Z0-9_]+$/.test(name));
    for (const [i, name] of names.entries()) {
      const [family] = name.split('_');
      const others = [...names.slice(i + 1), ...names.slice(0, i)];
      const other = others.find((one) => one.split('_')[0] === family) ?? others[0];
      if (other) next.set(name, other);
    }
  }
  return next;
}
