// The native peer: the protocol of assembly/ in C, over the same bytes, with the instructions that a kernel uses.
//
// KVM sets a bit with one "lock bts", which WebAssembly does not have, and does so for the selector without a look at it
// first. Loops are in here, one call per event that is not inlined, because a call from JavaScript to an addon costs more
// than an event. The offsets come from src/abi/ on the compiler's command line. Long mode only.

#include <node_api.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define NOINLINE __attribute__((noinline))
#define INLINE static inline __attribute__((always_inline))
#define PORTS (WORDS_LONG * 64)

typedef struct {
  uint8_t *mem;
  uint8_t *vm;
  uint8_t *agent;
  uint32_t vcpu;
} guest;

// ── primitives ──────────────────────────────────────────────────────────────────────────────────────────────────────

INLINE uint32_t load32(const uint8_t *p) { return __atomic_load_n((const uint32_t *)p, __ATOMIC_ACQUIRE); }
INLINE uint64_t load64(const uint8_t *p) { return __atomic_load_n((const uint64_t *)p, __ATOMIC_ACQUIRE); }
INLINE void release32(uint8_t *p, uint32_t v) { __atomic_store_n((uint32_t *)p, v, __ATOMIC_RELEASE); }
INLINE void release8(uint8_t *p, uint8_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
INLINE uint64_t take64(uint8_t *p) { return __atomic_exchange_n((uint64_t *)p, 0, __ATOMIC_SEQ_CST); }

/** Sets a bit of a word, returns what it was. */
INLINE bool test_and_set_bit(uint8_t *p, uint32_t bit) {
#ifdef __x86_64__
  bool old;
  __asm__ volatile("lock btsq %2, %1" : "=@ccc"(old), "+m"(*(volatile uint64_t *)p) : "r"((uint64_t)(bit & 63)) : "memory");
  return old;
#else
  uint64_t mask = 1ull << (bit & 63);
  return __atomic_fetch_or((uint64_t *)p, mask, __ATOMIC_SEQ_CST) & mask;
#endif
}

/** Clears a bit of a word, returns what it was. */
INLINE bool test_and_clear_bit(uint8_t *p, uint32_t bit) {
#ifdef __x86_64__
  bool old;
  __asm__ volatile("lock btrq %2, %1" : "=@ccc"(old), "+m"(*(volatile uint64_t *)p) : "r"((uint64_t)(bit & 63)) : "memory");
  return old;
#else
  uint64_t mask = 1ull << (bit & 63);
  return __atomic_fetch_and((uint64_t *)p, ~mask, __ATOMIC_SEQ_CST) & mask;
#endif
}

INLINE uint32_t enter(const guest *g) {
  uint32_t epoch = load32(g->agent + AGENT_READER);
  __atomic_exchange_n((uint32_t *)(g->agent + AGENT_READER), epoch + 1, __ATOMIC_SEQ_CST);
  return epoch + 2;
}

INLINE void leave(const guest *g, uint32_t epoch) { release32(g->agent + AGENT_READER, epoch); }

INLINE uint8_t *vcpu_line(const guest *g, uint32_t vcpu) { return g->vm + VCPU_LINES + (size_t)vcpu * VCPU_LINE_SIZE; }

// ── send ────────────────────────────────────────────────────────────────────────────────────────────────────────────

enum { SECTION = 1, LOOK_FIRST = 2, PLAIN = 4 };

INLINE bool set_bit(uint8_t *p, uint32_t bit, int how) {
  if (how & PLAIN) {
    uint64_t mask = 1ull << (bit & 63), old = *(uint64_t *)p;
    *(uint64_t *)p = old | mask;
    return old & mask;
  }
  return test_and_set_bit(p, bit);
}

INLINE int raise_upcall(const guest *g, uint32_t port, uint32_t index, int how) {
  uint8_t *line = vcpu_line(g, load32(g->vm + PORT_TABLE + 4 * (size_t)port) & PORT_VCPU_BITS);
  uint32_t info = load32(line + VCPU_INFO_GPC + GPC_WORD);
  if (info >= (uint32_t)GPC_UNMAPPED) return -EAGAIN;
  uint8_t *selector = g->mem + info + VCPU_INFO_SELECTOR_LONG;
  if (how & LOOK_FIRST && load64(selector) >> index & 1) return 1;
  if (!set_bit(selector, index, how)) {
    release8(g->mem + info + VCPU_INFO_UPCALL_PENDING, 1);
    if (load32(line + VCPU_KICK)) return -EAGAIN;
  }
  return 1;
}

INLINE int raise_port(const guest *g, uint32_t port, int how) {
  uint32_t word = load32(g->vm + REGION_SHARED_INFO + GPC_WORD);
  if (!(word & GPC_LONG_MODE) || port - 1 >= PORTS - 1) return -EINVAL;
  if (word >= (uint32_t)GPC_UNMAPPED) return -EAGAIN;
  uint32_t index = port >> 6;
  uint8_t *pending = g->mem + (word & ~GPC_LONG_MODE) + SHARED_INFO_PENDING + 8 * index;
  if (set_bit(pending, port, how)) return 0;
  if (load64(pending + SHARED_INFO_MASK_LONG - SHARED_INFO_PENDING) >> (port & 63) & 1) return -ENOTCONN;
  return raise_upcall(g, port, index, how);
}

INLINE int send_port(const guest *g, uint32_t port, int how) {
  if (!(how & SECTION)) return raise_port(g, port, how);
  uint32_t epoch = enter(g);
  int result = raise_port(g, port, how);
  leave(g, epoch);
  return result;
}

// A function for each way, so that nothing is decided at run time.
#define SEND(name, how)                                                                  \
  NOINLINE static int name(const guest *g, uint32_t port) { return send_port(g, port, how); } \
  static int name##_all(const guest *g, const uint32_t *ports, uint32_t n) {             \
    int sum = 0;                                                                         \
    for (uint32_t i = 0; i < n; i++) sum += name(g, ports[i]);                           \
    return sum;                                                                          \
  }
