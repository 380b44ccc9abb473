// What is checked of the models: every run of each, and every fault that is put into it on purpose.

export type ModelName = 'delivery' | 'shadow' | 'gpc' | 'poll' | 'reader' | 'timer' | 'clock';

/** What a search looks for: a broken assertion and an end that is none, or a cycle without progress. */
export type Search = 'states' | 'progress';

/** How a search ends. */
export type Outcome = 'nothing wrong' | 'assertion' | 'invalid end state' | 'cycle without progress';

/** One search through a model. */
export interface Case {
  readonly name: string;
  readonly model: ModelName;
  /** macros of the model, separated by spaces */
  readonly defines: string;
  readonly search?: Search;
}

/** A model with a fault in it, and how it is found. */
export interface Fault extends Case {
  readonly found?: Exclude<Outcome, 'nothing wrong'>;
}

/** Two vCPUs whose ports share a word and of which one moves. */
const MOVING = 'BIND NV=2 SAME_WORD GUEST';

export const RUNS: readonly Case[] = [
  // ── delivery ─────────────────────────────────────────────────────────────────────────────────────────────────────
  { name: 'R1 R2 KX-EVT-65, 66 ports in two words, a vCPU that sleeps', model: 'delivery', defines: 'SENDS=2' },
  {
    name: 'R1 R2 KX-EVT-66 ports in one word, a guest that goes by the upcall byte',
    model: 'delivery',
    defines: 'SENDS=2 SAME_WORD GUEST',
  },
  {
    name: 'R1 KX-EVT-65 two senders of one port: the payload of one that is coalesced is seen',
    model: 'delivery',
    defines: 'SENDS=2 SAME_PORT=0',
  },
  {
    name: 'R1 R2 KF-23 two senders of a port that is unmasked, masked and unmasked',
    model: 'delivery',
    defines: 'MASKED SAME_PORT=0 GUEST',
  },
  { name: 'R1 R2 KF-23 the same for a vCPU that sleeps', model: 'delivery', defines: 'MASKED ONE_SENDER' },
  { name: 'R2 KX-EVT-14 a port that is masked all the time', model: 'delivery', defines: 'CLOSED SAME_WORD' },
  { name: 'R1 R2 KF-19, 22 a port moves between guests', model: 'delivery', defines: MOVING },
  {
    name: 'R1 R2 KF-19, 22 a port moves there and back',
    model: 'delivery',
    defines: `${MOVING} BIND_BACK ONE_SENDER SENDS=2`,
  },
  {
    name: 'R1 R2 KF-22 a port moves between vCPUs that sleep',
    model: 'delivery',
    defines: 'BIND NV=2 SAME_WORD ONE_SENDER',
  },
  {
    name: 'R1 R2 KF-22, 23 a port moves while it is unmasked',
    model: 'delivery',
    defines: `${MOVING} ONE_SENDER UNMASK_ONLY`,
  },
  {
    name: 'R1 R2 KX-EVT-10 unbound ports, two guests that both drain them',
    model: 'delivery',
    defines: 'UNBOUND NV=2 SAME_WORD GUEST SENDS=2',
  },
  { name: 'R1 R2 KX-EVT-10 an unbound port is bound', model: 'delivery', defines: `${MOVING} UNBOUND ONE_SENDER` },
  {
    name: 'R1 R2 KX-EVT-65 a batch of two words owes its selector bits to the end, beside a single sender',
    model: 'delivery',
    defines: 'BATCH GUEST SENDS=2',
  },
  { name: 'R1 R2 KF-16 a batch for a vCPU that sleeps', model: 'delivery', defines: 'BATCH' },
  {
    name: 'R1 R2 KF-23 a batch with a port that is unmasked',
    model: 'delivery',
    defines: 'BATCH GUEST MASKED SAME_WORD ONE_SENDER',
  },
  { name: 'R1 R2 KF-22 a batch with a port that moves', model: 'delivery', defines: `BATCH ${MOVING} ONE_SENDER` },

  // ── shadow ───────────────────────────────────────────────────────────────────────────────────────────────────────
  { name: 'R1 R3 KX-EVT-16 the page of vcpu_info moves under two senders and a sleeper', model: 'shadow', defines: '' },
  { name: 'R1 R3 KF-13 vcpu_info is registered elsewhere under them', model: 'shadow', defines: 'MOVE' },
  { name: 'R1 R3 KX-EVT-55 its page moves under a sender, a flush and a sleeper', model: 'shadow', defines: 'SHADED' },
  { name: 'R1 R3 KX-EVT-55 KF-13 it is registered elsewhere under them', model: 'shadow', defines: 'SHADED MOVE' },

  // ── gpc ──────────────────────────────────────────────────────────────────────────────────────────────────────────
  { name: 'R3 R6 KF-01, 02 an invalidation', model: 'gpc', defines: 'INVALIDATE READS=2' },
  { name: 'R3 R6 KF-01, 02 an invalidation under two refreshes', model: 'gpc', defines: 'INVALIDATE COLD READS=2' },
  { name: 'R3 R6 KF-06 KX-VMA-10 the cache moves', model: 'gpc', defines: 'MOVE READS=2' },
  { name: 'R3 R6 KF-03, 04 it is deactivated', model: 'gpc', defines: 'DEACTIVATE COLD READS=2' },
  { name: 'R3 R6 KF-03..05 one after the other', model: 'gpc', defines: 'INVALIDATE DEACTIVATE MOVE' },
  { name: 'R3 R6 KF-03..05 all that under two refreshes', model: 'gpc', defines: 'INVALIDATE DEACTIVATE MOVE COLD' },

  // ── poll ─────────────────────────────────────────────────────────────────────────────────────────────────────────
  { name: 'R1 KX-EVT-40 KX-HCL-33 a poll for one masked port', model: 'poll', defines: 'SENDS=2' },
  { name: 'R1 KX-EVT-40 KX-HCL-33 a poll for two masked ports', model: 'poll', defines: 'ANY SENDS=2' },
  { name: 'R1 KX-EVT-40 the same, sent by batches', model: 'poll', defines: 'ANY BATCH SENDS=2' },
  { name: 'R1 KX-EVT-61 a poll for two ports, and a kick', model: 'poll', defines: 'ANY KICK' },
  {
    name: 'R1 KF-17 a poll for two ports that are not masked, and a kick',
    model: 'poll',
    defines: 'ANY UNMASKED KICK',
  },
  { name: 'R1 KF-17 KX-EVT-41 a masked port is bound to the vCPU that polls for it', model: 'poll', defines: 'BIND' },
  { name: 'R1 KF-17 so is one that is not masked', model: 'poll', defines: 'BIND UNMASKED ANY' },
  { name: 'R1 R2 KX-EVT-61 after a poll the vCPU waits, and is kicked', model: 'poll', defines: 'WAIT KICK' },

  // ── reader ───────────────────────────────────────────────────────────────────────────────────────────────────────
  { name: 'R3 R6 two changes of the page', model: 'reader', defines: '' },
  { name: 'R3 R6 sends within a bracket', model: 'reader', defines: 'NEST' },
  { name: 'R3 R6 KF-89 an agent dies, is detached, and its place is taken', model: 'reader', defines: 'DIE' },
  {
    name: 'R6 KF-12 every change ends, however fast agents open new brackets',
    model: 'reader',
    defines: 'FOREVER',
    search: 'progress',
  },

  // ── timer and clock ──────────────────────────────────────────────────────────────────────────────────────────────
  { name: 'R6 KF-32, 53 KX-TMR-10 set, and set for another port', model: 'timer', defines: '' },
  { name: 'R6 KF-53 KX-TMR-04 and stopped', model: 'timer', defines: 'STOP' },
  { name: 'R6 KF-89 a timekeeper dies anywhere', model: 'timer', defines: 'DIE' },
  { name: 'R6 KF-89 a timekeeper dies while the timer is stopped', model: 'timer', defines: 'DIE STOP' },
  { name: 'R6 KF-31 KX-CLK-13 two writers and a reader', model: 'clock', defines: '' },
  { name: 'R6 KF-89 a writer dies anywhere', model: 'clock', defines: 'DIE' },
];

