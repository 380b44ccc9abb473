// Reads requirement ids out of the name of a test.

/** KX-EVT-13, XE-2L-20, KF-24, S-01, V-02, X-12. Whatever follows the first digit belongs to it, so that a slip is seen. */
const ID = /(?<![\w-])(KX-[A-Z]+|XE-[A-Z0-9]+|KF|[SVX])-(\d\w*)/g;

/** What may follow an id: "..21", "..KX-EVT-21" or ", 66". A number after a comma that goes on, or has not two digits, is none. */
const MORE = /(?:(\.\.)(?:(KX-[A-Z]+|XE-[A-Z0-9]+|KF|[SVX])-)?|, )(\d\d)(?=$|[\s,;:)\]]|\.(?!\d))/y;

export interface IdsOfName {
  /** ids that `known` has, once each, in the order of the name */
  readonly ids: readonly string[];
  /** what looks like an id, or like a range of them, and is none */
  readonly unknown: readonly string[];
}

/** The ids in `name`. Of a range both ends have to be known; numbers between them that nobody defined are left out. */
export function idsIn(name: string, known: ReadonlySet<string>): IdsOfName {
  const ids = new Set<string>();
  const unknown = new Set<string>();
  const add = (id: string): void => {
    (known.has(id) ? ids : unknown).add(id);
  };
  for (const match of name.matchAll(ID)) {
    const family = match[1] ?? '';
    let last = match[2] ?? '';
    add(`${family}-${last}`);
    MORE.lastIndex = match.index + match[0].length;
    for (let more = MORE.exec(name); more; more = MORE.exec(name)) {
      const [, range, otherFamily = family, number = ''] = more;
      if (range) {
        if (otherFamily !== family || Number(number) <= Number(last)) unknown.add(`${family}-${last}${more[0]}`);
        for (let n = Number(last) + 1; n < Number(number); n++) {
          const id = `${family}-${String(n).padStart(2, '0')}`;
          if (known.has(id)) ids.add(id);
        }
      }
      add(`${family}-${number}`);
      last = number;
    }
  }
  return { ids: [...ids], unknown: [...unknown] };
}