SEND(send_naive, 0)
SEND(send_section, SECTION)
SEND(send_look, LOOK_FIRST)
SEND(send_section_look, SECTION | LOOK_FIRST)
SEND(send_plain, PLAIN | LOOK_FIRST)

/** The list combined in a private bitmap, then one locked operation per touched word. */
static int send_combined(const guest *g, const uint32_t *ports, uint32_t n) {
  uint64_t plane[WORDS_LONG];
  uint32_t word = load32(g->vm + REGION_SHARED_INFO + GPC_WORD);
  uint8_t *pending = g->mem + (word & ~GPC_LONG_MODE) + SHARED_INFO_PENDING;
  int delivered = 0;
  uint32_t epoch = enter(g);
  memset(plane, 0, sizeof plane);
  for (uint32_t i = 0; i < n; i++)
    if (ports[i] - 1 < PORTS - 1) plane[ports[i] >> 6] |= 1ull << (ports[i] & 63);
  for (uint32_t index = 0; index < WORDS_LONG; index++) {
    uint8_t *p = pending + 8 * index;
    if (!plane[index]) continue;
    uint64_t old = __atomic_fetch_or((uint64_t *)p, plane[index], __ATOMIC_SEQ_CST);
    uint64_t live = plane[index] & ~old & ~load64(p + SHARED_INFO_MASK_LONG - SHARED_INFO_PENDING);
    if (!live) continue;
    delivered += __builtin_popcountll(live);
    raise_upcall(g, (index << 6) + __builtin_ctzll(live), index, LOOK_FIRST);
  }
  leave(g, epoch);
  return delivered;
}

// ── drain ───────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Clears what may be taken of a word, bit by bit as a guest does, or at once. */
INLINE uint64_t take_word(uint8_t *p, uint64_t mask, bool by_word) {
  if (by_word) {
    if (!mask) return take64(p);
    return __atomic_fetch_and((uint64_t *)p, mask, __ATOMIC_SEQ_CST) & ~mask;
  }
  uint64_t taken = 0;
  for (uint64_t rest = load64(p) & ~mask; rest; rest &= rest - 1) {
    uint32_t bit = __builtin_ctzll(rest);
    if (test_and_clear_bit(p, bit)) taken |= 1ull << bit;
  }
  return taken;
}

INLINE int drain_vcpu(const guest *g, uint32_t *out, bool by_word) {
  uint32_t *start = out;
  uint32_t epoch = enter(g);
  uint32_t word = load32(g->vm + REGION_SHARED_INFO + GPC_WORD);
  uint8_t *line = vcpu_line(g, g->vcpu);
  uint8_t *info = g->mem + load32(line + VCPU_INFO_GPC + GPC_WORD);
  uint8_t *pending = g->mem + (word & ~GPC_LONG_MODE) + SHARED_INFO_PENDING;
  release8(info + VCPU_INFO_UPCALL_PENDING, 0);
  uint64_t selector = take64(info + VCPU_INFO_SELECTOR_LONG);
  selector |= load32(line + VCPU_SHADOW_LO) | (uint64_t)load32(line + VCPU_SHADOW_HI) << 32;
  for (; selector; selector &= selector - 1) {
    uint32_t index = __builtin_ctzll(selector);
    uint8_t *p = pending + 8 * index;
    if (load32(g->vm + GROUP_OWNERS + 4 * index) != g->vcpu || !load64(p)) continue;
    uint64_t mask = load64(p + SHARED_INFO_MASK_LONG - SHARED_INFO_PENDING);
    for (uint64_t taken = take_word(p, mask, by_word); taken; taken &= taken - 1)
      *out++ = (index << 6) + __builtin_ctzll(taken);
  }
  leave(g, epoch);
  return out - start;
}

