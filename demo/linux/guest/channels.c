/*
 * channels: what the guest's user space does with event channels and XenStore. A static 32-bit program without a C library.
 *
 *   channels loop N          N round trips over a loop-back channel of /dev/xen/evtchn
 *   channels pong N DOMID    offers a port to domain DOMID, tells it in XenStore, and answers N events
 *   channels ping N DOMID    finds that port, sends N events and waits for each answer
 *   channels get PATH        reads a node of XenStore
 *   channels put PATH VALUE  writes one
 *
 * program.ts has it compiled, by:  gcc -m32 -Os -static -nostdlib -ffreestanding -fno-pic -fno-stack-protector
 *   -fno-asynchronous-unwind-tables -Wl,--build-id=none -s
 */

typedef unsigned int u32;
typedef unsigned long long u64;

enum { SYS_exit = 1, SYS_read = 3, SYS_write = 4, SYS_open = 5, SYS_ioctl = 54, SYS_nanosleep = 162, SYS_poll = 168, SYS_clock_gettime = 265 };
enum { O_RDWR = 2, CLOCK_MONOTONIC = 1, POLLIN = 1 };
/* of linux/xen/evtchn.h */
enum { BIND_INTERDOMAIN = 0x00084501, BIND_UNBOUND_PORT = 0x00044502, NOTIFY = 0x00044504 };
enum { DOMID_SELF = 0x7ff0 };
enum { XS_READ = 2, XS_WRITE = 11, XS_ERROR = 16 };

static long call(long n, long a, long b, long c)
{
  long result;
  __asm__ volatile("int $0x80" : "=a"(result) : "0"(n), "b"(a), "c"(b), "d"(c) : "memory");
  return result;
}

static u32 length(const char *s)
{
  u32 n = 0;
  while (s[n]) n++;
  return n;
}

static int same(const char *a, const char *b)
{
  while (*a && *a == *b) a++, b++;
  return *a == *b;
}

/* GCC may call them. */
void *memcpy(void *to, const void *from, u32 n)
{
  char *t = to;
  const char *f = from;
  while (n--) *t++ = *f++;
  return to;
}
void *memset(void *to, int value, u32 n)
{
  char *t = to;
  while (n--) *t++ = value;
  return to;
}

static void print(const char *s) { call(SYS_write, 1, (long)s, length(s)); }

static char *decimal(u32 value, char *end)
{
  *--end = 0;
  do *--end = '0' + value % 10;
  while (value /= 10);
  return end;
}

static void print_number(u32 value)
{
  char text[12];
  print(decimal(value, text + sizeof text));
}

static u32 number(const char *s)
{
  u32 value = 0;
  while (*s >= '0' && *s <= '9') value = value * 10 + (*s++ - '0');
  return value;
}

static void fail(const char *what, long result)
{
  print("channels: ");
  print(what);
  print(" failed with ");
  print_number(-result);
  print("\n");
  call(SYS_exit, 1, 0, 0);
}

static long check(const char *what, long result)
{
  if (result < 0) fail(what, result);
  return result;
}

/* Microseconds; wraps around after an hour. */
static u32 now(void)
{
  struct { u32 seconds, nanoseconds; } t;
  call(SYS_clock_gettime, CLOCK_MONOTONIC, (long)&t, 0);
  return t.seconds * 1000000 + t.nanoseconds / 1000;
}

/* -- event channels -- */

static int events;

static void open_events(void) { events = check("opening /dev/xen/evtchn", call(SYS_open, (long)"/dev/xen/evtchn", O_RDWR, 0)); }

static u32 bind_unbound(u32 domid)
{
  return check("BIND_UNBOUND_PORT", call(SYS_ioctl, events, BIND_UNBOUND_PORT, (long)&domid));
}

static u32 bind_interdomain(u32 domid, u32 port)
{
  u32 to[2] = { domid, port };
  return check("BIND_INTERDOMAIN", call(SYS_ioctl, events, BIND_INTERDOMAIN, (long)to));
}

static void notify(u32 port) { check("NOTIFY", call(SYS_ioctl, events, NOTIFY, (long)&port)); }

/* Waits for an event; it has to be of this port. Writing the number back unmasks it. */
static void take(u32 port)
{
  u32 got = 0;
  check("reading an event", call(SYS_read, events, (long)&got, sizeof got));
  if (got != port) fail("an event of another port: it", -(long)got);
  check("unmasking", call(SYS_write, events, (long)&got, sizeof got));
}

