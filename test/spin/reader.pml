/*
 * Reader brackets: two agents that read a mapped page, some of them nested, one that may die, and a writer. [R3, R6, R8, KF-89]
 *
 *   step | what                                              | file                  | function
 *   E1   | epoch looked at: a bracket open already nests     | assembly/bracket.ts   | Bracket.announce
 *   E2   | epoch odd                                         | assembly/bracket.ts   | Bracket.announce
 *   E3   | the mapping read                                  | assembly/send.ts      | send
 *   E4   | the page touched                                  | assembly/send.ts      | Event.raise
 *   E5   | epoch even, unless the bracket is nested          | assembly/bracket.ts   | Bracket.leave
 *   N1   | a bracket for many calls opened                   | assembly/bracket.ts   | enter
 *   N2   | it is closed                                      | assembly/bracket.ts   | leave
 *   C1   | the mapping dropped                               | assembly/gpc.ts       | gpcUnmap
 *   C2   | each agent's epoch looked at, an odd one awaited  | assembly/bracket.ts   | awaitReaders
 *   C3   | the page given away                               | src/memory/changes.ts | change
 *   A1   | a dead agent's bracket ended                      | src/memory/region.ts  | releaseAgent
 *   A2   | its place free                                    | src/memory/region.ts  | releaseAgent
 *   A3   | the place taken by a new thread                   | src/memory/region.ts  | takeAgent
 *
 * The page changes twice, each time to a frame of its own; a mapping is refreshed in one step (gpc.pml has what that is made of).
 *
 * NEST     agent 0 uses the page in a bracket of its own, with a send in the middle
 * DIE      agent 1 may die anywhere; then its place is given to a new thread
 * FOREVER  agents go on for ever, and every change of the writer has to end (checked for cycles without progress)
 */

byte map = 0;                   /* the frame, or NONE */
#define NONE 9
byte frame;
bool alive[3] = true;
bool open;                      /* a change */
byte epoch[2];
bool dead, dying;               /* agent 1's thread; it may still be */
bool used = true;               /* agent 1's place */
byte finished;

#ifdef FOREVER
/* Epochs would come round: whether one is still the one that the writer saw is remembered instead. */
bool seen[2];
#define NEXT(e) (1 - (e))
#define SEE(a) seen[a] = true
#define MOVE_ON(a) seen[a] = false
#define SAME(a) seen[a]
#else
/* An epoch counts up to 2^32; 16 values are enough for how often it changes here. */
#define NEXT(e) (((e) + 1) % 16)
#define SEE(a) skip
#define MOVE_ON(a) skip
#define SAME(a) (epoch[a] == e)
#endif

inline read(a) {
  nested = false;
#ifdef READS_BEFORE_ANNOUNCING
  w = map;
#endif
  e = epoch[a];                                                   /* E1 */
  if
  :: e & 1 -> nested = true
  :: else -> epoch[a] = NEXT(e)                                   /* E2 */
  fi;
#ifndef READS_BEFORE_ANNOUNCING
  w = map;                                                        /* E3 */
#endif
#ifdef LEAVES_EARLY
  if
  :: nested
  :: else -> epoch[a] = NEXT(NEXT(e))
  fi;
#endif
  if
  :: w != NONE -> assert(alive[w])                                /* E4 */
  :: else
  fi;
#ifndef LEAVES_EARLY
  if                                                              /* E5 */
#ifndef NESTED_LEAVE_CLOSES
  :: nested
#endif
  :: else -> atomic { epoch[a] = NEXT(epoch[a]); MOVE_ON(a) }
  fi;
#endif
  if
  :: w == NONE && !(epoch[a] & 1) ->
     if
     :: d_step { map == NONE && !open -> map = frame }
     :: map != NONE || open
     fi
  :: else
  fi;
  w = 0
}

proctype agent0() {
  byte e, w, n, outer;
  bool nested;
#ifdef FOREVER
  do
  :: read(0)
  od
#else
  do
  :: n < 2 ->
     n++;
#ifdef NEST
     epoch[0] = NEXT(epoch[0]);                                   /* N1 */
     outer = map;
     read(0);
     if
     :: outer != NONE -> assert(alive[outer])
     :: else
     fi;
     if
     :: epoch[0] & 1 -> epoch[0] = NEXT(epoch[0])                 /* N2 */
     :: else
     fi
#else
     read(0)
#endif
  :: else -> break
  od;
  finished++
#endif
}

proctype agent1() {
  byte e, w, n;
  bool nested;
  {
#ifdef FOREVER
    do
    :: read(1)
    od
#else
    do
    :: n < 2 -> n++; read(1)
    :: else -> break
    od
#endif
  } unless { dying };
#ifdef DIE
  if
  :: dying -> dead = true
  :: else -> used = false
  fi;
#endif
  finished++
}

#ifdef DIE
/* A new thread that takes the place of agent 1. */
proctype heir() {
  byte e, w;
  bool nested;
end:
  !used;
  used = true;                                                    /* A3 */
  read(1);
  finished++
}

/* The thread dies at any time, or not at all. */
proctype death() {
  if
  :: dying = true
  :: true
  fi
}

inline detach() {
#ifdef PLACE_FREE_TOO_EARLY
  e = epoch[1];
  used = false;
  if
  :: e & 1 -> epoch[1] = NEXT(e)
  :: else
  fi
#else
  e = epoch[1];                                                   /* A1 */
  if
  :: e & 1 -> epoch[1] = NEXT(e)
  :: else
  fi;
  used = false                                                    /* A2 */
#endif
}
#endif

inline await(a) {
  atomic { e = epoch[a]; SEE(a) };                                /* C2 */
  if
#ifdef WAITS_FOR_ALL_BRACKETS
  :: e & 1 -> do :: epoch[a] & 1 -> skip :: else -> break od
#else
  :: e & 1 ->
     do
     :: SAME(a) ->
#ifdef DIE
        /* It does not leave in time: the owner is told which agent it is, finds it dead and detaches it. */
        if
        :: dead && a == 1 && used -> dead = false; detach()
        :: else
        fi
#else
        skip
#endif
     :: else -> break
     od
#endif
  :: else
  fi
}

inline changePage(to) {
  open = true;
#ifdef NO_WAIT
  map = NONE;
#else
#ifdef WAITS_BEFORE_UNMAPPING
  await(0);
  await(1);
  map = NONE;
#else
  map = NONE;                                                     /* C1 */
  await(0);
  await(1);
#endif
#endif
  atomic { alive[frame] = false; frame = to };                    /* C3 */
  open = false
}

proctype writer() {
  byte e;
#ifdef FOREVER
  do
  :: open = true;
progress:
     map = NONE;
     await(0);
     await(1);
     open = false
  od
#else
  changePage(1);
  changePage(2);
#ifdef DIE
  /* One that died outside a bracket, or after the last change, is removed in the end. */
  if
  :: dead -> dead = false; detach()
  :: else
  fi;
#endif
  finished++
#endif
}

init {
  atomic {
    run agent0();
    run agent1();
    run writer();
#ifdef DIE
    run heir();
    run death()
#endif
  }
#ifndef FOREVER
  finished >= 3;
  assert(map == NONE || (map == frame && alive[map]))
#endif
}