export const FAULTS: readonly Fault[] = [
  // ── delivery ─────────────────────────────────────────────────────────────────────────────────────────────────────
  {
    name: 'R1 KF-16 no second look before the sleep',
    model: 'delivery',
    defines: 'NO_SECOND_LOOK ONE_SENDER',
  },
  { name: 'R1 KF-16 the flag after the look', model: 'delivery', defines: 'FLAG_AFTER_LOOK ONE_SENDER' },
  { name: 'R1 a flag that is cleared without a notify', model: 'delivery', defines: 'NO_NOTIFY ONE_SENDER' },
  { name: 'R1 the notify before the flag is cleared', model: 'delivery', defines: 'NOTIFY_FIRST ONE_SENDER' },
  { name: 'R1 KF-87 a sleep on another word', model: 'delivery', defines: 'WAIT_WITHOUT_COMPARE ONE_SENDER' },
  {
    name: 'R1 KF-15 KX-EVT-66 the upcall byte before the selector',
    model: 'delivery',
    defines: 'BYTE_BEFORE_SELECTOR GUEST ONE_SENDER',
  },
  {
    name: 'R1 KX-EVT-66 the upcall byte cleared after the selector is taken',
    model: 'delivery',
    defines: 'SELECTOR_BEFORE_BYTE GUEST',
  },
  { name: 'R1 KX-EVT-67 the selector taken in two steps', model: 'delivery', defines: 'SELECTOR_IN_TWO' },
  { name: 'R1 KX-EVT-67 pending taken in two steps', model: 'delivery', defines: 'PENDING_IN_TWO SAME_WORD' },
  {
    name: 'R1 the drain clears ports that it does not hand out',
    model: 'delivery',
    defines: 'DRAIN_CLEARS_ALL SAME_WORD UNMASK_ONLY',
  },
  {
    name: 'R1 KX-EVT-65 a send without its barrier',
    model: 'delivery',
    defines: 'NO_BARRIER SAME_PORT=0 GUEST',
  },
  {
    name: 'R1 KX-EVT-65 the mask read before pending is set',
    model: 'delivery',
    defines: 'MASK_BEFORE_PENDING UNMASK_ONLY ONE_SENDER GUEST',
  },
  {
    name: 'R1 the selector tested before pending is set',
    model: 'delivery',
    defines: 'SELECTOR_BEFORE_PENDING SAME_WORD GUEST',
  },
  {
    name: 'R1 KF-22 the vCPU looked up before pending is set',
    model: 'delivery',
    defines: `LOOKUP_BEFORE_PENDING ${MOVING} ONE_SENDER`,
  },
  {
    name: 'R1 KF-23 an unmask without a look at pending',
    model: 'delivery',
    defines: 'UNMASK_NO_LOOK UNMASK_ONLY ONE_SENDER GUEST',
  },
  {
    name: 'R1 KF-23 an unmask that looks before it clears the mask',
    model: 'delivery',
    defines: 'UNMASK_LOOK_FIRST UNMASK_ONLY ONE_SENDER GUEST',
  },
  {
    name: 'R1 KF-22 a bind without a look at pending',
    model: 'delivery',
    defines: `BIND_NO_LOOK ${MOVING} ONE_SENDER`,
  },
  {
    name: 'R1 KF-22 a bind that looks before it changes the table',
    model: 'delivery',
    defines: `BIND_LOOK_FIRST ${MOVING} ONE_SENDER`,
  },
  {
    name: 'R1 KX-EVT-65 a batch without its barrier',
    model: 'delivery',
    defines: 'BATCH_NO_BARRIER BATCH GUEST SAME_PORT=0',
  },
  {
    name: 'R1 KX-EVT-66 a batch that sets its selector bits before pending',
    model: 'delivery',
    defines: 'BATCH_SELECTOR_FIRST BATCH GUEST ONE_SENDER',
  },
  {
    name: 'R2 an unmask that raises whether something is pending or not',
    model: 'delivery',
    defines: 'UNMASK_ALWAYS_RAISES UNMASK_ONLY ONE_SENDER GUEST',
  },
  {
    name: 'R2 KX-EVT-14 an event of a masked port that raises an upcall',
    model: 'delivery',
    defines: 'SEND_IGNORES_MASK CLOSED ONE_SENDER GUEST',
  },
  {
    name: 'R2 KF-22 a drain that hands out what another has cleared',
    model: 'delivery',
    defines: `DRAIN_LISTS_WHAT_IT_SAW ${MOVING} ONE_SENDER`,
  },
  {
    name: 'R2 KF-19 a drain that takes the ports of other vCPUs',
    model: 'delivery',
    defines: `DRAIN_IGNORES_OWNER ${MOVING}`,
  },
  {
    name: 'R2 KF-22 a bind that calls its group mixed after it has changed the table',
    model: 'delivery',
    defines: `BIND_MIXED_LATE ${MOVING} ONE_SENDER`,
  },

  // ── shadow ───────────────────────────────────────────────────────────────────────────────────────────────────────
  {
    name: 'R1 KX-EVT-55 a flush that clears the shadow after the selector',
    model: 'shadow',
    defines: 'FLUSH_COPIES SHADED',
  },
  { name: 'R1 KX-EVT-55 a flush without a kick', model: 'shadow', defines: 'FLUSH_WITHOUT_KICK SHADED' },
  {
    name: 'R1 KX-EVT-46 a look that asks twice whether vcpu_info is mapped',
    model: 'shadow',
    defines: 'LOOKS_UP_TWICE SHADED',
  },
  {
    name: 'R1 KX-EVT-46 a sleep without a look at a vcpu_info that is away',
    model: 'shadow',
    defines: 'SLEEP_WHILE_AWAY',
  },
  {
    name: 'R1 KF-13 the selector of a vcpu_info that moves is forgotten',
    model: 'shadow',
    defines: 'FORGETS_SELECTOR MOVE',
  },
  { name: 'R3 its page moves without a wait for readers', model: 'shadow', defines: 'NO_WAIT_FOR_READERS' },

  // ── gpc ──────────────────────────────────────────────────────────────────────────────────────────────────────────
  { name: 'R3 no wait for readers', model: 'gpc', defines: 'NO_WAIT_FOR_READERS INVALIDATE' },
  {
    name: 'R3 KF-01 KF-02 a publication without a token',
    model: 'gpc',
    defines: 'PUBLISH_WITHOUT_TOKEN INVALIDATE COLD',
  },
  {
    name: 'R3 KX-GPC-32 a refresh without a look at open invalidations',
    model: 'gpc',
    defines: 'NO_LOOK_AT_INVALIDATIONS INVALIDATE',
  },
  {
    name: 'R3 KX-GPC-33 a refresh that looks before its token is in the word',
    model: 'gpc',
    defines: 'LOOK_BEFORE_TOKEN INVALIDATE COLD',
  },
  {
    name: 'R3 KF-01 an invalidation that leaves the token',
    model: 'gpc',
    defines: 'INVALIDATION_LEAVES_TOKEN INVALIDATE COLD',
  },
  {
    name: 'R3 KF-01 an invalidation counted after it has unmapped',
    model: 'gpc',
    defines: 'COUNTED_AFTER_UNMAP INVALIDATE',
  },
  {
    name: 'R3 KX-GPC-38 an invalidation that ends before its change',
    model: 'gpc',
    defines: 'ENDS_BEFORE_CHANGE INVALIDATE',
  },
  { name: 'R3 a translation before the token', model: 'gpc', defines: 'TRANSLATES_BEFORE_TOKEN INVALIDATE' },
  {
    name: 'R3 a reader that announces itself after its look',
    model: 'gpc',
    defines: 'ANNOUNCED_AFTER_LOOK INVALIDATE',
  },
  { name: 'R3 a reader that leaves before it touches', model: 'gpc', defines: 'LEFT_BEFORE_TOUCH INVALIDATE' },
  {
    name: 'R3 KF-03 a refresh that asks only at first whether the cache is active',
    model: 'gpc',
    defines: 'ACTIVE_ASKED_BEFORE_ONLY DEACTIVATE COLD',
  },
  {
    name: 'R3 KF-03 a cache inactive after it was unmapped',
    model: 'gpc',
    defines: 'INACTIVE_AFTER_UNMAP DEACTIVATE MOVE',
  },
  {
    name: 'R3 KX-VMA-10 an address used without a look at the token',
    model: 'gpc',
    defines: 'ADDRESS_WITHOUT_LOOK MOVE COLD',
  },
  { name: 'R3 KX-VMA-10 a move that is not counted', model: 'gpc', defines: 'MOVED_UNANNOUNCED MOVE' },

  // ── poll ─────────────────────────────────────────────────────────────────────────────────────────────────────────
  { name: 'R1 KX-HCL-33 a poll announced after its look', model: 'poll', defines: 'ANNOUNCED_AFTER_LOOK' },
  { name: 'R1 KF-16 no second look before the sleep of a poll', model: 'poll', defines: 'NO_SECOND_LOOK' },
  { name: 'R1 KF-16 the flag of that sleep after the look', model: 'poll', defines: 'FLAG_AFTER_LOOK' },
  { name: 'R1 what a late sender left is cleared after the look', model: 'poll', defines: 'STALE_CLEARED_LATE' },
  { name: 'R1 a poller counted after its look, and a batch', model: 'poll', defines: 'COUNTED_LATE BATCH' },
  { name: 'R1 KX-EVT-61 the sleeping flag read before the request', model: 'poll', defines: 'REQUEST_AFTER_FLAG' },
  { name: 'R1 KX-EVT-40 a look for pollers before pending is set', model: 'poll', defines: 'POLLER_BEFORE_PENDING' },
  { name: 'R1 KF-17 a bind that tells no poller', model: 'poll', defines: 'BIND_TELLS_NO_POLLER BIND' },
  { name: 'R1 KX-EVT-61 a kick consumed by who has not seen it', model: 'poll', defines: 'KICK_CONSUMED_UNSEEN KICK' },
  {
    name: 'R2 a late request of a poll taken for events by a wait',
    model: 'poll',
    defines: 'POLLED_ALWAYS_COUNTS WAIT',
  },

  // ── reader ───────────────────────────────────────────────────────────────────────────────────────────────────────
  { name: 'R3 a change without a wait', model: 'reader', defines: 'NO_WAIT' },
  { name: 'R3 a wait before the mapping is dropped', model: 'reader', defines: 'WAITS_BEFORE_UNMAPPING' },
  { name: 'R3 a mapping read before the announcement', model: 'reader', defines: 'READS_BEFORE_ANNOUNCING' },
  { name: 'R3 a page touched after the bracket', model: 'reader', defines: 'LEAVES_EARLY' },
  { name: 'R3 a nested bracket that closes the outer one', model: 'reader', defines: 'NESTED_LEAVE_CLOSES NEST' },
  {
    name: 'R3 KF-89 a place given away before its bracket is over',
    model: 'reader',
    defines: 'PLACE_FREE_TOO_EARLY DIE',
  },
  {
    name: 'R6 KF-12 a wait until nobody is in any bracket',
    model: 'reader',
    defines: 'WAITS_FOR_ALL_BRACKETS FOREVER',
    search: 'progress',
    found: 'cycle without progress',
  },

  // ── timer and clock ──────────────────────────────────────────────────────────────────────────────────────────────
  { name: 'R6 KF-53 an expiry without a claim', model: 'timer', defines: 'NO_CLAIM' },
  { name: 'R6 KF-53 a timer set while it is delivered', model: 'timer', defines: 'SETS_WITHOUT_WAITING' },
  { name: 'R6 KX-TMR-04 a stop that does not wait', model: 'timer', defines: 'STOPS_WITHOUT_WAITING STOP' },
  {
    name: 'R6 KF-89 the claim of a dead timekeeper stands',
    model: 'timer',
    defines: 'DEAD_KEEP_THEIR_CLAIM DIE',
    found: 'invalid end state',
  },
  { name: 'R6 KF-31 a clock claimed without a comparison', model: 'clock', defines: 'CLAIMS_WITHOUT_COMPARING' },
  { name: 'R6 KX-CLK-13 a clock without a version', model: 'clock', defines: 'NO_VERSION' },
  { name: 'R6 KX-CLK-13 a reader that does not look at the version again', model: 'clock', defines: 'READS_ONCE' },
  { name: 'R6 KF-89 what a dead writer left taken for whole', model: 'clock', defines: 'EXPECTS_WHOLE_FIELDS DIE' },
  {
    name: 'R6 KF-89 the claim of a dead writer stands',
    model: 'clock',
    defines: 'DEAD_KEEP_THEIR_CLAIM DIE',
    found: 'invalid end state',
  },
];
