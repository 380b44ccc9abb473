// Litmus programs: what two or three threads do to a few words, many times over, and which outcomes may never be seen. The bodies
// are AssemblyScript, because what has to be found out is what the machine does with the instructions that the kernel consists of.
//
// Words of a round: x, y, and what each thread saw; each on a line of its own. Threads walk through the rounds of a batch
// side by side; when one of them loses its core the others walk on alone until the next batch.

/** Bytes of one round, rounds of one batch, and where things lie in the memory. */
export const SLOT = 384;
export const SLOTS = 2048;
export const PROGRESS = 0;
/** a barrier of each program's own: a third thread waits at the next program that has one */
export const BARRIERS = 4096;
export const OUTCOMES = 1024;
export const OUTCOME_WORDS = 16;
/** the word behind the outcomes: rounds to which the threads came side by side */
export const MET = 8;
export const FIRST_SLOT = 8192;
export const MEMORY_PAGES = Math.ceil((FIRST_SLOT + SLOT * SLOTS) / 65536);

/** Looks for the others: in each round, and in the first of a batch, when they may have to wake up. */
export const PATIENCE = 20_000;
export const FIRST_PATIENCE = 2_000_000;

/** Where y is. */
export const Y = 320;
/** Where a thread notes what it saw: an i32 on a line of its own. */
export const SEEN = 128;

/** Bodies in JavaScript: test/workers/litmus.ts has them. */
export type Script = 'set y, look at x' | 'look at 64 bits' | 'take y, look at x';

export interface Program {
  readonly name: string;
  readonly threads: 2 | 3;
  /** body of each thread: `x`, `y` and `out` are addresses, `round` is the number of the round; null: it is the script's part */
  readonly bodies: readonly (string | null)[];
  /** what a thread does in JavaScript, through the accessors of the half in TypeScript */
  readonly script?: Script;
  /** an outcome is what the threads saw, bits of the first from 0 on, of the second from 1 (or 2) on: see `outcome` */
  readonly forbidden: readonly number[];
  /** an outcome that the model allows and that shows that threads meet; null: there is none to be seen on every machine */
  readonly weak: number | null;
  /** that many rounds less than others: it sleeps */
  readonly slow?: number;
}

/** Each thread sees 0 or 1, the third of three 0..3. */
const both = 3;

const see = (value: string): string => `store<i32>(out, (${value}) ? 1 : 0);`;

