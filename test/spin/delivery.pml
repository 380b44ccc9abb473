/*
 * From a send to a handler: two senders, two ports, one or two vCPUs, drain, unmask, bind and sleep. [R1, R2, R6]
 *
 * Every step below is one access to shared memory, as the kernel makes it:
 *
 *   step | what                                              | file                 | function
 *   S1   | pending set, by a read-modify-write in any case   | assembly/send.ts     | Event.raise
 *   S2   | mask read                                         | assembly/send.ts     | Event.raise
 *   S3   | table read: whose port it is                      | assembly/port.ts     | Port.vcpuOr
 *   U1   | selector tested                                   | assembly/upcall.ts   | Upcall.raise
 *   U2   | selector set                                      | assembly/upcall.ts   | raiseNew
 *   U3   | upcall byte set                                   | assembly/upcall.ts   | setUpcallPending
 *   K1   | sleeping flag read                                | assembly/upcall.ts   | kick
 *   K2   | sleeping flag cleared                             | assembly/upcall.ts   | wakeSleeper
 *   K3   | notify, by whoever cleared the flag               | assembly/upcall.ts   | wakeSleeper
 *   B1   | one barrier for a batch                           | assembly/batch.ts    | sendMany
 *   B2   | pending looked at, left alone if it is set        | assembly/batch.ts    | Word.raise
 *   B3   | pending set                                       | assembly/batch.ts    | Word.raise
 *   B4   | mask read                                         | assembly/batch.ts    | Word.raise
 *   B5   | table read by group, by port where it is mixed    | assembly/batch.ts    | Word.owner
 *   B6   | the selector bits that are owed, at the end       | assembly/batch.ts    | settle
 *   D1   | upcall byte cleared                               | assembly/drain.ts    | scan
 *   D2   | selector taken                                    | assembly/selector.ts | Selector.take
 *   D3   | mask read                                         | assembly/drain.ts    | takeWord
 *   D4   | group owner read                                  | assembly/drain.ts    | takeWord
 *   D5   | pending exchanged or read                         | assembly/drain.ts    | takeWord
 *   D6   | table read, where ports of several vCPUs mix      | assembly/drain.ts    | servedBy
 *   D7   | the own bits cleared                              | assembly/drain.ts    | clear
 *   M1   | mask cleared                                      | assembly/mask.ts     | clearMask
 *   M2   | pending looked at, then raised as by a sender     | assembly/mask.ts     | clearMask
 *   M3   | mask set                                          | assembly/mask.ts     | setMask
 *   G1   | group mixed                                       | assembly/port.ts     | bindVcpu
 *   G2   | table written                                     | assembly/port.ts     | bindVcpu
 *   G3   | group uniform again, if it is                     | assembly/port.ts     | isUniform
 *   G4   | pending looked at, then mask                      | assembly/port.ts     | tellNewVcpu
 *   W1   | sleeping flag set                                 | assembly/sleep.ts    | sleepBegin
 *   W2   | selector looked at again                          | assembly/sleep.ts    | look
 *   W3   | flag read, and slept on while it stands           | assembly/sleep.ts    | sleepOn
 *   W4   | selector looked at, flag cleared                  | assembly/sleep.ts    | sleepEnd
 *
 * What a caller writes for an event lies in its store buffer until a read-modify-write of its own (or any time later).
 *
 * GUEST    the vCPU goes by the upcall byte, as a guest does; else it sleeps and goes by the selector
 * NV       vCPUs, 1 or 2          SENDS  sends of each sender, 1 by default
 * SAME_WORD   both ports in one word         SAME_PORT  the one port that both senders send
 * UNBOUND  the ports are bound to no vCPU, and each sender names the vCPU with its number; else they are bound to vCPU 0
 * MASKED   port 0 is masked at first, then unmasked, masked and unmasked; UNMASK_ONLY: only unmasked
 * CLOSED   port 0 is masked all the time
 * BIND     port 0 moves to vCPU 1; BIND_BACK: and back again
 * ONE_SENDER  sender 0 only
 * BATCH    sender 0 sends both ports in one batch
 */

#ifndef NV
#define NV 1
#endif
#ifndef SENDS
#define SENDS 1
#endif

#ifdef SAME_WORD
#define WORD(p) 0
#define NW 1
#else
#define WORD(p) (p)
#define NW 2
#endif
#ifdef SAME_PORT
#define PORT(s) SAME_PORT
#else
#define PORT(s) (s)
#endif
#ifdef UNBOUND
#define ENTRY 0
#else
#define ENTRY 1
#endif
#define MIXED 9
#define BIT(n) (1 << (n))

