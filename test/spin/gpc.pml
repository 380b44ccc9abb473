/*
 * One cache between its users, who refresh it and touch its page, and the owner, who invalidates, moves and deactivates it.
 * [R3, R6, KF-01..05, KX-GPC-30..41]
 *
 *   step | what                                              | file                 | function
 *   R1   | epoch odd, before any look at a mapping           | assembly/bracket.ts  | Bracket.announce
 *   R2   | the cache's word, read once                       | assembly/send.ts     | send
 *   R3   | the page touched                                  | assembly/send.ts     | Event.raise
 *   R4   | epoch even                                        | assembly/bracket.ts  | Bracket.leave
 *   T1   | active? mapped already?                           | assembly/gpc.ts      | gpcBeginRefresh
 *   T2   | token into the word                               | assembly/gpc.ts      | replace
 *   T3   | active? an invalidation?                          | assembly/gpc.ts      | mayNotMap
 *   T4   | refused: the token out again                      | assembly/gpc.ts      | gpcPublish
 *   T5   | the end of the invalidation awaited               | src/memory/changes.ts | awaitInvalidations
 *   T6   | address read; does the token stand?               | src/memory/gpc.ts    | #translate
 *   T7   | slot and host page looked up                      | src/memory/gpc.ts    | faultIn
 *   T8   | published if the token stands                     | assembly/gpc.ts      | gpcPublish
 *   C1   | invalidation counted                              | assembly/gpc.ts      | invalidateStart
 *   C2   | word looked at                                    | assembly/gpc.ts      | drop
 *   C3   | unmapped, or the token taken                      | assembly/gpc.ts      | gpcUnmap
 *   C4   | readers waited for                                | assembly/bracket.ts  | awaitReaders
 *   C5   | the change: host page, or address                 | src/memory/changes.ts | change
 *   C6   | count                                             | assembly/gpc.ts      | invalidateEnd
 *   X1   | inactive, then unmapped, then readers waited for  | src/memory/gpc.ts    | deactivateAll
 *   X2   | active at another address, within a change        | src/memory/gpc.ts    | activate
 *
 * A frame that was given away is dead: who touches it breaks R3. The mode bit of shared_info's word is left out.
 *
 * INVALIDATE, DEACTIVATE, MOVE  what the owner does, in this order; COLD  the cache is not mapped at first
 * READS    accesses of each user, 1 by default
 */

#ifndef READS
#define READS 1
#endif

#define UNMAPPED 10
#define TOKEN(u) (11 + (u))
#define ISMAP(w) ((w) < UNMAPPED)
#define OUT 0
#define IN 1
#define AWAITED 2

byte word = 0;                  /* the cache: a frame, UNMAPPED, or a refresher's token */
bool on = true;                 /* the cache is active */
bool lo, hi;                    /* its address, which is stored in two halves */
byte frame[2];                  /* by address: the frame that holds it */
bool alive[4] = true;
bool open;                      /* an invalidation */
byte reader[2];
byte done;

inline awaitReaders() {
#ifndef NO_WAIT_FOR_READERS
  if                                                              /* C4 */
  :: d_step { reader[0] == IN -> reader[0] = AWAITED } -> reader[0] != AWAITED
  :: reader[0] == OUT
  fi;
  if
  :: d_step { reader[1] == IN -> reader[1] = AWAITED } -> reader[1] != AWAITED
  :: reader[1] == OUT
  fi
#else
  skip
#endif
}

inline touch() {
  assert(alive[w])                                                /* R3 */
}