/* Binding may leave the new port pending. */
static void take_first(u32 port)
{
  struct { int fd; short wanted, got; } waiting = { events, POLLIN, 0 };
  if (call(SYS_poll, (long)&waiting, 1, 50) > 0) take(port);
}

static void report(const char *name, u32 done, u32 wanted, u32 began)
{
  u32 took = now() - began;
  print(name);
  print_number(done);
  print(" of ");
  print_number(wanted);
  print(" us_per_roundtrip ");
  print_number(done ? took / done : 0);
  print("\n");
}

static void loop(u32 n)
{
  u32 done = 0;
  open_events();
  u32 there = bind_unbound(DOMID_SELF), here = bind_interdomain(DOMID_SELF, there);
  take_first(here);
  u32 began = now();
  for (; done < n; done++) {
    notify(there);
    take(here);
  }
  report("LOOP-DONE ", done, n, began);
}

/* -- XenStore -- */

static struct {
  u32 type, request, transaction, length;
  char text[1024];
} message;

/* The reply's text is in `message`, with a 0 behind it. @returns whether it is no error */
static int ask_store(u32 type, const char *path, const char *value)
{
  u32 path_length = length(path) + 1, value_length = value ? length(value) : 0, got = 0;
  long store = check("opening /dev/xen/xenbus", call(SYS_open, (long)"/dev/xen/xenbus", O_RDWR, 0));
  message.type = type;
  message.request = 1;
  message.transaction = 0;
  message.length = path_length + value_length;
  if (message.length > sizeof message.text) fail("a text that long:", -(long)message.length);
  memcpy(message.text, path, path_length);
  memcpy(message.text + path_length, value, value_length);
  check("writing to XenStore", call(SYS_write, store, (long)&message, 16 + message.length));
  message.length = 0;
  while (got < 16 || got < 16 + message.length)
    got += check("reading from XenStore", call(SYS_read, store, (long)&message + got, sizeof message - 1 - got));
  message.text[message.length] = 0;
  call(6, store, 0, 0);
  return message.type != XS_ERROR;
}

static char path[64];

static const char *port_path(const char *domid)
{
  u32 at = 0;
  const char *parts[] = { "/local/domain/", domid, "/data/channel" };
  for (u32 i = 0; i < 3; i++) {
    memcpy(path + at, parts[i], length(parts[i]));
    at += length(parts[i]);
  }
  path[at] = 0;
  return path;
}

static void pong(u32 n, const char *domid)
{
  char text[12];
  open_events();
  u32 port = bind_unbound(number(domid)), began = now(), done = 0;
  if (!ask_store(XS_WRITE, "data/channel", decimal(port, text + sizeof text))) fail("writing the port", 0);
  for (; done < n; done++) {
    take(port);
    notify(port);
  }
  report("PONG-DONE ", done, n, began);
}

static void ping(u32 n, const char *domid)
{
  struct { u32 seconds, nanoseconds; } pause = { 0, 50000000 };
  u32 done = 0;
  open_events();
  while (!ask_store(XS_READ, port_path(domid), 0)) call(SYS_nanosleep, (long)&pause, 0, 0);
  u32 port = bind_interdomain(number(domid), number(message.text));
  take_first(port);
  u32 began = now();
  for (; done < n; done++) {
    notify(port);
    take(port);
  }
  report("PING-DONE ", done, n, began);
}

static int run(int argc, char **argv)
{
  if (argc == 3 && same(argv[1], "loop")) loop(number(argv[2]));
  else if (argc == 4 && same(argv[1], "pong")) pong(number(argv[2]), argv[3]);
  else if (argc == 4 && same(argv[1], "ping")) ping(number(argv[2]), argv[3]);
  else if (argc == 3 && same(argv[1], "get")) {
    int ok = ask_store(XS_READ, argv[2], 0);
    print(message.text);
    print("\n");
    return !ok;
  } else if (argc == 4 && same(argv[1], "put")) return !ask_store(XS_WRITE, argv[2], argv[3]);
  else return 2;
  return 0;
}

__attribute__((used)) void begin(int *stack)
{
  call(SYS_exit, run(stack[0], (char **)(stack + 1)), 0, 0);
}

__asm__(".globl _start\n_start:\n  mov %esp, %eax\n  and $-16, %esp\n  sub $12, %esp\n  push %eax\n  call begin\n");