byte pend[2], msk[2];           /* words of shared_info, a bit per port */
byte table[2] = ENTRY;          /* by port: 0 unbound, else the vCPU plus 1 */
byte group[2] = ENTRY;          /* by word */
byte sel[2];                    /* by vCPU, a bit per word */
bool upcall[2], flag[2];        /* upcall byte, sleeping flag */

byte written[2], visible[2];    /* payloads of a sender: how many it wrote, how many have left its store buffer */
byte seen[4];                   /* by port and sender: what the port's last handler saw of them */
bool asleep[2], idle[2];        /* in the wait; a guest between two upcalls */
byte sets[2], handled[2], raised[2], extra[2];
bool opened[2];                 /* not masked, at some time */
byte binds, began[2];           /* moves of port 0; how many there were when a scan began */
byte done;

#define FLUSH(s) visible[s] = written[s]

inline setPending(p) {
  pend[WORD(p)] = pend[WORD(p)] | BIT(p);
  sets[p]++
}

/* Each upcall has a pending bit that became set, an unmask or a bind of its own; none is for a port that was always masked. [R2] */
inline countRaise(p) {
  raised[p]++;
  assert(sets[p] > 0 && opened[p] && raised[p] <= sets[p] + extra[p])
}

inline wake() {
  if                                                              /* K1 */
  :: !flag[v]
  :: flag[v] ->
#ifdef NOTIFY_FIRST
     asleep[v] = false;
     flag[v] = false
#else
     if
     :: d_step { flag[v] -> flag[v] = false } ->                  /* K2 */
#ifndef NO_NOTIFY
        asleep[v] = false                                         /* K3 */
#else
        skip
#endif
     :: !flag[v]
     fi
#endif
  fi
}

inline raise(bits) {
  if
  :: (sel[v] & (bits)) == (bits)                                  /* U1 */
  :: (sel[v] & (bits)) != (bits) ->
#ifdef BYTE_BEFORE_SELECTOR
     upcall[v] = true;
#endif
     if
     :: d_step { (sel[v] & (bits)) == (bits) -> skip }            /* U2 */
     :: d_step { (sel[v] & (bits)) != (bits) -> sel[v] = sel[v] | (bits) } ->
#ifndef BYTE_BEFORE_SELECTOR
        upcall[v] = true;                                         /* U3 */
#endif
        wake()
     fi
  fi
}

/* Events of a batch, and ports that are unmasked, name no vCPU: then it is vCPU 0. */
#define OWNER(p) (table[p] == 0 -> 0 : table[p] - 1)
#define OWNER_OR(p, named) (table[p] == 0 -> (NV == 1 -> 0 : named) : table[p] - 1)

inline raisePort(p) {
#ifndef LOOKUP_BEFORE_PENDING
  v = OWNER_OR(p, s);                                             /* S3 */
#endif
#ifdef SELECTOR_BEFORE_PENDING
  if :: early -> goto sent :: else fi;
#endif
  d_step { countRaise(p) };
  raise(BIT(WORD(p)))
}

proctype sender(byte s) {
  byte v, n, m;
  bool early;
  do
  :: n < SENDS ->
     d_step { n++; written[s]++; early = false };
#ifdef MASK_BEFORE_PENDING
     m = msk[WORD(PORT(s))] & BIT(PORT(s));
#endif
#ifdef LOOKUP_BEFORE_PENDING
     v = OWNER_OR(PORT(s), s);
#endif
#ifdef SELECTOR_BEFORE_PENDING
     early = sel[OWNER_OR(PORT(s), s)] & BIT(WORD(PORT(s)));
#endif
#ifdef NO_BARRIER
     if
     :: pend[WORD(PORT(s))] & BIT(PORT(s)) -> goto sent
     :: else
     fi;
#endif
     if
     :: d_step { pend[WORD(PORT(s))] & BIT(PORT(s)) -> FLUSH(s) } -> goto sent   /* S1 */
     :: d_step { !(pend[WORD(PORT(s))] & BIT(PORT(s))) -> FLUSH(s); setPending(PORT(s)) }
     fi;
#ifndef MASK_BEFORE_PENDING
     m = msk[WORD(PORT(s))] & BIT(PORT(s));                       /* S2 */
#endif
#ifndef SEND_IGNORES_MASK
     if
     :: m -> goto sent
     :: else
     fi;
#endif
     raisePort(PORT(s));
sent:
     FLUSH(s)
  :: else -> break
  od;
  done++
}

