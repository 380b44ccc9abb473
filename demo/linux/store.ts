// XenStore: a tree of strings with transactions and watches. [XE-XS-04..08]
//
// Nodes never change: a write makes new ones from the root down. So a transaction is a root of its own, and beginning one is free.

/** Errors travel as errno names. [XE-XS-05] */
export class StoreError extends Error {
  readonly code: string;

  constructor(code: string) {
    super(code);
    this.code = code;
  }
}

/** Called with the path that changed and what the watcher gave. */
export type WatchListener = (path: string, token: string) => void;

interface Node {
  readonly value: string;
  readonly children: ReadonlyMap<string, Node>;
}

interface Watch {
  readonly path: string;
  readonly token: string;
  readonly listener: WatchListener;
}

interface Transaction {
  root: Node;
  readonly begunAt: number;
  /** paths that were written, and those of them that are gone */
  readonly changed: string[];
  readonly removed: string[];
}

const EMPTY: Node = { value: '', children: new Map() };
const MAX_PATH = 3072;
const PATH = /^\/(?:[A-Za-z0-9\-_@+:.]+(?:\/[A-Za-z0-9\-_@+:.]+)*)?$/;

/** The tree. Paths are absolute. Transaction 0 is none. */
export class Store {
  #root: Node = EMPTY;
  #generation = 0;
  #watches: readonly Watch[] = [];
  readonly #transactions = new Map<number, Transaction>();
  #lastTransaction = 0;

  /** Throws ENOENT when there is no such node. */
  read(path: string, transaction = 0): string {
    return this.#node(path, transaction).value;
  }

  /** Names of the children. Throws ENOENT. */
  list(path: string, transaction = 0): string[] {
    return [...this.#node(path, transaction).children.keys()];
  }

  has(path: string): boolean {
    return find(this.#root, parts(path)) !== null;
  }

  /** Makes the node, and those above it. */
  write(path: string, value: string, transaction = 0): void {
    this.#change(path, transaction, (root, names) => put(root, names, value));
  }

  /** As `write`, keeping a value that is there. */
  makeFolder(path: string, transaction = 0): void {
    if (find(this.#rootOf(transaction), parts(path)) === null) this.write(path, '', transaction);
  }

  /** Removes a node and what is below it. Throws EINVAL for the root, ENOENT unless its parent is there. */
  remove(path: string, transaction = 0): void {
    const names = parts(path);
    if (names.length === 0) throw new StoreError('EINVAL');
    if (find(this.#rootOf(transaction), names.slice(0, -1)) === null) throw new StoreError('ENOENT');
    if (find(this.#rootOf(transaction), names) === null) return;
    this.#change(path, transaction, remove, true);
  }

  // ── transactions ─────────────────────────────────────────────────────────────────────────────────────────────────

  /** @returns its number */
  begin(): number {
    this.#lastTransaction++;
    const transaction = { root: this.#root, begunAt: this.#generation, changed: [], removed: [] };
    this.#transactions.set(this.#lastTransaction, transaction);
    return this.#lastTransaction;
  }

  /** Ends a transaction. Throws EAGAIN when something else was written since it began; its changes are lost then. [XE-XS-08] */
  end(number: number, commit: boolean): void {
    const transaction = this.#transaction(number);
    this.#transactions.delete(number);
    if (!commit || transaction.changed.length === 0) return;
    if (transaction.begunAt !== this.#generation) throw new StoreError('EAGAIN');
    this.#root = transaction.root;
    this.#generation++;
    for (const path of transaction.changed) this.#fire(path, transaction.removed.includes(path));
  }

  // ── watches ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Fires at once, then for every change at or below the path. @returns what ends it. [XE-XS-07] */
  watch(path: string, token: string, listener: WatchListener): () => void {
    const watch: Watch = { path, token, listener };
    this.#watches = [...this.#watches, watch];
    listener(path, token);
    return () => {
      this.#watches = this.#watches.filter((other) => other !== watch);
    };
  }

  /** Fires the watches of a special path, such as @introduceDomain. */
  announce(path: string): void {
    for (const watch of this.#watches) if (watch.path === path) watch.listener(path, watch.token);
  }

  #fire(path: string, removed: boolean): void {
    for (const { path: watched, token, listener } of this.#watches) {
      if (path === watched || path.startsWith(watched === '/' ? '/' : `${watched}/`)) listener(path, token);
      // Gone with a node above it. [XE-XS-07]
      else if (removed && watched.startsWith(`${path}/`)) listener(watched, token);
    }
  }

  // ── the tree ─────────────────────────────────────────────────────────────────────────────────────────────────────

  #change(path: string, number: number, edit: (root: Node, names: readonly string[]) => Node, removed = false): void {
    const names = parts(path);
    if (number === 0) {
      this.#root = edit(this.#root, names);
      this.#generation++;
      this.#fire(path, removed);
      return;
    }
    const transaction = this.#transaction(number);
    transaction.root = edit(transaction.root, names);
    transaction.changed.push(path);
    if (removed) transaction.removed.push(path);
  }

  #node(path: string, transaction: number): Node {
    const node = find(this.#rootOf(transaction), parts(path));
    if (node === null) throw new StoreError('ENOENT');
    return node;
  }

  #rootOf(transaction: number): Node {
    return transaction === 0 ? this.#root : this.#transaction(transaction).root;
  }

  #transaction(number: number): Transaction {
    const transaction = this.#transactions.get(number);
    if (!transaction) throw new StoreError('ENOENT');
    return transaction;
  }

  // ── saving ───────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Every node with its value; open transactions and watches are not saved. */
  entries(): [path: string, value: string][] {
    const found: [string, string][] = [];
    const walk = (node: Node, path: string): void => {
      if (path !== '') found.push([path, node.value]);
      for (const [name, child] of node.children) walk(child, `${path}/${name}`);
    };
    walk(this.#root, '');
    return found;
  }
}

/** Names along an absolute path. Throws EINVAL for what is none. */
function parts(path: string): string[] {
  if (path.length > MAX_PATH || !PATH.test(path)) throw new StoreError('EINVAL');
  return path === '/' ? [] : path.slice(1).split('/');
}

function find(root: Node, names: readonly string[]): Node | null {
  let node: Node | undefined = root;
  for (const name of names) node = node?.children.get(name);
  return node ?? null;
}

function put(node: Node, [name, ...rest]: readonly string[], value: string): Node {
  if (name === undefined) return { ...node, value };
  const children = new Map(node.children);
  children.set(name, put(node.children.get(name) ?? EMPTY, rest, value));
  return { ...node, children };
}

function remove(node: Node, [name, ...rest]: readonly string[]): Node {
  const child = name === undefined ? undefined : node.children.get(name);
  if (name === undefined || child === undefined) return node;
  const children = new Map(node.children);
  if (rest.length === 0) children.delete(name);
  else children.set(name, remove(child, rest));
  return { ...node, children };
}