/** What the kernel stands on: none of the forbidden outcomes may ever be seen. */
const PROGRAMS: readonly Program[] = [
  {
    name: 'store buffering with atomic stores',
    threads: 2,
    bodies: [
      `atomic.store<i32>(x, 1); ${see('atomic.load<i32>(y)')}`,
      `atomic.store<i32>(y, 1); ${see('atomic.load<i32>(x)')}`,
    ],
    forbidden: [0],
    weak: both,
  },
  {
    name: 'store buffering with read-modify-writes: sender against sleeper',
    threads: 2,
    bodies: [
      `atomic.or<i64>(x, 1); ${see('atomic.load<i32>(y)')}`,
      `atomic.or<i32>(y, 1); ${see('atomic.load<i64>(x)')}`,
    ],
    forbidden: [0],
    weak: both,
  },
  {
    name: 'store buffering with an exchange: bracket against invalidation',
    threads: 2,
    bodies: [
      `atomic.xchg<i32>(x, 1); ${see('atomic.load<i32>(y)')}`,
      `atomic.cmpxchg<i32>(y, 0, 1); ${see('atomic.load<i32>(x)')}`,
    ],
    forbidden: [0],
    weak: both,
  },
  {
    name: 'message passing: plain payload, atomic flag',
    threads: 2,
    bodies: [
      `store<i64>(x, 1); atomic.store<i32>(y, 1); ${see('0')}`,
      `const flag = atomic.load<i32>(y); ${see('flag && !load<i64>(x)')}`,
    ],
    forbidden: [2],
    weak: null,
  },
  {
    name: 'message passing through a read-modify-write: payload, pending, handler',
    threads: 2,
    bodies: [
      `store<i32>(x, 1); atomic.or<i64>(y, 4); ${see('0')}`,
      `const taken = atomic.xchg<i64>(y, 0); ${see('taken && !load<i32>(x)')}`,
    ],
    forbidden: [2],
    weak: null,
  },
  {
    name: 'two words published by one flag',
    threads: 2,
    bodies: [
      `store<i64>(x, -1); store<i64>(x + 64, -1); atomic.or<i32>(y, 1); ${see('0')}`,
      `const flag = atomic.load<i32>(y); ${see('flag && (!load<i64>(x + 64) || !load<i64>(x))')}`,
    ],
    forbidden: [2],
    weak: null,
  },
  {
    name: 'load buffering',
    threads: 2,
    bodies: [
      `const seen = atomic.load<i32>(x); atomic.store<i32>(y, 1); ${see('seen')}`,
      `const seen = atomic.load<i32>(y); atomic.store<i32>(x, 1); ${see('seen')}`,
    ],
    forbidden: [both],
    weak: 0,
  },
  {
    name: 'write to read causality, three threads',
    threads: 3,
    bodies: [
      `atomic.store<i32>(x, 1); ${see('0')}`,
      `if (atomic.load<i32>(x)) atomic.or<i32>(y, 1); ${see('0')}`,
      `const second = atomic.load<i32>(y); const first = atomic.load<i32>(x); ${see('second && !first')}`,
    ],
    forbidden: [4],
    weak: null,
  },
  {
    name: 'a byte beside a byte: the upcall byte and the mask byte of a vcpu_info',
    threads: 2,
    bodies: [
      `atomic.store<u8>(x, round as u8); ${see('atomic.load<u8>(x) != (round as u8)')}`,
      `atomic.store<u8>(x + 1, ~round as u8); ${see('atomic.load<u8>(x + 1) != (~round as u8)')}`,
    ],
    forbidden: [1, 2, both],
    weak: null,
  },
  {
    name: 'a byte beside a word',
    threads: 2,
    bodies: [
      `atomic.store<u8>(x + 3, round as u8); ${see('atomic.load<u8>(x + 3) != (round as u8)')}`,
      `atomic.store<u32>(x + 4, ~round); ${see('atomic.load<u32>(x + 4) != (~round as u32)')}`,
    ],
    forbidden: [1, 2, both],
    weak: null,
  },
  {
    name: 'narrow read-modify-writes in one word: none takes a bit of the other’s away',
    threads: 2,
    bodies: [
      `for (let i = 0; i < 8; i++) atomic.or<u8>(x, ((1 as i32) << i) as u8); ${see('atomic.load<u8>(x) != 0xff')}`,
      `for (let i = 0; i < 8; i++) atomic.or<u8>(x + 1, ((1 as i32) << i) as u8); ${see('atomic.load<u8>(x + 1) != 0xff')}`,
    ],
    forbidden: [1, 2, both],
    weak: null,
  },
  {
    name: 'two set bits of one word: both stay, and exactly one comes second',
    threads: 2,
    bodies: [
      `const old = atomic.or<i64>(x, 1); ${see('old != 0')}`,
      `const old = atomic.or<i64>(x, 2); ${see('old != 0')}`,
    ],
    forbidden: [0, both],
    weak: null,
  },
  {
    name: 'a wait that answers not-equal, or woken, then a read of what was written before',
    threads: 2,
    bodies: [
      `store<i64>(x, 1); atomic.store<i32>(y, 1); atomic.notify(y, 1); ${see('0')}`,
      `const slept = sleep(y); ${see('slept != 2 && !load<i64>(x)')}`,
    ],
    forbidden: [2],
    weak: null,
    slow: 20,
  },
  {
    name: 'a version: odd, fields, even, against a reader that looks at it twice',
    threads: 2,
    bodies: [
      `const v = atomic.load<i32>(y); atomic.store<i32>(y, v + 1); atomic.load<i32>(y);
       store<i64>(x, round); store<i64>(x + 64, round); atomic.store<i32>(y, v + 2); ${see('0')}`,
      `let torn = 0; const v = atomic.load<i32>(y);
       if (!(v & 1)) { const a = load<i64>(x); const b = load<i64>(x + 64); if (atomic.add<i32>(y, 0) == v && a != b) torn = 1; }
       ${see('torn')}`,
    ],
    forbidden: [2],
    weak: null,
  },
  {
    name: '64 bits in one atomic access',
    threads: 2,
    bodies: [
      `for (let i = 0; i < 8; i++) atomic.store<i64>(x, i & 1 ? 0 : -1); ${see('0')}`,
      `let torn = 0; for (let i = 0; i < 8; i++) { const v = atomic.load<i64>(x); if (v != 0 && v != -1) torn = 1; } ${see('torn')}`,
    ],
    forbidden: [2],
    weak: null,
  },
];

const SCRIPTED: readonly Program[] = [
  {
    name: 'store buffering between the kernel and the half in TypeScript',
    threads: 2,
    bodies: [`atomic.or<i64>(x, 1); ${see('atomic.load<i32>(y)')}`, null],
    script: 'set y, look at x',
    forbidden: [0],
    weak: both,
  },
  {
    name: 'message passing from the kernel to the half in TypeScript',
    threads: 2,
    bodies: [`atomic.store<i32>(x, 1); atomic.or<i32>(y, 1); ${see('0')}`, null],
    script: 'take y, look at x',
    forbidden: [2],
    weak: null,
  },
  {
    name: '64 bits written by the kernel, read by the half in TypeScript',
    threads: 2,
    bodies: [`for (let i = 0; i < 64; i++) atomic.store<i64>(x, i & 1 ? 0 : -1); ${see('0')}`, null],
    script: 'look at 64 bits',
    forbidden: [2],
    weak: null,
  },
];

/** All of which no forbidden outcome may be seen. */
export const STRICT_PROGRAMS: readonly Program[] = [...PROGRAMS, ...SCRIPTED];

