// How an attribute is described: one row to validate, set and get it.

/** The member of an attribute union with the name `T`. */
export type AttrOf<A extends { type: string }, T extends A['type']> = Extract<A, { type: T }>;

/** One attribute: `validate` throws and changes nothing, `set` does it, `get` reads it back. @internal */
export interface Row<Owner, A> {
  validate(attr: A, owner: Owner): void;
  set(attr: A, owner: Owner): void;
  get(owner: Owner): A;
}

/** @internal */
export type Table<Owner, A extends { type: string }> = { readonly [T in A['type']]: Row<Owner, AttrOf<A, T>> };
