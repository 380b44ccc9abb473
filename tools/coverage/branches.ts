// The branches of a source of assembly/, and the same source with a counter in each.
//
// A branch is an operand that decides: the condition of an if, of a loop, of a ?:, and each operand of && and || wherever
// they stand. Each has two sides, and in a generic over the guest word two layouts. What the compiler folds (which build,
// which layout) is no branch. The counters lie with the embedder: memory and the order of accesses stay as they are.

import {
  BinaryExpression,
  ClassDeclaration,
  DoStatement,
  type Expression,
  ForStatement,
  FunctionDeclaration,
  IfStatement,
  type Node,
  ParenthesizedExpression,
  type Source,
  SwitchStatement,
  TernaryExpression,
  UnaryPrefixExpression,
  WhileStatement,
} from 'assemblyscript';
import { children, lineOf, operatorOf, syntaxOf, textOf } from './syntax.ts';

export interface Branch {
  readonly file: string;
  readonly line: number;
  /** `name`, or `Class.name` of a static method */
  readonly function: string;
  /** the condition as it stands there, on one line */
  readonly condition: string;
  /** whether its function is compiled for both guest words */
  readonly layouts: boolean;
}

export interface Instrumented {
  readonly branches: readonly Branch[];
  /** The source with a call of `coverage.branch` around each; the first branch has the number `first`. */
  readonly text: string;
}

/** Conditions that the compiler knows the answer to. */
const FOLDED = /^(TRACE|ASC_FEATURE_THREADS|Layout\.isLong<\w+>\(\)|sizeof<\w+>\(\) == \d)$/;

// It returns what it was given: where && and || stand for a value, that is the operand and not whether it is set.
const COUNTER = `
// @ts-ignore: decorator
@external("coverage", "branch")
declare function coverageCount(branch: i32, wordBytes: i32, outcome: bool): void;
function coverageBranch<T>(branch: i32, wordBytes: i32, operand: T): T {
  coverageCount(branch, wordBytes, !!operand);
  return operand;
}
`;

/** Finds the branches of a file and puts counters in. `first` is the number of its first branch. */
export function instrument(file: string, text: string, first: number): Instrumented {
  const found = conditionsOf(syntaxOf(file, text), text);
  const branches = found.map(({ node, layouts, ...at }) => ({
    file,
    line: lineOf(text, node.range.start),
    function: at.function,
    condition: textOf(node, text).replaceAll(/\s+/g, ' '),
    layouts,
  }));
  const inserts = found.flatMap(({ node, layouts }, i) => {
    const { start, end } = node.range;
    const word = layouts ? 'sizeof<W>()' : '0';
    return [
      // Of two that begin at one place the longer one is the outer one; of two that end there the shorter one ends first.
      { at: start, rank: -end, put: `coverageBranch(${first + i}, ${word}, (` },
      { at: end, rank: -start - text.length, put: '))' },
    ];
  });
  inserts.sort((a, b) => a.at - b.at || a.rank - b.rank);
  let out = '';
  let done = 0;
  for (const { at, put } of inserts) {
    out += text.slice(done, at) + put;
    done = at;
  }
  return { branches, text: out + text.slice(done) + (found.length ? COUNTER : '') };
}

/** The operands that decide something, in a tree. */
export function conditionsOf(source: Source, text: string): Condition[] {
  const found: Condition[] = [];
  collect(source, { name: '', layouts: false }, found, text);
  return found;
}

interface Scope {
  readonly name: string;
  readonly layouts: boolean;
}

export interface Condition {
  readonly node: Expression;
  readonly function: string;
  readonly layouts: boolean;
}

function collect(node: Node, scope: Scope, found: Condition[], text: string): void {
  if (node instanceof SwitchStatement) throw new Error('a switch: the counters do not know its arms yet');
  const inner = scopeOf(node, scope);
  const taken = new Set<Node>();
  const decide = (condition: Expression): void => operands(condition, inner, found, taken, text);
  if (node instanceof IfStatement || node instanceof WhileStatement || node instanceof DoStatement) {
    decide(node.condition);
  } else if (node instanceof ForStatement) {
    if (node.condition) decide(node.condition);
  } else if (node instanceof TernaryExpression) {
    decide(node.condition);
  } else if (isLogical(node, text)) {
    decide(node);
  }
  for (const child of children(node)) {
    collectBelow(child, taken, inner, found, text);
  }
}

/** Goes on below what `operands` has taken apart already. */
function collectBelow(node: Node, taken: ReadonlySet<Node>, scope: Scope, found: Condition[], text: string): void {
  if (!taken.has(node)) collect(node, scope, found, text);
  else for (const child of children(node)) collectBelow(child, taken, scope, found, text);
}

/** Takes a condition apart into the operands that decide it. */
function operands(node: Expression, scope: Scope, found: Condition[], taken: Set<Node>, text: string): void {
  const below = (inner: Expression): void => operands(inner, scope, found, taken, text);
  if (node instanceof ParenthesizedExpression) {
    taken.add(node);
    below(node.expression);
  } else if (node instanceof UnaryPrefixExpression && text[node.range.start] === '!') {
    taken.add(node);
    below(node.operand);
  } else if (isLogical(node, text)) {
    taken.add(node);
    below(node.left);
    below(node.right);
  } else if (node instanceof TernaryExpression) {
    taken.add(node);
    below(node.condition);
    below(node.ifThen);
    below(node.ifElse);
  } else if (!FOLDED.test(textOf(node, text))) {
    found.push({ node, function: scope.name, layouts: scope.layouts });
  }
}

function isLogical(node: Node, text: string): node is BinaryExpression {
  return node instanceof BinaryExpression && /^(&&|\|\|)$/.test(operatorOf(node.left, node.right, text));
}

function scopeOf(node: Node, outer: Scope): Scope {
  if (node instanceof ClassDeclaration) return { name: `${node.name.text}.`, layouts: false };
  // A method is a function declaration of the parser's; one that is nested in another does not occur.
  if (!(node instanceof FunctionDeclaration)) return outer;
  const name = outer.name.endsWith('.') ? outer.name + node.name.text : node.name.text;
  return { name, layouts: node.typeParameters?.some((one) => one.name.text === 'W') ?? false };
}
