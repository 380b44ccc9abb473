/*
 * The shadow selector: events for a vcpu_info that is away, while its page is invalidated or it moves. [R1, R3, KX-EVT-55]
 *
 * Two senders, another thread that flushes, the vCPU's own thread that drains and sleeps, and the owner. Port s of sender s, both in
 * one word, so the shadow and the selector are one bit.
 *
 *   step | what                                              | file                 | function
 *   R1   | epoch odd, before any look at a mapping           | assembly/bracket.ts  | Bracket.announce
 *   R2   | epoch even, after the last touch of a page        | assembly/bracket.ts  | Bracket.leave
 *   S1   | pending set                                       | assembly/send.ts     | Event.raise
 *   S2   | vcpu_info looked up, once                         | assembly/upcall.ts   | Upcall.raise
 *   S3   | selector set                                     | assembly/upcall.ts   | raiseNew
 *   S4   | the shadow instead, when there is no mapping      | assembly/upcall.ts   | shade
 *   K1   | sleeping flag read, cleared; notify               | assembly/upcall.ts   | wakeSleeper
 *   F1   | shadow looked at                                  | assembly/upcall.ts   | flush
 *   F2   | vcpu_info looked up                               | assembly/upcall.ts   | flush
 *   F3   | shadow taken                                      | assembly/upcall.ts   | takeShadow
 *   F4   | selector set, kick in any case                    | assembly/upcall.ts   | flush
 *   D1   | vcpu_info looked up                               | assembly/drain.ts    | scan
 *   D2   | selector taken                                    | assembly/selector.ts | Selector.take
 *   D3   | shadow taken                                      | assembly/upcall.ts   | takeShadow
 *   D4   | pending taken                                     | assembly/drain.ts    | takeWord
 *   W1   | sleeping flag set                                 | assembly/sleep.ts    | sleepBegin
 *   W2   | selector and shadow looked at                     | assembly/sleep.ts    | look
 *   W3   | away: mapped, then looked at again                | src/vm/events/sleep.ts | mapInfo
 *   W4   | slept on the flag                                 | assembly/sleep.ts    | sleepOn
 *   C1   | invalidation counted, mapping dropped             | assembly/gpc.ts      | gpcUnmap
 *   C2   | readers waited for                                | assembly/bracket.ts  | awaitReaders
 *   C3   | page changed, count                               | src/memory/changes.ts | change
 *   C4   | MOVE: what the old selector has goes to the shadow | assembly/upcall.ts  | keepSelector
 *
 * A refresh is one step here, when no invalidation is open: gpc.pml has what it is made of.
 *
 * MOVE     the guest registers its vcpu_info elsewhere; else its page moves with what is in it
 * SHADED   port 1 is pending and the shadow has it: vcpu_info has just come back. Its sender is done, and a flusher is there;
 *          else both senders send and nobody flushes
 */

#define AWAY 9
#define OUT 0
#define IN 1
#define AWAITED 2

byte pend;                      /* bit s: port s */
byte info = 0;                  /* the cache of vcpu_info: the frame it maps, or AWAY */
byte frame;                     /* where vcpu_info lies now */
bool alive[2] = true;           /* frames that are the VM's */
bool sel[2];                    /* in each frame */
bool shade, flag, asleep;
bool open;                      /* an invalidation */
byte reader[4];                 /* epochs: senders 0 and 1, the flusher 2, the vCPU's thread 3 */
byte done;

inline enter(a) {
  reader[a] = IN                                                  /* R1 */
}
inline leave(a) {
  reader[a] = OUT                                                 /* R2 */
}

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

inline setSelector() {
  if                                                              /* S3 */
  :: d_step { sel[f] -> assert(alive[f]) }
  :: d_step { !sel[f] -> assert(alive[f]); sel[f] = true } ->
     wake()
  fi
}

inline toShadow() {
  if                                                              /* S4 */
  :: d_step { shade -> skip }
  :: d_step { !shade -> shade = true } -> wake()
  fi
}

inline refresh() {
  if
  :: d_step { info == AWAY && !open -> info = frame }
  :: info != AWAY
  fi
}

