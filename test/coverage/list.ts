// What a list of requirements is: ids by group, each with a line that says what it asks for.

/** A list of the ids that one document defines. */
export interface SpecList {
  /** the document without its path and ending */
  readonly document: string;
  /** title of a group: id: summary in at most 100 characters */
  readonly groups: Readonly<Record<string, Readonly<Record<string, string>>>>;
}

/** One id of a list. */
export interface Requirement {
  readonly id: string;
  readonly summary: string;
  readonly document: string;
  readonly group: string;
}

/** The ids of `lists` in their order. */
export function requirementsOf(lists: readonly SpecList[]): Requirement[] {
  return lists.flatMap(({ document, groups }) =>
    Object.entries(groups).flatMap(([group, rows]) =>
      Object.entries(rows).map(([id, summary]) => ({ id, summary, document, group })),
    ),
  );
}
