// XenStore's protocol over the ring that a domain shares with it. [XE-XS-01..09]

import type { HostChannel } from '../../src/xen/index.ts';
import { type GuestRam, PAGE } from './guest_ram.ts';
import { ByteRing } from './ring.ts';
import { type Store, StoreError } from './store.ts';

const REQUESTS = { data: 0, bytes: 1024, consumer: 0x800, producer: 0x804 };
const RESPONSES = { data: 0x400, bytes: 1024, consumer: 0x808, producer: 0x80c };
const HEADER = 16;
const MAX_PAYLOAD = 4096;

const DIRECTORY = 1;
const READ = 2;
const GET_PERMS = 3;
const WATCH = 4;
const UNWATCH = 5;
const TRANSACTION_START = 6;
const TRANSACTION_END = 7;
const GET_DOMAIN_PATH = 10;
const WRITE = 11;
const MKDIR = 12;
const RM = 13;
const SET_PERMS = 14;
const WATCH_EVENT = 15;
const ERROR = 16;
const IS_DOMAIN_INTRODUCED = 17;
const RESET_WATCHES = 21;

const OK = 'OK\0';

interface Request {
  readonly type: number;
  readonly id: number;
  readonly transaction: number;
  /** what lies between the NULs */
  readonly words: readonly string[];
  readonly payload: string;
}

interface GuestWatch {
  readonly path: string;
  readonly token: string;
  readonly end: () => void;
}

/** One domain's connection. */
export class StoreRing {
  /** requests so far */
  requests = 0;
  readonly #store: Store;
  readonly #domid: number;
  readonly #requests: ByteRing;
  readonly #responses: ByteRing;
  #channel: HostChannel | null = null;
  #input = Buffer.alloc(0);
  #output = Buffer.alloc(0);
  #watches: GuestWatch[] = [];

  /** `page` is the guest-physical address of the ring's page, which is zeroed unless it is in use. */
  constructor(store: Store, ram: GuestRam, page: number, domid: number, inUse: boolean) {
    this.#store = store;
    this.#domid = domid;
    if (!inUse) ram.zero(page, PAGE);
    this.#requests = new ByteRing(ram, page, REQUESTS);
    this.#responses = new ByteRing(ram, page, RESPONSES);
  }

  set channel(channel: HostChannel) {
    this.#channel = channel;
  }

  /** The guest has sent: there are requests, or room for responses. */
  serve(): void {
    const taken = this.#requests.take();
    this.#input = Buffer.concat([this.#input, taken]);
    for (;;) {
      const request = this.#nextRequest();
      if (request === null) break;
      this.requests++;
      this.#answer(request);
    }
    this.#flush(taken.length > 0);
  }

  /** The guest's watches, for a snapshot. */
  get watches(): [path: string, token: string][] {
    return this.#watches.map(({ path, token }) => [path, token]);
  }

  /** Sets a watch that a guest had. */
  restoreWatch(path: string, token: string): void {
    this.#watch(path, token);
  }

  #nextRequest(): Request | null {
    const input = this.#input;
    if (input.length < HEADER) return null;
    const length = input.readUInt32LE(12);
    // What nobody can be meant to send: the connection begins anew behind it.
    if (length > MAX_PAYLOAD) {
      this.#input = Buffer.alloc(0);
      return null;
    }
    if (input.length < HEADER + length) return null;
    const payload = input.toString('latin1', HEADER, HEADER + length);
    this.#input = input.subarray(HEADER + length);
    const [type, id, transaction] = [0, 4, 8].map((at) => input.readUInt32LE(at)) as [number, number, number];
    return { type, id, transaction, payload, words: payload.split('\0') };
  }

  #answer(request: Request): void {
    const { type, id, transaction } = request;
    try {
      this.#send(type, id, transaction, this.#perform(request));
      // Behind the answer, for it fires at once.
      if (type === WATCH) this.#watch(request.words[0] ?? '', request.words[1] ?? '');
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      this.#send(ERROR, id, transaction, `${error.code}\0`);
    }
  }

  /** @returns what to answer. Throws StoreError. */
  #perform({ type, transaction, words, payload }: Request): string {
    const [first = '', second = ''] = words;
    const store = this.#store;
    switch (type) {
      case DIRECTORY:
        return store
          .list(this.#absolute(first), transaction)
          .map((name) => `${name}\0`)
          .join('');
      case READ:
        return store.read(this.#absolute(first), transaction);
      case GET_PERMS:
        store.read(this.#absolute(first), transaction);
        return `n${this.#domid}\0`;
      case WATCH:
        return this.#checkWatch(first, second);
      case UNWATCH:
        return this.#unwatch(first, second);
      case TRANSACTION_START:
        return `${store.begin()}\0`;
      case TRANSACTION_END:
        store.end(transaction, first === 'T');
        return OK;
      case GET_DOMAIN_PATH:
        return `/local/domain/${Number(first)}\0`;
      case WRITE:
        store.write(this.#absolute(first), payload.slice(first.length + 1), transaction);
        return OK;
      case MKDIR:
        store.makeFolder(this.#absolute(first), transaction);
        return OK;
      case RM:
        store.remove(this.#absolute(first), transaction);
        return OK;
      case SET_PERMS:
        store.read(this.#absolute(first), transaction);
        return OK;
      case IS_DOMAIN_INTRODUCED:
        return store.has(`/local/domain/${Number(first)}`) ? 'T\0' : 'F\0';
      case RESET_WATCHES:
        for (const { end } of this.#watches) end();
        this.#watches = [];
        return OK;
      default:
        throw new StoreError('ENOSYS');
    }
  }

  #checkWatch(path: string, token: string): string {
    if (this.#watches.some((watch) => watch.path === path && watch.token === token)) throw new StoreError('EEXIST');
    if (!path.startsWith('@')) this.#store.has(this.#absolute(path));
    return OK;
  }

  #watch(path: string, token: string): void {
    const absolute = path.startsWith('@') ? path : this.#absolute(path);
    const relative = absolute !== path;
    const end = this.#store.watch(absolute, token, (changed) => {
      const shown = relative ? changed.slice(this.#home.length + 1) : changed;
      this.#send(WATCH_EVENT, 0, 0, `${shown}\0${token}\0`);
      this.#flush(false);
    });
    this.#watches.push({ path, token, end });
  }

  #unwatch(path: string, token: string): string {
    const found = this.#watches.find((watch) => watch.path === path && watch.token === token);
    if (!found) throw new StoreError('ENOENT');
    found.end();
    this.#watches = this.#watches.filter((watch) => watch !== found);
    return OK;
  }

  get #home(): string {
    return `/local/domain/${this.#domid}`;
  }

  /** [XE-XS-06] */
  #absolute(path: string): string {
    return path.startsWith('/') ? path : `${this.#home}/${path}`;
  }

  #send(type: number, id: number, transaction: number, text: string): void {
    const payload = Buffer.from(text, 'latin1');
    const header = Buffer.alloc(HEADER);
    for (const [i, field] of [type, id, transaction, payload.length].entries()) header.writeUInt32LE(field, 4 * i);
    this.#output = Buffer.concat([this.#output, header, payload]);
  }

  /** What has no room waits until the guest has consumed and sends again. */
  #flush(consumed: boolean): void {
    const put = this.#responses.put(this.#output);
    this.#output = this.#output.subarray(put);
    if (put > 0 || consumed) this.#channel?.notify();
  }
}
