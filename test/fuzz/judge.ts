// Makes a call and looks whether what came of it is allowed: its answer by the table of outcomes, and every byte of the memory by
// what is registered. [R4, R5, R7, R9]

import { AGENT_READER, REGION_INVALIDATE_ACTIVE, REGION_LIVE, REGION_STATE } from '../../src/abi/region.ts';
import { EvtchnError, errnoName } from '../../src/index.ts';
import type { Region } from '../../src/memory/region.ts';
import type { Operation } from './operation.ts';
import { OPERATIONS } from './operations.ts';
import { RULES, WAITING_STEPS } from './outcomes.ts';
import { Scratch } from './scratch.ts';
import { type Call, resolve } from './value.ts';
import { markOwn, markReachable, regionIn, strayMapping } from './windows.ts';
import { EndlessError, HookError, type World } from './world.ts';

const PAGE = 4096;
/** Calls inside calls inside calls, and no deeper. */
const DEEPEST = 3;

/** Something that may not be. */
export class Finding extends Error {
  /** what kind it is, which stays while a sequence is made shorter */
  readonly kind: string;

  constructor(kind: string, message: string) {
    super(`${kind}: ${message}`);
    this.kind = kind;
  }
}

/** A result as the table names it. */
export function classOf(result: unknown): string {
  switch (typeof result) {
    case 'undefined':
      return 'ok';
    case 'bigint':
      return result < 0n ? (errnoName(Number(result)) ?? 'negative') : 'big';
    case 'number':
      if (result < 0) return errnoName(result) ?? `negative ${result}`;
      return result > 1 ? 'n' : Number.isNaN(result) ? 'NaN' : String(result);
    case 'object':
      if (result === null) return 'null';
      if (result instanceof Promise) return 'promise';
      return typeof (result as { kind?: unknown }).kind === 'string' ? (result as { kind: string }).kind : 'object';
    default:
      return String(result);
  }
}

/** The code of an error. Throws a finding when it is none of the library's. */
function codeOf(name: string, error: unknown): string {
  if (error instanceof EvtchnError) return error.code;
  if (error instanceof Finding) throw error;
  if (error instanceof EndlessError) throw new Finding('endless', `${name}: ${error.message}`);
  const what = error instanceof Error ? `${error.constructor.name}: ${error.message}\n${error.stack}` : String(error);
  throw new Finding('exception', `${name} threw ${what}`);
}

/** What an error says, without its values: one for each place that throws. */
function sentenceOf(name: string, { message }: Error): string {
  const words = message.replace(/-?(0x[0-9a-f]+|\d[\d.e+]*)/g, '#').slice(0, 48);
  return `${SENTENCE}${name} ${words}`;
}

/** What a feature that is a sentence begins with. */
export const SENTENCE = '~';

/** An asynchronous wait has to come to what a wait may. Whoever looks at it later is told. */
function settles(name: string, wait: Promise<unknown>): Promise<void> {
  const settled = wait.then(
    (value) => {
      if (!RULES['wait']?.answers.has(String(value))) throw new Finding('outcome', `${name} came to ${String(value)}`);
    },
    (error: unknown) => {
      const code = codeOf(name, error);
      if (!RULES['wait']?.throws.has(code)) throw new Finding('outcome', `${name} was rejected with ${code}`);
    },
  );
  settled.catch(() => {});
  return settled;
}

/** Judges the calls of one world. */
export class Judge {
  readonly #world: World;
  readonly #before: Uint8Array<ArrayBuffer>;
  readonly #scratch: Scratch;
  /** outcomes of the present call and those inside it */
  readonly features: string[] = [];
  /** all calls, those inside others as well */
  calls = 0;
  /** the most steps of a call by operation, in the traced build */
  readonly mostSteps = new Map<string, number>();
  #depth = 0;
  /** the present call has made others */
  #nested = false;
  /** an invalidation or a bracket was open when the present call began */
  #waits = false;

  constructor(world: World) {
    this.#world = world;
    this.#before = world.ground.before;
    this.#scratch = new Scratch(world.vm);
    world.inside = (calls) => this.#inside(calls);
  }

  /** Makes a call. Throws a `Finding` for what may not be. @returns its outcome */
  judge(call: Call): string {
    const world = this.#world;
    this.features.length = 0;
    this.#nested = false;
    this.#before.set(world.all);
    world.own.fill(0);
    world.steps = 0;
    world.guestWrote = false;
    world.disturbed = false;
    this.#waits = this.#somethingToWaitFor();
    const attached = world.other !== null;
    const { outcome, failed } = this.#make(call);
    const name = call[0];
    this.#checkSteps(name);
    this.#checkGuards();
    const operation = OPERATIONS[name] as Operation;
    this.#checkRam(operation);
    if (failed !== null && attached === (world.other !== null)) this.#checkUnchanged(name, failed);
    this.#checkMappings();
    return outcome;
  }