NOINLINE static int drain_by_bit(const guest *g, uint32_t *out) { return drain_vcpu(g, out, false); }
NOINLINE static int drain_by_word(const guest *g, uint32_t *out) { return drain_vcpu(g, out, true); }

// ── runstate ────────────────────────────────────────────────────────────────────────────────────────────────────────

typedef struct {
  uint32_t version, state;
  uint64_t entry_time, times[4], last_steal;
} record;

/** Accounts a transition under the version, then writes the guest's 48 bytes under the update marker. */
NOINLINE static int runstate_enter(const guest *g, record *r, uint8_t *area, int state, uint64_t now, uint64_t delay) {
  release32((uint8_t *)&r->version, r->version | 1);
  uint64_t delta = now - r->entry_time;
  if (r->state == 0) {
    uint64_t steal = delay - r->last_steal;
    delta -= steal;
    r->times[1] += steal;
  }
  r->last_steal = delay;
  r->times[r->state & 3] += delta;
  r->state = state;
  r->entry_time = now;
  release32((uint8_t *)&r->version, r->version + 1);
  uint32_t epoch = enter(g);
  uint8_t *marker = area + RUNSTATE_UPDATE_BYTE_LONG;
  release8(marker, (uint8_t)(now >> 56) | RUNSTATE_UPDATE_BIT);
  __atomic_thread_fence(__ATOMIC_RELEASE);
  uint64_t marked = now | (uint64_t)RUNSTATE_UPDATE_BIT << 56;
  memcpy(area + RUNSTATE_STATE, &r->state, 4);
  memcpy(area + RUNSTATE_ENTRY_TIME_LONG, &marked, 8);
  memcpy(area + RUNSTATE_TIMES_LONG, r->times, sizeof r->times);
  release8(marker, now >> 56);
  leave(g, epoch);
  return 0;
}

/** `n` transitions through the four states, 10 ns apart. The guest's area is at `mem + out`. */
static int runstate_all(const guest *g, uint8_t *area, uint32_t n) {
  record r = {0, 3, 0, {0, 0, 0, 0}, 0};
  for (uint32_t i = 1; i <= n; i++) runstate_enter(g, &r, area, i & 3, 10ull * i, i);
  return (int)(r.times[1] + r.times[2]);
}

// ── the door ────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Must name the operations in the order of OPERATIONS in bench/native.ts. */
enum { NOTHING, NAIVE, NAIVE_SECTION, LOOK, LOOK_SECTION, SINGLE_AGENT, COMBINED, BY_BIT, BY_WORD, RUNSTATE };

static int run(int operation, const guest *g, const uint32_t *ports, uint32_t n, uint8_t *out) {
  switch (operation) {
    case NAIVE: return send_naive_all(g, ports, n);
    case NAIVE_SECTION: return send_section_all(g, ports, n);
    case LOOK: return send_look_all(g, ports, n);
    case LOOK_SECTION: return send_section_look_all(g, ports, n);
    case SINGLE_AGENT: return send_plain_all(g, ports, n);
    case COMBINED: return send_combined(g, ports, n);
    case BY_BIT: return drain_by_bit(g, (uint32_t *)out);
    case BY_WORD: return drain_by_word(g, (uint32_t *)out);
    case RUNSTATE: return runstate_all(g, out, n);
  }
  return 0;
}

/** run(operation, memory: Uint8Array, targets: Uint32Array of [vm, agent, vcpu, out]*, ports: Int32Array): the sum */
static napi_value entry(napi_env env, napi_callback_info info) {
  size_t argc = 4, targets, n;
  napi_value argv[4], result;
  uint8_t *mem;
  uint32_t *places, *ports;
  int32_t operation, sum = 0;
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  napi_get_value_int32(env, argv[0], &operation);
  napi_get_typedarray_info(env, argv[1], NULL, NULL, (void **)&mem, NULL, NULL);
  napi_get_typedarray_info(env, argv[2], NULL, &targets, (void **)&places, NULL, NULL);
  napi_get_typedarray_info(env, argv[3], NULL, &n, (void **)&ports, NULL, NULL);
  for (size_t i = 0; i + 3 < targets; i += 4) {
    guest g = {mem, mem + places[i], mem + places[i + 1], places[i + 2]};
    sum += run(operation, &g, ports, n, mem + places[i + 3]);
  }
  napi_create_int32(env, sum, &result);
  return result;
}

NAPI_MODULE_INIT() {
  napi_value function;
  napi_create_function(env, "run", NAPI_AUTO_LENGTH, entry, NULL, &function);
  napi_set_named_property(env, exports, "run", function);
  return exports;
}
