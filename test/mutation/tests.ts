// Which tests a mutant has to get past: first those of what it is in, then the quick ones, then the thorough ones.

const FIRST: Readonly<Record<string, readonly string[]>> = {
  batch: ['spec/batch', 'branches/races', 'spec/batch_listener'],
  bracket: ['branches/races', 'branches/corners', 'spec/explain'],
  dirty: ['spec/dirty_log', 'branches/corners'],
  drain: ['spec/drain', 'spec/binding'],
  gpc: ['spec/gpc', 'branches/corners', 'branches/races', 'spec/memory_faults', 'spec/historic_gpc'],
  layout: ['spec/wallclock', 'spec/batch'],
  mask: ['spec/port_status', 'spec/delivery'],
  memslots: ['spec/dirty_log', 'branches/corners', 'spec/snapshot_fields'],
  poll: ['spec/poll', 'spec/sched_poll'],
  port: ['spec/binding', 'spec/event', 'branches/corners'],
  pvclock: ['spec/wallclock', 'spec/kvmclock', 'spec/guest_clock', 'spec/clock', 'spec/alignment'],
  runstate: ['spec/runstate', 'branches/corners', 'branches/races', 'spec/runstate_copy', 'spec/runstate_attributes'],
  selector: ['spec/alignment', 'spec/away'],
  selftest: ['branches/platform', 'spec/platform'],
  send: ['spec/delivery', 'spec/event'],
  sleep: ['spec/sleep', 'spec/lifecycle', 'spec/away', 'spec/features', 'spec/agents'],
  upcall: ['spec/upcall', 'spec/shadow', 'branches/corners', 'spec/agents'],
};

const QUICK = [
  'branches/exact',
  'branches/corners',
  'branches/races',
  'spec/port_status',
  'spec/order',
  'spec/upcall',
  'spec/away',
  'spec/shadow',
  'spec/gpc',
  'spec/poll',
  'spec/drain',
  'spec/delivery',
  'spec/binding',
  'spec/event',
  'spec/runstate',
  'spec/sleep',
  'spec/dirty_log',
];

const THOROUGH = [
  'branches/platform',
  'interleave/interleave',
  'spec/batch',
  'spec/batch_listener',
  'spec/alignment',
  'spec/features',
  'spec/lifecycle',
  'spec/wallclock',
  'spec/kvmclock',
  'spec/runstate_copy',
  'spec/neighbours',
  'spec/placement',
  'spec/sched_poll',
  'spec/memory_faults',
  'spec/refresh',
  'spec/hostile',
  'spec/atomicity',
  'model/model',
  'spec/explain',
  'spec/bracket',
  'interleave/memory',
];

const FIFO = ['branches/fifo', 'branches/fifo_races', 'xen/fifo'];
const XEN_PORT = ['branches/xen_ports', 'xen/ports', 'xen/evtchn', 'xen/domains'];

/** The tests of what a file holds. */
function first(name: string): readonly string[] {
  if (name.startsWith('fifo_')) return FIFO;
  return name === 'xen_port' ? XEN_PORT : (FIRST[name] ?? []);
}

/** The files to run for a mutant of `file`, in this order; `thorough` or only the quick ones. */
export function testsFor(file: string, thorough: boolean): string[] {
  const name = file.replace(/^assembly\/|\.ts$/g, '');
  const all = [...first(name), ...QUICK, ...(thorough ? THOROUGH : [])];
  return [...new Set(all)].map((test) => `test/${test}.test.ts`);
}
