// Finds the names of tests in a TypeScript source without running it. A name is
// - the title of a `test`, `it` or `describe`, also of their `.each`, unless it is skipped, a todo or expected to fail,
// - in a table of cases the property `name`, and every property that a title of the same file shows (`$what`, `${row.id}`),
// - a row of strings that begins with an id, in a file with a title that shows its rows (`%s`, `${id}`).

import { parseSync } from 'vite';

export interface TestName {
  readonly file: string;
  readonly line: number;
  readonly text: string;
}

interface Node {
  readonly type: string;
  readonly start: number;
  readonly end: number;
  readonly [key: string]: unknown;
}

/** A string that is a name, or is one if a title of its file shows it. */
interface Candidate {
  readonly node: Node;
  readonly text: string;
  readonly kind: 'title' | 'property' | 'row';
  /** the name of the property, else empty */
  readonly key: string;
}

/** Tests of the enclosing `describe`, told apart because one that runs none of its tests proves nothing. */
interface Suite {
  live: number;
  dead: number;
}

const RUNNERS = ['test', 'it', 'describe'];
const DEAD = ['skip', 'todo', 'fails'];
/** `test.each(rows)` is not a test yet; what it returns is called with the title. */
const MAKERS = ['each', 'for', 'skipIf', 'runIf'];
const STARTS_WITH_ID = /^(KX|XE|KF|S|V|X)-[A-Z0-9]/;

/** The names in the text `source` of `file`, in its order. Throws when the text is not TypeScript. */
export function testNames(file: string, source: string): TestName[] {
  const { program, errors } = parseSync(file, source);
  if (errors[0]) throw new Error(`${file}: ${errors[0].message}`);
  return new Scan(file, source).run(program as unknown as Node);
}

class Scan {
  readonly #file: string;
  readonly #source: string;
  readonly #candidates: Candidate[] = [];
  /** properties that titles show */
  readonly #keys = new Set(['name']);
  #showsRows = false;

  constructor(file: string, source: string) {
    this.#file = file;
    this.#source = source;
  }

  run(program: Node): TestName[] {
    this.#visit(program, false, { live: 0, dead: 0 });
    return this.#candidates
      .filter(({ kind, key }) => kind === 'title' || (kind === 'row' ? this.#showsRows : this.#keys.has(key)))
      .sort((a, b) => a.node.start - b.node.start)
      .map(({ node, text }) => ({ file: this.#file, line: this.#lineOf(node), text }));
  }

  #visit(node: Node, dead: boolean, suite: Suite): void {
    const runner = node.type === 'CallExpression' ? runnerOf(node) : null;
    const title = runner && argument(node, 0);
    if (title) {
      this.#declare(node, title, runner, dead || runner.some((word) => DEAD.includes(word)), suite);
      return;
    }
    if (node.type === 'Property') this.#property(node);
    if (node.type === 'ArrayExpression') this.#row(node);
    this.#visitChildren(node, dead, suite);
  }

  #visitChildren(node: Node, dead: boolean, suite: Suite): void {
    for (const child of children(node)) this.#visit(child, dead, suite);
  }

  #declare(call: Node, title: Node, runner: readonly string[], dead: boolean, suite: Suite): void {
    const inner: Suite = { live: 0, dead: 0 };
    this.#visitChildren(call, dead, inner);
    const isSuite = runner[0] === 'describe';
    const proves = !dead && !(isSuite && inner.dead > 0 && inner.live === 0);
    suite.live += isSuite ? inner.live : Number(proves);
    suite.dead += isSuite ? inner.dead : Number(!proves);
    if (!proves) return;
    const text = this.#text(title);
    this.#candidates.push({ node: title, text, kind: 'title', key: '' });
    for (const [, key] of text.matchAll(/\$(\w+)/g)) if (key) this.#keys.add(key);
    const identifiers = identifiersIn(title);
    for (const identifier of identifiers) this.#keys.add(identifier);
    if (text.includes('%s') || identifiers.length > 0) this.#showsRows = true;
  }

  #property(node: Node): void {
    const { key, value } = node as Node & { readonly key: Node; readonly value: Node };
    if (node['computed'] || !isText(value)) return;
    const name = key.type === 'Identifier' ? String(key['name']) : String(key['value']);
    this.#candidates.push({ node: value, text: this.#text(value), kind: 'property', key: name });
  }

  #row(node: Node): void {
    const elements = (node['elements'] as readonly (Node | null)[]).filter((element) => element !== null);
    const words = elements.filter(isText).map((element) => this.#text(element));
    if (words[0] && STARTS_WITH_ID.test(words[0])) {
      this.#candidates.push({ node, text: words.join(' '), kind: 'row', key: '' });
    }
  }

  #lineOf(node: Node): number {
    return this.#source.slice(0, node.start).split('\n').length;
  }

  /** What a title says: its text where it is written out, the source of an expression where it is not. */
  #text(node: Node): string {
    if (node.type === 'Literal' && typeof node['value'] === 'string') return node['value'];
    if (node.type === 'BinaryExpression') return this.#text(node['left'] as Node) + this.#text(node['right'] as Node);
    if (node.type !== 'TemplateLiteral') return this.#source.slice(node.start, node.end);
    const expressions = node['expressions'] as readonly Node[];
    return (node['quasis'] as readonly { readonly value: { readonly cooked: string } }[])
      .map(({ value }, i) => {
        const expression = expressions[i];
        return expression ? `${value.cooked}\${${this.#text(expression)}}` : value.cooked;
      })
      .join('');
  }
}

/** The words of the called runner, `['test', 'skip']` for `test.skip('…')`; null when it calls none, or only makes one. */
function runnerOf(call: Node): string[] | null {
  const words = wordsOf(call['callee'] as Node);
  if (!words || !RUNNERS.includes(words[0] ?? '')) return null;
  const callee = call['callee'] as Node;
  return callee.type === 'MemberExpression' && MAKERS.includes(words.at(-1) ?? '') ? null : words;
}

/** `a.b(…).c` as its words; null for anything else. */
function wordsOf(node: Node): string[] | null {
  if (node.type === 'Identifier') return [String(node['name'])];
  if (node.type === 'CallExpression') return wordsOf(node['callee'] as Node);
  if (node.type !== 'MemberExpression' || node['computed']) return null;
  const words = wordsOf(node['object'] as Node);
  return words && [...words, String((node['property'] as Node)['name'])];
}

function argument(call: Node, index: number): Node | undefined {
  return (call['arguments'] as readonly Node[])[index];
}

function isText(node: Node): boolean {
  if (node.type === 'BinaryExpression') return isText(node['left'] as Node) || isText(node['right'] as Node);
  return node.type === 'TemplateLiteral' || (node.type === 'Literal' && typeof node['value'] === 'string');
}

/** The names that stand in an expression, those of properties as well. */
function identifiersIn(node: Node): string[] {
  if (node.type === 'Identifier') return [String(node['name'])];
  return children(node).flatMap(identifiersIn);
}

function children(node: Node): Node[] {
  return Object.values(node).flat().filter(isNode);
}

function isNode(value: unknown): value is Node {
  return typeof value === 'object' && value !== null && typeof (value as { type?: unknown }).type === 'string';
}
