// How values lie in a snapshot: little-endian, one after another. A codec writes a value, reads it back, and knows what it
// may be, so that the bytes and the readable object have one description.

import { checkRange, EvtchnError } from '../../errors.ts';

/** A kind of value. */
export interface Codec<T> {
  write(out: Writer, value: T): void;
  /** Throws EINVAL where the bytes end too early; what the value may be is for `check` to say. */
  read(from: Reader): T;
  /** Throws EINVAL, naming the value and what is allowed, unless `value` is one of these. `what` says where it stands. */
  check(value: unknown, what: string): void;
}

/** Bytes that grow as they are written. */
export class Writer {
  #bytes: Uint8Array<ArrayBuffer>;
  #view: DataView;
  #length = 0;

  /** `room`: bytes that it will hold, if that is known. */
  constructor(room = 1024) {
    this.#bytes = new Uint8Array(room);
    this.#view = new DataView(this.#bytes.buffer);
  }

  get length(): number {
    return this.#length;
  }

  /** Makes room for `length` bytes. @returns where they begin */
  #take(length: number): number {
    const at = this.#length;
    this.#length += length;
    if (this.#length > this.#bytes.length) {
      const more = new Uint8Array(Math.max(this.#length, 2 * this.#bytes.length));
      more.set(this.#bytes);
      this.#bytes = more;
      this.#view = new DataView(more.buffer);
    }
    return at;
  }

  u8(value: number): void {
    const at = this.#take(1);
    this.#view.setUint8(at, value);
  }
  u32(value: number): void {
    const at = this.#take(4);
    this.#view.setUint32(at, value, true);
  }
  i64(value: bigint): void {
    const at = this.#take(8);
    this.#view.setBigInt64(at, value, true);
  }
  bytes(value: Uint8Array): void {
    const at = this.#take(value.length);
    this.#bytes.set(value, at);
  }
  /** Writes a u32 over one that was written before. */
  patch(at: number, value: number): void {
    this.#view.setUint32(at, value, true);
  }
  /** What was written so far: a view. */
  get written(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }
  /** What was written, in a buffer of its own length. */
  result(): Uint8Array<ArrayBuffer> {
    return this.#length === this.#bytes.length ? this.#bytes : this.#bytes.slice(0, this.#length);
  }
}

/** Bytes that are read from front to back. */
export class Reader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #what: string;
  #at = 0;

  /** `what` names the bytes in errors. */
  constructor(bytes: Uint8Array, what: string) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#what = what;
  }

  get left(): number {
    return this.#bytes.length - this.#at;
  }

  #take(length: number): number {
    if (length > this.left) {
      throw new EvtchnError('EINVAL', `${this.#what} ends after ${this.#bytes.length} bytes, in the middle of a value`);
    }
    const at = this.#at;
    this.#at += length;
    return at;
  }

  u8(): number {
    return this.#view.getUint8(this.#take(1));
  }
  u32(): number {
    return this.#view.getUint32(this.#take(4), true);
  }
  i64(): bigint {
    return this.#view.getBigInt64(this.#take(8), true);
  }
  /** The next bytes: a view, no copy. */
  bytes(length: number): Uint8Array {
    const at = this.#take(length);
    return this.#bytes.subarray(at, at + length);
  }

  /** Throws EINVAL unless everything was read. */
  end(): void {
    if (this.left > 0) throw new EvtchnError('EINVAL', `${this.#what} has ${this.left} bytes more than its values`);
  }
}

/** An integer from `min` to `max`, both within 0..2^32-1. */
export function u32(min: number, max: number): Codec<number> {
  return {
    write: (out, value) => out.u32(value),
    read: (from) => from.u32(),
    check: (value, what) => checkRange(what, value as number, min, max),
  };
}

/** An integer from `min` to `max`, both within what a number holds exactly; 8 bytes. */
export function wide(min: number, max: number): Codec<number> {
  return {
    write: (out, value) => out.i64(BigInt(value)),
    read: (from) => Number(from.i64()),
    check: (value, what) => checkRange(what, value as number, min, max),
  };
}

const U64_DIGITS = /^(0|[1-9]\d{0,19})$/;

/** A u64, in the object as decimal digits: JSON has no such number. */
export const u64: Codec<string> = {
  write: (out, value) => out.i64(BigInt.asIntN(64, BigInt(value))),
  read: (from) => BigInt.asUintN(64, from.i64()).toString(),
  check: (value, what) => {
    if (typeof value === 'string' && U64_DIGITS.test(value) && BigInt(value) < 1n << 64n) return;
    throw new EvtchnError(
      'EINVAL',
      `${what} is ${show(value)}, allowed are the decimal digits of an integer from 0 to 2^64-1, as a string`,
    );
  },
};