/** What the machine may do with plain accesses: counted to show that such outcomes would be seen. */
export const WEAK_PROGRAMS: readonly Program[] = [
  {
    name: 'store buffering with plain stores',
    threads: 2,
    bodies: [`store<i32>(x, 1); ${see('load<i32>(y)')}`, `store<i32>(y, 1); ${see('load<i32>(x)')}`],
    forbidden: [],
    weak: 0,
  },
  {
    name: 'a plain store of 64 bits across two lines',
    threads: 2,
    bodies: [
      `for (let i = 0; i < 8; i++) store<i64>(x + 60, i & 1 ? 0 : -1); ${see('0')}`,
      `let torn = 0; for (let i = 0; i < 8; i++) { const v = load<i64>(x + 60); if (v != 0 && v != -1) torn = 1; } ${see('torn')}`,
    ],
    forbidden: [],
    weak: 2,
  },
  {
    name: 'two plain words without a version',
    threads: 2,
    bodies: [
      `for (let i = 0; i < 8; i++) { store<i64>(x, i); store<i64>(x + 64, i); } ${see('0')}`,
      `let torn = 0; for (let i = 0; i < 8; i++) { const a = load<i64>(x); if (load<i64>(x + 64) != a) torn = 1; } ${see('torn')}`,
    ],
    forbidden: [],
    weak: 2,
  },
];

/** The module that runs them: `run(program, who, rounds)` on each thread. */
export function source(programs: readonly Program[]): string {
  const bodies = programs.flatMap(({ bodies }, p) =>
    bodies.map((body, who) =>
      body === null
        ? ''
        : `function body${p}_${who}(x: usize, y: usize, out: usize, round: i32): void { ${body} }
function walk${p}_${who}(threads: i32, from: i32): void {
  let met = true;
  let together = 0;
  for (let i = 0; i < ${SLOTS}; i++) {
    if (met) met = meet(${who}, threads, from + i + 1, i ? ${PATIENCE} : ${FIRST_PATIENCE});
    const slot: usize = ${FIRST_SLOT} + (i as usize) * ${SLOT};
    if (${who} == 0 && met) together = together + 1;
    body${p}_${who}(slot, slot + ${Y}, slot + ${SEEN} + ${who} * 64, from + i);
  }
  const at: usize = ${OUTCOMES} + ${4 * OUTCOME_WORDS * p + 4 * MET};
  if (${who} == 0) store<i32>(at, load<i32>(at) + together);
}`,
    ),
  );
  const calls = programs.flatMap(({ bodies, threads }, p) =>
    bodies.map((body, who) =>
      body === null ? '' : `  if (program == ${p} && who == ${who}) walk${p}_${who}(${threads}, from);`,
    ),
  );
  return `${COMMON}
${bodies.join('\n')}
function walk(program: i32, who: i32, from: i32): void {
${calls.join('\n')}
}
export function run(program: i32, who: i32, threads: i32, rounds: i32): void {
  for (let from = 0; from < rounds; from += ${SLOTS}) {
    together(program, threads);
    walk(program, who, from);
    together(program, threads);
    if (who == 0) count(program);
  }
  together(program, threads);
}
`;
}

const COMMON = `
/** Waits a little for the others to come to the same round. @returns whether they did */
export function meet(who: i32, threads: i32, round: i32, patience: i32): bool {
  atomic.store<i32>(${PROGRESS} + who * 64, round);
  for (let other = 0; other < threads; other++) {
    while (atomic.load<i32>(${PROGRESS} + other * 64) < round) if (--patience < 0) return false;
  }
  return true;
}
// Both sleep elsewhere: a baseline compiler may forget what is live across a wait, and an optimiser puts callers around it.
@external('env', 'sleep') declare function sleep(p: usize): i32;
@external('env', 'rest') declare function rest(barrier: usize, generation: i32): void;
/** Returns when all have come. */
export function together(program: i32, threads: i32): void {
  const barrier: usize = ${BARRIERS} + (program as usize) * 128;
  const generation = atomic.load<i32>(barrier);
  if (atomic.add<i32>(barrier + 64, 1) == threads - 1) {
    atomic.store<i32>(barrier + 64, 0);
    for (let i: usize = 0; i < 4; i++) atomic.store<i32>(${PROGRESS} + i * 64, 0);
    atomic.add<i32>(barrier, 1);
    return;
  }
  for (let i = 0; i < 1000; i++) if (atomic.load<i32>(barrier) != generation) return;
  while (atomic.load<i32>(barrier) == generation) rest(barrier, generation);
}
/** Adds the outcomes of a batch up, and clears it. The others have come together, and wait. */
function count(program: i32): void {
  for (let i: usize = 0; i < ${SLOTS}; i++) {
    const slot: usize = ${FIRST_SLOT} + i * ${SLOT};
    let outcome = 0;
    for (let who: usize = 0; who < 3; who++) outcome |= (load<i32>(slot + ${SEEN} + who * 64) ? 1 : 0) << (who as i32);
    const at: usize = ${OUTCOMES} + (program as usize) * ${4 * OUTCOME_WORDS} + ((outcome as usize) << 2);
    store<i32>(at, load<i32>(at) + 1);
    memory.fill(slot, 0, ${SLOT});
  }
}
`;
