/*
 * A vCPU's timer: its own thread sets it, sets it anew for another port and stops it, while two timekeepers look for what is due.
 * [R6, KF-32, KF-53, KX-TMR-10]
 *
 *   step | what                                              | file                  | function
 *   L1   | the callback word claimed                         | src/vm/time/timer.ts  | enterCallback
 *   L2   | waited for by who sets or stops                   | src/vm/time/timer.ts  | awaitCallback
 *   L3   | given back, unless this thread was taken for dead | src/vm/time/timer.ts  | leaveCallback
 *   T1   | deadline looked at                                | src/vm/time/timer.ts  | timerDeadline
 *   T2   | the deadline taken, if it is the one that was due | src/vm/time/timer.ts  | expire
 *   T3   | delivered with the port that stands there         | src/vm/time/timer.ts  | deliver
 *   T4   | expiry forgotten                                  | src/vm/time/timer.ts  | deliver
 *   A1   | deadline 0, then expiry and port, then deadline   | src/vm/time/timer.ts  | arm
 *   X1   | stopped: deadline 0, then expiry 0                | src/vm/time/timer.ts  | disarm
 *   D1   | a dead timekeeper's claim removed                 | src/memory/region.ts  | releaseAgent
 *   D2   | an expiry that died with its thread is due again  | src/vm/time/timer.ts  | revive
 *
 * Every deadline is due as soon as it is set. The n-th setting has deadline n and port n.
 *
 * STOP     the last thing done is to stop it
 * DIE      timekeeper 1 may die anywhere; it is detached then
 */

byte callback;                  /* who is inside: 0 nobody, 1 and 2 timekeepers, 3 the vCPU's thread */
byte deadline, expires, port;
byte fired[3];                  /* how often the n-th setting was delivered */
bool stopped, dead, dying;
byte finished;

inline leave(me) {
  if                                                              /* L3 */
  :: d_step { callback == me -> callback = 0 }
  :: callback != me
  fi
}

/* Twice is harmless after a death, never is not. [KF-89] */
inline deliver(n) {
  d_step {                                                        /* T3 */
    fired[n]++;
    assert(!stopped);
    assert(port == n);
    assert(fired[n] == 1 || dying)
  };
  if                                                              /* T4 */
  :: deadline == 0 -> expires = 0
  :: deadline != 0
  fi
}

inline tick(me) {
  d = deadline;                                                   /* T1 */
  if
  :: d != 0 ->
#ifndef NO_CLAIM
     if                                                           /* L1 */
     :: d_step { callback == 0 -> callback = me }
     :: callback != 0 -> goto out
     fi;
#endif
     if                                                           /* T2 */
     :: d_step { deadline == d -> deadline = 0 }
     :: deadline != d -> leave(me); goto out
     fi;
     deliver(d);
     leave(me)
  :: else ->
     if
     :: expires != 0 && callback == 0 && deadline == 0 ->
        if
        :: d_step { callback == 0 -> callback = me }
        :: callback != 0 -> goto out
        fi;
        if                                                        /* D2 */
        :: expires != 0 && deadline == 0 ->
           d = expires;
           deliver(d)
        :: else
        fi;
        leave(me)
     :: else
     fi
  fi;
out:
  d = 0
}

proctype keeper(byte me) {
  byte d;
  {
end:
    do
    :: deadline != 0 || (expires != 0 && callback == 0) -> tick(me)
    od
  } unless { dying && me == 1 };
  dead = true
}

inline arm(n) {
  if                                                              /* L2 */
  :: d_step { callback == 0 -> callback = 3 }
#ifdef SETS_WITHOUT_WAITING
  :: callback != 0
#endif
  fi;
  deadline = 0;                                                   /* A1 */
  port = n;
  expires = n;
  deadline = n;
  leave(3)
}

proctype vcpu() {
  arm(1);
  arm(2);
#ifdef STOP
#ifdef STOPS_WITHOUT_WAITING
  deadline = 0;
  expires = 0;
#else
  d_step { callback == 0 -> callback = 3 };
  deadline = 0;                                                   /* X1 */
  expires = 0;
  leave(3);
#endif
  stopped = true;
#endif
  finished++
}

#ifdef DIE
proctype owner() {
  if
  :: dying = true
  :: true -> goto out
  fi;
  dead;
#ifndef DEAD_KEEP_THEIR_CLAIM
  leave(1);                                                       /* D1 */
#endif
out:
  finished++
}
#define OWNERS 1
#else
#define OWNERS 0
#endif

init {
  atomic {
    run vcpu();
    run keeper(1);
    run keeper(2);
#if OWNERS
    run owner()
#endif
  }
  finished == 1 + OWNERS && callback == 0 && !deadline && !expires;
  /* What was set last and not stopped was delivered. */
#ifndef STOP
  assert(fired[2] > 0)
#else
  skip
#endif
}