#ifdef BATCH
/* Both ports in one call: as `runs` and `raiseGathered`, which differ in how they gather only. */
proctype batch() {
  byte v, w, bits, fresh, own, n, e;
  byte to = MIXED, owed, chosen;
  do
  :: n < SENDS ->
     d_step { n++; written[0]++; to = MIXED; owed = 0; w = 0 };
#ifndef BATCH_NO_BARRIER
     FLUSH(0);                                                    /* B1 */
#endif
     do
     :: w < NW ->
        bits = (NW == 1 -> 3 : BIT(w));
#ifdef BATCH_SELECTOR_FIRST
        v = OWNER(w);
        raise(BIT(w));
#endif
        if
        :: (pend[w] & bits) == bits -> goto next                  /* B2 */
        :: (pend[w] & bits) != bits
        fi;
        d_step {                                                  /* B3 */
          fresh = bits & ~pend[w];
          if :: fresh & 1 -> setPending(0) :: else fi;
          if :: fresh & 2 -> setPending(1) :: else fi;
          FLUSH(0)
        };
        fresh = fresh & ~msk[w];                                  /* B4 */
        if :: !fresh -> goto next :: else fi;
        d_step { if :: fresh & 1 -> countRaise(0) :: else fi; if :: fresh & 2 -> countRaise(1) :: else fi };
        e = group[w];                                             /* B5 */
        if
        :: e != MIXED -> own = (e == 0 -> 0 : e - 1)
        :: else ->
           chosen = MIXED;
           if
           :: fresh & 1 -> chosen = OWNER(0)
           :: else
           fi;
           if
           :: fresh & 2 ->
              own = OWNER(1);
              if
              :: chosen != MIXED && chosen != own -> v = chosen; raise(BIT(w))
              :: else
              fi
           :: else -> own = chosen
           fi
        fi;
        if
        :: own != to ->
           if :: to != MIXED -> v = to; raise(owed) :: else fi;
           d_step { to = own; owed = 0 }
        :: else
        fi;
        owed = owed | BIT(w);
next:
        w++
     :: else -> break
     od;
#ifndef BATCH_SELECTOR_FIRST
     if :: to != MIXED -> v = to; raise(owed) :: else fi;         /* B6 */
#endif
     FLUSH(0)
  :: else -> break
  od;
  done++
}
#endif

/* What a handler sees: the payloads that have left the store buffers. [R1, R2] */
inline handle1(p) {
  seen[2 * p] = visible[0];
  seen[2 * p + 1] = visible[1];
  handled[p]++;
  assert(handled[p] <= sets[p]);
  assert(table[p] == 0 || table[p] == v + 1 || began[v] != binds)
}

inline handle(bits) {
  if :: (bits) & 1 -> handle1(0) :: else fi;
  if :: (bits) & 2 -> handle1(1) :: else fi
}

#ifdef DRAIN_LISTS_WHAT_IT_SAW
#define CLEARED(w) own
#else
#define CLEARED(w) (own & pend[w])
#endif

inline clearOwn(w) {
  if
  :: own ->
#ifdef DRAIN_CLEARS_ALL
     d_step { handle(CLEARED(w)); pend[w] = 0 }
#else
     d_step { handle(CLEARED(w)); pend[w] = pend[w] & ~own }      /* D7 */
#endif
  :: else
  fi
}

inline drain() {
#ifdef SELECTOR_BEFORE_BYTE
  d_step { s = sel[v]; sel[v] = 0; began[v] = binds };
  d_step { upcall[v] = false; w = 0 };
#else
  d_step { upcall[v] = false; began[v] = binds; w = 0 };          /* D1 */
#ifdef SELECTOR_IN_TWO
  s = sel[v];
  sel[v] = 0;
#else
  d_step { s = sel[v]; sel[v] = 0 };                              /* D2 */
#endif
#endif
  do
  :: w < NW ->
     if
     :: s & BIT(w) ->
        m = msk[w];                                               /* D3 */
        e = group[w];                                             /* D4 */
#ifdef DRAIN_IGNORES_OWNER
        e = 0;
#endif
        if
        :: e == 0 || e == v + 1 ->
           if
           :: m == 0 ->
#ifdef PENDING_IN_TWO
              own = pend[w];
              d_step { handle(own); pend[w] = 0 }
#else
              d_step { own = pend[w]; handle(own); pend[w] = 0 }  /* D5 */
#endif
           :: else ->
              own = pend[w] & ~m;
              clearOwn(w)
           fi
        :: e == MIXED ->
           own = pend[w] & ~m;
           if
           :: own & 1 ->
              if
              :: table[0] == 0 || table[0] == v + 1               /* D6 */
              :: else -> own = own & ~1
              fi
           :: else
           fi;
           if
           :: own & 2 ->
              if
              :: table[1] == 0 || table[1] == v + 1
              :: else -> own = own & ~2
              fi
           :: else
           fi;
           clearOwn(w)
        :: else
        fi
     :: else
     fi;
     atomic { w++; own = 0; m = 0; e = 0 }
  :: else -> break
  od;
  atomic { s = 0; w = 0 }
}

