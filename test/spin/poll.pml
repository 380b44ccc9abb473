/*
 * A vCPU that polls or blocks: two senders, a kick, a bind. [R1, R2, R6, KF-16, KF-17]
 *
 * vCPU 0 polls for port 0, or for both; sender s sends port s.
 *
 *   step | what                                              | file                 | function
 *   P1   | pollers counted, the poller named                 | assembly/poll.ts     | pollBegin
 *   P2   | what a late sender left for the poll before       | assembly/poll.ts     | pollBegin
 *   P3   | the poll announced                                | assembly/poll.ts     | pollBegin
 *   P4   | pending looked at                                 | assembly/poll.ts     | anyPending
 *   P5   | the announcement withdrawn                        | assembly/poll.ts     | pollEnd
 *   S1   | pending set                                       | assembly/send.ts     | Event.raise
 *   S2   | mask read                                         | assembly/send.ts     | Event.raise
 *   S3   | pollers counted? only in a batch                  | assembly/batch.ts    | hold
 *   S4   | table read                                        | assembly/port.ts     | Port.vcpu
 *   S5   | selector set                                      | assembly/upcall.ts   | raiseNew
 *   A1   | the announcement read, then claimed               | assembly/poll.ts     | wakePoller
 *   Q1   | request set                                       | assembly/upcall.ts   | request
 *   K1   | sleeping flag read, cleared, notify               | assembly/upcall.ts   | wakeSleeper
 *   W1   | sleeping flag set                                 | assembly/sleep.ts    | sleepBegin
 *   W2   | selector and requests looked at                   | assembly/sleep.ts    | look
 *   W3   | slept on the flag                                 | assembly/sleep.ts    | sleepOn
 *   W4   | flag cleared, a kick that was seen consumed       | assembly/sleep.ts    | wakeUp
 *   G1   | table written                                     | assembly/port.ts     | bindVcpu
 *   G2   | pending, then mask; selector or poller told       | assembly/port.ts     | tellNewVcpu
 *   X1   | somebody's kick                                   | assembly/sleep.ts    | unblock
 *
 * The loop around it is that of src/vm/events/poll.ts. SCHEDOP_poll (src/vm/guest/sched_poll.ts) makes the same steps: the wait
 * is its embedder's, and its end is `beforeEntry`.
 *
 * ANY      polls for both ports; else for port 0
 * UNMASKED ports; else they are masked
 * BATCH    senders send by batches
 * BIND     port 0 is bound to vCPU 1 at first, and then to vCPU 0
 * KICK     somebody kicks the vCPU once
 * WAIT     after each poll the vCPU waits for events in general
 * SENDS    sends of each sender, 1 by default
 */

#ifndef SENDS
#define SENDS 1
#endif
#define ALL 9
#ifdef ANY
#define LIST 3
#define AWAITED ALL
#else
#define LIST 1
#define AWAITED 1
#endif
#ifdef UNMASKED
#define MASK 0
#else
#define MASK 3
#endif

byte pend;                      /* a bit per port */
byte table[2];                  /* whose port it is */
bool sel;                       /* of vCPU 0 */
byte poll, pollers;             /* what is polled for: a port plus 1, or ALL; how many poll */
bool poller, polled, unblocked, flag, asleep, polling;
bool owed;                      /* somebody's kick has not ended a wait yet */
byte done;

inline wake() {
  if                                                              /* K1 */
  :: !flag
  :: flag ->
     if
     :: d_step { flag -> flag = false } -> asleep = false
     :: !flag
     fi
  fi
}

inline wakePoller(p) {
  a = poll;                                                       /* A1 */
  if
  :: a == ALL || a == p + 1 ->
     if
     :: d_step { poll == a -> poll = 0 } ->
#ifdef REQUEST_AFTER_FLAG
        wake();
        polled = true
#else
        polled = true;                                            /* Q1 */
        wake()
#endif
     :: poll != a
     fi
  :: else
  fi
}

inline setSelector() {
  if                                                              /* S5 */
  :: d_step { sel -> skip }
  :: d_step { !sel -> sel = true } -> wake()
  fi
}

