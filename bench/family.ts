// A process that measures one path and sends the report to its parent. Paths get a process each: `Vm.prototype.send` has
// one memory of what it has met, and a process that uses both kernels makes every later call slower than users see it.

import type { Report, Setting } from './report.ts';

export type Path = keyof typeof PATHS;

type Measure = (setting: Setting) => Report | Promise<Report>;

const PATHS = {
  send: async (): Promise<Measure> => (await import('./send.ts')).measure,
  single_agent: async (): Promise<Measure> => (await import('./single_agent.ts')).measure,
  batch: async (): Promise<Measure> => (await import('./batch.ts')).measure,
  drain: async (): Promise<Measure> => (await import('./drain.ts')).measure,
  fifo: async (): Promise<Measure> => (await import('./fifo.ts')).measure,
  edge: async (): Promise<Measure> => (await import('./edge.ts')).measure,
  growth: async (): Promise<Measure> => (await import('./growth.ts')).measure,
  runstate: async (): Promise<Measure> => (await import('./runstate.ts')).measure,
  two_cores: async (): Promise<Measure> => (await import('./two_cores.ts')).measure,
} as const;

if (process.send) {
  const [path, setting] = process.argv.slice(2) as [Path, string];
  const measure = await PATHS[path]();
  const report = await measure(JSON.parse(setting) as Setting);
  process.send(report, () => process.exit(0));
}
