/*
 * The VM's clock: two writers, one of which may die, and a reader. [R6, R8, KF-31, KF-89, KX-CLK-13]
 *
 *   step | what                                              | file                     | function
 *   L1   | the holder looked at: free, own, or detached      | src/vm/time/kvmclock.ts  | #lock
 *   L2   | claimed from that holder                          | src/vm/time/kvmclock.ts  | #lock
 *   L3   | given back, unless this thread was taken for dead | src/vm/time/kvmclock.ts  | alone
 *   V1   | version odd; was it odd already?                  | src/vm/time/kvmclock.ts  | #locked
 *   V2   | the fields                                        | src/vm/time/kvmclock.ts  | #store
 *   V3   | version even                                      | src/vm/time/kvmclock.ts  | #locked
 *   Q1   | version even?                                     | src/vm/time/kvmclock.ts  | read
 *   Q2   | the fields                                        | src/vm/time/kvmclock.ts  | #load
 *   Q3   | version as before?                                | src/vm/time/kvmclock.ts  | read
 *   D1   | a dead writer's claim removed, then its place     | src/memory/region.ts     | releaseAgent
 *
 * Two fields stand for all of them: they belong together when they are equal.
 *
 * DIE      writer 1 may die anywhere; it is detached then
 */

byte holder;                    /* 0 nobody, else the writer's number */
bool used[3] = true;            /* places of agents */
byte version, a, b, inside;
bool dead, dying;
byte finished;

inline lock() {
  do
  :: h = holder;                                                  /* L1 */
     if
     :: h != 0 && h != me && used[h] -> holder != h || !used[h]
     :: else ->
#ifdef CLAIMS_WITHOUT_COMPARING
        d_step { holder = me; inside++ };
        break
#else
        if                                                        /* L2 */
        :: d_step { holder == h -> holder = me; inside++ } -> break
        :: holder != h
        fi
#endif
     fi
  od;
  assert(inside == 1)
}

inline write() {
  lock();
#ifndef NO_VERSION
  d_step { v = version; version = v | 1 };                        /* V1 */
#endif
#ifndef EXPECTS_WHOLE_FIELDS
  if
  :: v & 1
  :: else -> assert(a == b)
  fi;
#else
  assert(a == b);
#endif
  a = me;                                                         /* V2 */
  b = me;
#ifndef NO_VERSION
  atomic { version++; inside-- };                                 /* V3 */
#else
  inside--;
#endif
  if                                                              /* L3 */
  :: d_step { holder == me -> holder = 0 }
  :: holder != me
  fi
}

proctype mortal() {
  byte h, v, me = 1;
  {
    write()
  } unless { dying };
  dead = true;
  finished++
}

proctype writer() {
  byte h, v, me = 2;
  write();
  finished++
}

proctype reader() {
  byte v, x, y;
again:
  v = version;                                                    /* Q1 */
  if
  :: v & 1 ->
     /* Its writer may be dead: the next write repairs it, and who reads makes one when it has waited in vain. */
end:
     version != v;
     goto again
  :: else
  fi;
  x = a;                                                          /* Q2 */
  y = b;
#ifndef READS_ONCE
  if                                                              /* Q3 */
  :: version != v -> goto again
  :: version == v
  fi;
#endif
  assert(x == y);
  finished++
}

#ifdef DIE
proctype owner() {
  if
  :: dying = true
  :: true -> goto out
  fi;
  dead;                                                           /* or through */
  atomic {
    if
    :: holder == 1 && inside > 0 -> inside--
    :: else
    fi
  };
#ifndef DEAD_KEEP_THEIR_CLAIM
  if                                                              /* D1 */
  :: d_step { holder == 1 -> holder = 0 }
  :: holder != 1
  fi;
  used[1] = false;
#endif
out:
  finished++
}
#endif

init {
  atomic {
    run mortal();
    run writer();
    run reader();
#ifdef DIE
    run owner()
#endif
  }
  (finished >= 3)
}