  /** Calls from a handler or a hook: judged by their answers; where the engine may write meanwhile is noted. */
  #inside(calls: readonly Call[]): void {
    if (this.#depth >= DEEPEST) return;
    this.#nested = true;
    for (const call of calls) {
      if (!Array.isArray(call)) throw new Finding('grammar', `${String(call)} is no call`);
      this.#noteOwn();
      const writes = OPERATIONS[call[0]]?.writes;
      if (writes === 'all') this.#world.own.fill(1);
      if (writes === 'reachable') markReachable(this.#region(), this.#world.own);
      this.#make(call);
      this.#noteOwn();
    }
  }

  /** @returns its outcome, and the code if it failed */
  #make(call: Call): { outcome: string; failed: string | null } {
    const [name, ...args] = call;
    const operation = OPERATIONS[name];
    const rule = RULES[name];
    if (!operation || !rule) throw new Finding('grammar', `there is no operation ${name}`);
    const world = this.#world;
    this.calls++;
    this.#depth++;
    let outcome: string;
    let thrown = false;
    try {
      const result = operation.run(
        world,
        args.map((arg) => resolve(arg, world.ground.guestBase)),
      );
      if (result instanceof Promise) world.promises.push(settles(name, result));
      outcome = classOf(result);
    } catch (error) {
      if (error instanceof HookError) outcome = 'hook';
      else {
        outcome = codeOf(name, error);
        this.features.push(sentenceOf(name, error as Error));
      }
      thrown = true;
    } finally {
      this.#depth--;
    }
    const tag = operation.tag?.(args);
    this.features.push(`${name}${tag === undefined ? '' : ` ${tag}`} ${outcome}${thrown ? '!' : ''}`);
    if (outcome !== 'hook' && !this.#allowed(name, args[0], outcome, thrown)) {
      throw new Finding('outcome', `${name} ${thrown ? 'threw' : 'answered'} ${outcome}`);
    }
    const failed = thrown || (outcome.startsWith('E') && outcome.length > 3 && outcome !== 'ENOTCONN');
    return { outcome, failed: failed ? outcome : null };
  }

  #allowed(name: string, view: unknown, outcome: string, thrown: boolean): boolean {
    const rule = RULES[name];
    if (!rule) return false;
    const { vm, other } = this.#world;
    // A view that is detached says so, or answers as one that finds nothing.
    if (outcome === 'EBADF' && [vm, other].some((v) => v?.detached)) return true;
    if (outcome === 'EPERM' && view !== 0 && other !== null) return true;
    return (thrown ? rule.throws : rule.answers).has(outcome);
  }

  // ── what may have changed ──────────────────────────────────────────────────────────────────────────────────────────

  #somethingToWaitFor(): boolean {
    const { words, base, agents } = this.#region();
    if (words.load(base + REGION_INVALIDATE_ACTIVE) !== 0) return true;
    for (let i = 0; i < agents; i++) if (words.load(this.#region().agentRecord(i) + AGENT_READER) & 1) return true;
    return false;
  }

  #checkSteps(name: string): void {
    const { steps } = this.#world;
    if (steps > (this.mostSteps.get(name) ?? 0)) this.mostSteps.set(name, steps);
    const waited = this.#waits || this.#nested || this.#somethingToWaitFor();
    const most = waited ? WAITING_STEPS : (RULES[name]?.steps ?? 0);
    if (steps > most) throw new Finding('steps', `${name} took ${steps} steps, allowed are ${most} [R5]`);
  }

  #checkGuards(): void {
    const at = this.#world.guards.touched();
    if (at !== null) throw new Finding('guard', `byte ${at}, which is nobody's, was changed [R9]`);
  }

  #checkRam(operation: Operation): void {
    const { ram, own, ground } = this.#world;
    const before = this.#before.subarray(ground.guestBase, ground.guestBase + ram.length);
    if (operation.writes === 'all' || Buffer.compare(before, ram) === 0) return;
    this.#noteOwn();
    const then = this.#then();
    markOwn(then, own);
    if (operation.writes === 'reachable') {
      markReachable(then, own);
      markReachable(this.#region(), own);
    }
    for (let page = 0; page < ram.length; page += PAGE) {
      if (Buffer.compare(before.subarray(page, page + PAGE), ram.subarray(page, page + PAGE)) === 0) continue;
      for (let at = page; at < page + PAGE; at++) {
        if (before[at] === ram[at] || own[at]) continue;
        throw new Finding(
          'write',
          `guest byte 0x${at.toString(16)} changed from ${before[at]} to ${ram[at]}, where nothing is registered`,
        );
      }
    }
  }

  /** A call that fails leaves everything as it was, but for what the documentation says. [R4] */
  #checkUnchanged(name: string, code: string): void {
    const changes = RULES[name]?.changes;
    const { disturbed, guestWrote, own, ram, ground } = this.#world;
    if (disturbed || this.#nested || code === 'hook' || changes?.has('all') || changes?.has(code)) return;
    // A vCPU that was asked to leave the guest for such a cache stays asked.
    if (code === 'EBUSY' && this.#world.caches.length > 0) return;
    if (guestWrote) {
      // What the guest has put there for the call was there before it.
      for (let at = 0; at < own.length; at++) if (own[at]) this.#before[ground.guestBase + at] = ram[at] as number;
    }
    const at = this.#scratch.difference(this.#before, this.#world.all);
    if (at !== null)
      throw new Finding('state', `${name} failed with ${code} and changed ${this.#scratch.nameOf(at)} [R4]`);
  }

  /** Every cache that maps something maps what the tables say: nothing uses a page that was given away. [R3] */
  #checkMappings(): void {
    const stray = strayMapping(this.#region());
    if (stray !== null) throw new Finding('mapping', stray);
  }

  #noteOwn(): void {
    markOwn(this.#region(), this.#world.own);
  }

  #region(): Region {
    return this.#scratch.region;
  }

  /** The region as it was before the call. */
  #then(): Region {
    const { vmBase } = this.#world.vm;
    const view = new DataView(this.#before.buffer);
    const state = view.getInt32(vmBase + REGION_STATE, true);
    view.setInt32(vmBase + REGION_STATE, REGION_LIVE, true);
    const region = regionIn(this.#before, vmBase);
    view.setInt32(vmBase + REGION_STATE, state, true);
    return region;
  }
}