/** One byte: 0 or 1. */
export const flag: Codec<boolean> = {
  write: (out, value) => out.u8(value ? 1 : 0),
  // What is neither stays what it is, so that `check` refuses it.
  read: (from) => {
    const byte = from.u8();
    return (byte > 1 ? byte : byte === 1) as boolean;
  },
  check: (value, what) => {
    if (typeof value !== 'boolean') {
      throw new EvtchnError('EINVAL', `${what} is ${show(value)}, allowed are true and false`);
    }
  },
};

/** One of some names, as its number. */
export function oneOf<T extends string>(...names: readonly T[]): Codec<T> {
  return {
    write: (out, value) => out.u8(names.indexOf(value)),
    read: (from) => {
      const number = from.u8();
      return names[number] ?? (`number ${number}` as T);
    },
    check: (value, what) => {
      if (names.includes(value as T)) return;
      throw new EvtchnError('EINVAL', `${what} is ${show(value)}, allowed are ${names.join(', ')}`);
    },
  };
}

/** A value, or null. */
export function orNull<T>(codec: Codec<T>): Codec<T | null> {
  return {
    write: (out, value) => {
      flag.write(out, value !== null);
      if (value !== null) codec.write(out, value);
    },
    read: (from) => {
      const there = from.u8();
      if (there > 1)
        throw new EvtchnError('EINVAL', `a snapshot says ${there} for "absent or not", allowed are 0 and 1`);
      return there ? codec.read(from) : null;
    },
    check: (value, what) => {
      if (value !== null) codec.check(value, what);
    },
  };
}

/** At most `max` values of one kind; a u32 count stands before them. */
export function list<T>(codec: Codec<T>, max: number): Codec<readonly T[]> {
  return {
    write: (out, values) => {
      out.u32(values.length);
      for (const value of values) codec.write(out, value);
    },
    read: (from) => {
      const count = from.u32();
      // Every value takes a byte at least: a count that is a lie allocates nothing.
      if (count > from.left) {
        throw new EvtchnError(
          'EINVAL',
          `a snapshot announces a list of ${count}, but ${from.left} bytes are left of it`,
        );
      }
      return Array.from({ length: count }, () => codec.read(from));
    },
    check: (value, what) => {
      if (!Array.isArray(value)) throw new EvtchnError('EINVAL', `${what} is ${show(value)}, allowed are lists`);
      checkRange(`the length of ${what}`, value.length, 0, max);
      // By index, because a list may have holes.
      for (let i = 0; i < value.length; i++) codec.check(value[i], `${what}[${i}]`);
    },
  };
}

/** The fields of an object, in this order and no others. */
export function record<T extends object>(fields: { readonly [K in keyof T]-?: Codec<T[K]> }): Codec<T> {
  const names = Object.keys(fields) as (keyof T & string)[];
  return {
    write: (out, value) => {
      for (const name of names) fields[name].write(out, value[name]);
    },
    read: (from) => Object.fromEntries(names.map((name) => [name, fields[name].read(from)])) as T,
    check: (value, what) => {
      if (typeof value !== 'object' || value === null || Array.isArray(value)) {
        throw new EvtchnError('EINVAL', `${what} is ${show(value)}, allowed are objects with ${names.join(', ')}`);
      }
      const strange = Object.keys(value).find((name) => !Object.hasOwn(fields, name));
      if (strange !== undefined) {
        throw new EvtchnError('EINVAL', `${what} has a field ${strange}, allowed are ${names.join(', ')}`);
      }
      for (const name of names) fields[name].check((value as T)[name], `${what}.${name}`);
    },
  };
}

/** A name that is always the same, and not written: for the field `kind` of what `either` chooses. */
export function just<T extends string>(name: T): Codec<T> {
  return {
    write: () => {},
    read: () => name,
    check: (value, what) => {
      if (value !== name) throw new EvtchnError('EINVAL', `${what} is ${show(value)}, allowed is ${name}`);
    },
  };
}

/** One of several objects, by the name in their field `kind`; its number stands before it. */
export function either<T extends { readonly kind: string }>(
  kinds: {
    readonly [K in T['kind']]: Codec<Extract<T, { readonly kind: K }>>;
  },
): Codec<T> {
  const byName = new Map(Object.entries<Codec<T>>(kinds));
  const kind = oneOf(...byName.keys());
  return {
    write: (out, value) => {
      kind.write(out, value.kind);
      byName.get(value.kind)?.write(out, value);
    },
    read: (from) => {
      const name = kind.read(from);
      const codec = byName.get(name);
      if (codec) return codec.read(from);
      throw new EvtchnError('EINVAL', `a snapshot has a value of kind ${name}, allowed are 0 to ${byName.size - 1}`);
    },
    check: (value, what) => {
      const name = typeof value === 'object' && value !== null ? (value as T).kind : undefined;
      kind.check(name, `${what}.kind`);
      byName.get(name as string)?.check(value, what);
    },
  };
}

/** A value in an error, short. */
export function show(value: unknown): string {
  const text = typeof value === 'string' ? JSON.stringify(value) : String(value);
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}