proctype sender(byte s) {
  byte a, n;
  do
  :: n < SENDS ->
     n++;
#ifdef POLLER_BEFORE_PENDING
     wakePoller(s);
#endif
     if
     :: d_step { pend & (1 << s) -> skip } -> goto sent           /* S1 */
     :: d_step { !(pend & (1 << s)) -> pend = pend | (1 << s) }
     fi;
     if                                                           /* S2 */
     :: MASK & (1 << s) ->
#ifndef POLLER_BEFORE_PENDING
#ifdef BATCH
        if                                                        /* S3 */
        :: pollers == 0 -> goto sent
        :: else
        fi;
#endif
        if                                                        /* S4 */
        :: table[s] == 0 -> wakePoller(s)
        :: else
        fi
#else
        skip
#endif
     :: else ->
        if
        :: table[s] == 0 -> setSelector()
        :: else
        fi
     fi;
sent:
     skip
  :: else -> break
  od;
  done++
}

inline look() {
  atomic { events = sel };                                        /* W2 */
#ifdef POLLED_ALWAYS_COUNTS
  atomic { events = events || polled; kicked = unblocked };
#else
  atomic { events = events || (polled && poller); kicked = unblocked };
#endif
  /* Events without a poll are in the selector. [R2] */
  assert(!events || poller || sel)
}

inline wakeUp() {
  flag = false;                                                   /* W4 */
#ifdef KICK_CONSUMED_UNSEEN
  unblocked = false
#else
  if
  :: kicked -> atomic { unblocked = false; owed = false }
  :: else
  fi
#endif
}

/* Until there are events or a kick. */
inline wait() {
  do
  ::
#ifdef FLAG_AFTER_LOOK
     look();
     flag = true;
#else
     flag = true;                                                 /* W1 */
#ifndef NO_SECOND_LOOK
     look();
#endif
#endif
     if
     :: events || kicked -> wakeUp(); break
     :: else
     fi;
     if                                                           /* W3 */
     :: d_step { flag -> asleep = true } ->
end:    !asleep
     :: !flag
     fi;
     look();
     wakeUp();
     if
     :: events || kicked -> break
     :: else
     fi
  od;
  atomic { events = false; kicked = false }
}

proctype vcpu() {
  bool events, kicked, found;
  do
  ::
#ifdef COUNTED_LATE
     skip;
#else
     atomic { pollers++; poller = true };                         /* P1 */
#endif
#ifndef STALE_CLEARED_LATE
     polled = false;                                              /* P2 */
#endif
#ifdef ANNOUNCED_AFTER_LOOK
     found = (pend & LIST) != 0;
     atomic { poll = AWAITED; polling = true };
#else
     atomic { poll = AWAITED; polling = true };                   /* P3 */
     found = (pend & LIST) != 0;                                  /* P4 */
#endif
#ifdef STALE_CLEARED_LATE
     polled = false;
#endif
#ifdef COUNTED_LATE
     atomic { pollers++; poller = true };
#endif
     if
     :: found
     :: else -> wait()
     fi;
     polling = false;
     poll = 0;                                                    /* P5 */
     poller = false;
     pollers--;
     sel = false;
     pend = pend & ~LIST;
     found = false;
#ifdef WAIT
     wait();
     sel = false;
     pend = 0
#endif
  od
}

#ifdef BIND
proctype binder() {
  byte a;
  table[0] = 0;                                                   /* G1 */
  if                                                              /* G2 */
  :: !(pend & 1)
  :: else ->
     if
     :: MASK & 1 ->
#ifndef BIND_TELLS_NO_POLLER
        wakePoller(0)
#else
        skip
#endif
     :: else -> setSelector()
     fi
  fi;
  done++
}
#define BINDERS 1
#else
#define BINDERS 0
#endif

#ifdef KICK
proctype kicker() {
  atomic { unblocked = true; owed = true };                       /* X1 */
  wake();
  done++
}
#define KICKERS 1
#else
#define KICKERS 0
#endif

init {
  atomic {
#ifdef BIND
    table[0] = 1;
#endif
    run vcpu();
    run sender(0);
    run sender(1);
#if BINDERS
    run binder();
#endif
#if KICKERS
    run kicker();
#endif
  }
  done == 2 + BINDERS + KICKERS && asleep;
  /* Nobody sleeps over a port that he polls for, over events, or over a kick. [R1] */
  assert(!polling || !(pend & LIST));
  assert(!sel && !unblocked && !owed)
}