proctype sender(byte s) {
  byte f;
  enter(s);
  d_step { assert(!(pend & (1 << s))); pend = pend | (1 << s) };  /* S1 */
  f = info;                                                       /* S2 */
  if
  :: f == AWAY -> toShadow()
  :: else -> setSelector()
  fi;
  leave(s);
  done++
}

/* Another thread asks for the level of the upcall, which flushes: once. */
proctype flusher() {
  byte f;
  again:
  enter(2);
  if                                                              /* F1 */
  :: !shade -> goto out
  :: shade
  fi;
  f = info;                                                       /* F2 */
  if
  :: f == AWAY -> leave(2); refresh(); goto again
  :: else
  fi;
#ifdef FLUSH_COPIES
  d_step { assert(alive[f]); sel[f] = true };
  shade = false;
#else
  if
  :: d_step { shade -> shade = false }               /* F3 */
  :: d_step { !shade -> skip } -> goto out
  fi;
  d_step { assert(alive[f]); sel[f] = true };                     /* F4 */
#endif
#ifndef FLUSH_WITHOUT_KICK
  wake();
#endif
out:
  leave(2);
  done++
}

inline drain() {
  enter(3);
  f = info;                                                       /* D1 */
  do
  :: f == AWAY -> leave(3); refresh(); enter(3); f = info
  :: else -> break
  od;
  atomic { assert(alive[f]); s = sel[f]; sel[f] = false };        /* D2 */
  if
  :: shade ->
     d_step { s = s | shade; shade = false }                      /* D3 */
  :: else
  fi;
  if
  :: s ->
     pend = 0                                                     /* D4 */
  :: else
  fi;
  leave(3);
  atomic { s = false; f = 0 }
}

inline look() {
  enter(3);
  f = info;                                                       /* W2 */
  if
  :: f != AWAY ->
     if
     :: d_step { sel[f] -> assert(alive[f]); found = true }
     :: d_step { !sel[f] -> assert(alive[f]); found = false }
     fi
  :: else -> found = false
  fi;
  if
  :: found
  :: else -> found = shade
  fi;
#ifdef LOOKS_UP_TWICE
  f = info;
#endif
  leave(3)
}

proctype vcpu() {
  byte f;
  bool s, found;
  do
  :: drain();
begin:
     flag = true;                                                 /* W1 */
     look();
     if
     :: found -> flag = false; goto again
#ifndef SLEEP_WHILE_AWAY
     :: !found && f == AWAY -> flag = false; refresh(); goto begin   /* W3 */
     :: !found && f != AWAY
#else
     :: !found
#endif
     fi;
     if                                                           /* W4 */
     :: d_step { flag -> asleep = true }
     :: !flag -> goto woken
     fi;
end: !asleep;
woken:
     look();
     if
     :: found -> flag = false
     :: else -> flag = false; goto begin
     fi;
again:
     skip
  od
}

inline awaitReader(a) {
  if
  :: d_step { reader[a] == IN -> reader[a] = AWAITED } -> reader[a] != AWAITED
  :: reader[a] == OUT
  fi
}

proctype owner() {
  byte f;
  open = true;                                                     /* C1 */
  info = AWAY;
#ifndef NO_WAIT_FOR_READERS
  awaitReader(0);                                                 /* C2 */
  awaitReader(1);
  awaitReader(2);
  awaitReader(3);
#endif
  d_step {                                                        /* C3 */
#ifndef MOVE
    sel[1] = sel[0];
    alive[0] = false;
#endif
    frame = 1
  };
  open = false;
#ifdef MOVE
#ifndef FORGETS_SELECTOR
  f = 0;                                                          /* C4 */
  if
  :: sel[0] -> toShadow()
  :: else
  fi;
#endif
  alive[0] = false;
#endif
  done++
}

init {
  atomic {
#ifdef SHADED
    pend = 2;
    shade = true;
    done = 1;
    run flusher();
#else
    done = 1;
    run sender(1);
#endif
    run vcpu();
    run sender(0);
    run owner()
  }
  done == 4 && asleep;
  assert(!pend)
}
