// Reader brackets: who may be touching a mapped page right now. [design: readers announce themselves per agent]
//
//   reader: epoch odd (exchange) ─ load gpc words ─ touch pages ─ epoch even (store)
//   writer: unmap gpc words ─ for every agent: while epoch is odd, wait until it changes ─ the old page is nobody's
//
// The exchange is a full barrier: either the reader loads the unmapped word, or the writer sees the odd epoch.

import { EBUSY, EINVAL } from '../src/abi/errno.ts';
import {
  AGENT_READER,
  AGENT_SIZE,
  READER_FIFO,
  READER_OPEN,
  READER_STEP,
  REGION_AGENT_RECORDS,
  REGION_AGENTS,
} from '../src/abi/region.ts';
import { Shared } from './shared';

/** Odd, so it is no epoch to leave with. */
const NESTED: i32 = 1;

export class Bracket {
  /** Opens a bracket unless one is open; the result goes to `leave`. A single agent has nobody to announce to. */
  @inline static enter(agent: usize): i32 {
    return ASC_FEATURE_THREADS ? Bracket.announce(agent) : NESTED;
  }

  /** The same for a call that a single agent interrupts itself: a batch, whose kicks run listeners half-way. */
  @inline static announce(agent: usize): i32 {
    return Bracket.enterAt(agent, Bracket.epoch(agent));
  }
  /** The agent's reader word, which nobody else writes. */
  @inline static epoch(agent: usize): i32 {
    return Shared.load<i32>(agent + AGENT_READER);
  }
  @inline static enterAt(agent: usize, epoch: i32): i32 {
    if (epoch & READER_OPEN) return NESTED;
    // Before every load of a gpc word. On the other side: awaitReaders.
    Shared.exchange<i32>(agent + AGENT_READER, epoch + READER_OPEN);
    return epoch + READER_STEP;
  }
  /** Whether the agent has found the FIFO ABI in force when it sent last. A send of the 2-level ABI has the word in hand anyway. */
  @inline static isFifo(epoch: i32): bool {
    return ASC_FEATURE_THREADS && (epoch & READER_FIFO) != 0;
  }
  /** Notes for the agent's next send that the FIFO ABI is in force. @returns the token for `leave`, with the note in it */
  static noteFifo(agent: usize, token: i32): i32 {
    if (token != NESTED) return token | READER_FIFO;
    Shared.or<i32>(agent + AGENT_READER, READER_FIFO);
    return NESTED;
  }
  /** It may be in force no longer. */
  static forgetFifo(agent: usize): void {
    Shared.and<i32>(agent + AGENT_READER, ~READER_FIFO);
  }

  @inline static leave(agent: usize, token: i32): void {
    // After the last access to a mapped page. On the other side: awaitReaders.
    if (token != NESTED) Shared.store<i32>(agent + AGENT_READER, token);
  }
}

/** Opens a bracket for many calls; with a single agent it only keeps the rules of brackets. @returns 0, or -EBUSY when the agent has one open */
export function enter(agent: usize): i32 {
  const epoch = Bracket.epoch(agent);
  if (epoch & READER_OPEN) return -EBUSY;
  Shared.exchange<i32>(agent + AGENT_READER, epoch + READER_OPEN);
  return 0;
}

/** Closes the bracket. @returns 0, or -EINVAL when none is open */
export function leave(agent: usize): i32 {
  const epoch = Bracket.epoch(agent);
  if (!(epoch & READER_OPEN)) return -EINVAL;
  Shared.store<i32>(agent + AGENT_READER, epoch - READER_OPEN + READER_STEP);
  return 0;
}

/**
 * Waits until every other agent from number `from` on has left its bracket or moved on to a later one.
 * @returns the number of agents when all have; else the agent that is still inside after `spins` looks (resume there)
 */
export function awaitReaders(vm: usize, self: usize, from: i32, spins: i32): i32 {
  const agents = load<i32>(vm + REGION_AGENTS);
  let agent = vm + load<i32>(vm + REGION_AGENT_RECORDS) + from * AGENT_SIZE;
  for (let i = from; i < agents; i++, agent += AGENT_SIZE) {
    if (agent == self) continue;
    // After the gpc words were unmapped. On the other side: Bracket.enter.
    const epoch = Shared.load<i32>(agent + AGENT_READER);
    if (!(epoch & 1)) continue;
    while (Shared.load<i32>(agent + AGENT_READER) == epoch) {
      // With a single agent the reader is further up on this very stack: there is nothing to wait for.
      if (!ASC_FEATURE_THREADS || --spins < 0) return i;
    }
  }
  return agents;
}