#ifdef GUEST
proctype vcpu(byte v) {
  byte s, w, m, e, own;
end:
  do
  :: d_step { upcall[v] -> idle[v] = false } ->
     drain();
     idle[v] = true
  od
}
#define quiet(v) (idle[v] && !upcall[v])
#else
proctype vcpu(byte v) {
  byte s, w, m, e, own;
  do
  :: drain();
begin:
#ifdef FLAG_AFTER_LOOK
     if
     :: sel[v] -> goto again
     :: else
     fi;
     flag[v] = true;
#else
     flag[v] = true;                                              /* W1 */
#ifndef NO_SECOND_LOOK
     if
     :: sel[v] -> flag[v] = false; goto again                     /* W2 */
     :: else
     fi;
#endif
#endif
     if
     :: !flag[v] -> goto woken                                    /* W3 */
     :: flag[v]
     fi;
#ifdef WAIT_WITHOUT_COMPARE
     asleep[v] = true;
#else
     if
     :: d_step { flag[v] -> asleep[v] = true }
     :: !flag[v] -> goto woken
     fi;
#endif
end: !asleep[v];
woken:
     if
     :: sel[v] -> flag[v] = false                                 /* W4 */
     :: else -> flag[v] = false; goto begin
     fi;
again:
     skip
  od
}
#define quiet(v) asleep[v]
#endif

#if defined(MASKED) || defined(UNMASK_ONLY)
inline unmask() {
#ifdef UNMASK_LOOK_FIRST
  early = pend[0] & 1;
#endif
  d_step { msk[0] = msk[0] & ~1; opened[0] = true };              /* M1 */
#ifdef UNMASK_NO_LOOK
  skip
#else
  if
#ifdef UNMASK_LOOK_FIRST
  :: early ->
#elif defined(UNMASK_ALWAYS_RAISES)
  :: true ->
#else
  :: pend[0] & 1 ->                                               /* M2 */
#endif
     v = OWNER(0);
     d_step { extra[0]++; countRaise(0) };
     raise(1)
#ifndef UNMASK_ALWAYS_RAISES
  :: else
#endif
  fi
#endif
}

proctype masker() {
  byte v;
  bool early;
  unmask();
#ifdef MASKED
  msk[0] = msk[0] | 1;                                            /* M3 */
  unmask();
#endif
  done++
}
#define MASKERS 1
#else
#define MASKERS 0
#endif

#ifdef BIND
inline bind(to) {
#ifdef BIND_LOOK_FIRST
  early = pend[0] & 1;
#endif
#ifdef BIND_MIXED_LATE
  d_step { table[0] = to + 1; binds++ };
  group[0] = MIXED;
#else
  group[0] = MIXED;                                               /* G1 */
  d_step { table[0] = to + 1; binds++ };                          /* G2 */
#endif
  if                                                              /* G3 */
  :: NW == 2 || table[1] == to + 1 -> group[0] = to + 1
  :: else
  fi;
#ifndef BIND_NO_LOOK
  if
#ifdef BIND_LOOK_FIRST
  :: !early
#else
  :: !(pend[0] & 1)                                               /* G4 */
#endif
  :: else ->
     if
     :: msk[0] & 1
     :: else ->
        v = to;
        d_step { extra[0]++; countRaise(0) };
        raise(1)
     fi
  fi
#endif
}

proctype binder() {
  byte v;
  bool early;
  bind(1);
#ifdef BIND_BACK
  bind(0);
#endif
  done++
}
#define BINDERS 1
#else
#define BINDERS 0
#endif

#define held(p) (msk[WORD(p)] & BIT(p))

init {
  byte i;
  atomic {
    idle[0] = true;
    idle[1] = true;
    opened[0] = true;
    opened[1] = true;
#if defined(MASKED) || defined(CLOSED) || defined(UNMASK_ONLY)
    msk[0] = 1;
    opened[0] = false;
#endif
    run vcpu(0);
#if NV == 2
    run vcpu(1);
#endif
#ifdef BATCH
    run batch();
#else
    run sender(0);
#endif
#ifdef ONE_SENDER
    done++;
#else
    run sender(1);
#endif
#if MASKERS
    run masker();
#endif
#if BINDERS
    run binder();
#endif
  }
  done == 2 + MASKERS + BINDERS && quiet(0) && (NV == 1 || quiet(1));
  /* Nothing that may be handled is left, and every payload was seen by a handler of its port. [R1] */
  assert((!(pend[WORD(0)] & 1) || held(0)) && (!(pend[WORD(1)] & 2) || held(1)));
#ifdef BATCH
  assert((held(0) || seen[0] == written[0]) && (held(1) || seen[2] == written[0]));
#else
  assert(held(PORT(0)) || seen[2 * PORT(0)] == written[0]);
#endif
  assert(held(PORT(1)) || seen[2 * PORT(1) + 1] == written[1]);
  d_step { idle[0] = false; idle[1] = false }
}
