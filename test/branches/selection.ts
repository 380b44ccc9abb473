// The tests that run on kernels with counters: the quick ones that together reach every branch.

export const TESTS = [
  'test/branches/races.test.ts',
  'test/branches/corners.test.ts',
  'test/branches/platform.test.ts',
  'test/spec/batch.test.ts',
  'test/spec/binding.test.ts',
  'test/spec/dirty_log.test.ts',
  'test/spec/event.test.ts',
  'test/spec/features.test.ts',
  'test/spec/gpc.test.ts',
  'test/spec/hostile.test.ts',
  'test/spec/lifecycle.test.ts',
  'test/spec/placement.test.ts',
  'test/spec/poll.test.ts',
  'test/spec/port_status.test.ts',
  'test/spec/runstate.test.ts',
  'test/spec/sched_poll.test.ts',
  'test/spec/upcall.test.ts',
  'test/spec/wallclock.test.ts',
];