/* Ends at `again` when the word has to be looked at anew, at `gone` when the cache is inactive. */
inline refresh() {
  if                                                              /* T1 */
  :: !on -> goto gone
  :: on
  fi;
  w = word;
  if
  :: ISMAP(w) -> goto again
  :: else
  fi;
#ifdef LOOK_BEFORE_TOKEN
  if
  :: open -> !open; goto again
  :: !open
  fi;
#endif
#ifdef TRANSLATES_BEFORE_TOKEN
  f = frame[lo];
#endif
  if
  :: d_step { word == w -> word = TOKEN(u) }                      /* T2 */
  :: word != w -> !open; goto again
  fi;
#ifndef ACTIVE_ASKED_BEFORE_ONLY
  if                                                              /* T3 */
  :: !on ->
     if                                                           /* T4 */
     :: d_step { word == TOKEN(u) -> word = UNMAPPED }
     :: word != TOKEN(u)
     fi;
     goto gone
  :: on
  fi;
#endif
#if !defined(NO_LOOK_AT_INVALIDATIONS) && !defined(LOOK_BEFORE_TOKEN)
  if
  :: open ->
     if
     :: d_step { word == TOKEN(u) -> word = UNMAPPED }
     :: word != TOKEN(u)
     fi;
     !open;                                                       /* T5 */
     goto again
  :: !open
  fi;
#endif
  l = lo;                                                         /* T6 */
  h = hi;
#ifndef ADDRESS_WITHOUT_LOOK
  if
  :: word != TOKEN(u) -> goto again
  :: word == TOKEN(u)
  fi;
#endif
  assert(l == h);
#ifndef TRANSLATES_BEFORE_TOKEN
  f = frame[l];                                                   /* T7 */
#endif
#ifdef PUBLISH_WITHOUT_TOKEN
  word = f
#else
  if                                                              /* T8 */
  :: d_step { word == TOKEN(u) -> word = f }
  :: word != TOKEN(u)
  fi
#endif
}

proctype user(byte u) {
  byte w, f, n;
  bool l, h;
again:
  do
  :: n < READS ->
#ifdef ANNOUNCED_AFTER_LOOK
     w = word;
     reader[u] = IN;
#else
     reader[u] = IN;                                              /* R1 */
     w = word;                                                    /* R2 */
#endif
     if
     :: ISMAP(w) ->
#ifdef LEFT_BEFORE_TOUCH
        reader[u] = OUT;
        touch();
#else
        touch();
        reader[u] = OUT;                                          /* R4 */
#endif
        n++
     :: else ->
        reader[u] = OUT;
        refresh()
     fi
  :: else -> break
  od;
gone:
  atomic { w = 0; f = 0; l = false; h = false; n = 0; done++ }
}

inline unmap() {
#ifdef INVALIDATION_LEAVES_TOKEN
  if
  :: d_step { ISMAP(word) -> word = UNMAPPED }
  :: !ISMAP(word)
  fi
#else
  if
  :: word == UNMAPPED                                             /* C2 */
  :: word != UNMAPPED -> word = UNMAPPED                          /* C3 */
  fi
#endif
}

proctype owner() {
#ifdef INVALIDATE
#ifdef COUNTED_AFTER_UNMAP
  unmap();
  open = true;
#else
  open = true;                                                    /* C1 */
  unmap();
#endif
  awaitReaders();
#ifdef ENDS_BEFORE_CHANGE
  open = false;
#endif
  d_step { frame[0] = 2; alive[0] = false };                      /* C5 */
  open = false;                                                   /* C6 */
#endif
#ifdef DEACTIVATE
#ifdef INACTIVE_AFTER_UNMAP
  unmap();
  on = false;
#else
  on = false;                                                 /* X1 */
  word = UNMAPPED;
#endif
  awaitReaders();
  /* Final until the next activation. [KF-03, KF-04] */
  d_step { assert(!ISMAP(word)); alive[0] = false; alive[2] = false };
  assert(!ISMAP(word));
#endif
#ifdef MOVE
#ifndef MOVED_UNANNOUNCED
  open = true;
#endif
  word = UNMAPPED;
  awaitReaders();
  lo = true;                                                      /* X2 */
  hi = true;
  on = true;
  open = false;
  d_step { alive[0] = false; alive[2] = false };
#endif
  done++
}

init {
  atomic {
    frame[1] = 1;
#ifdef COLD
    word = UNMAPPED;
#endif
    run user(0);
    run user(1);
    run owner()
  }
  done == 3;
  /* What is mapped is the cache's page, and only an active cache has one. [R3, KF-04, KF-06] */
  assert(!ISMAP(word) || (on && word == frame[lo] && alive[word]))
}
