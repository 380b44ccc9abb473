// What passed between a guest and the engine: counted while it runs, shown when it has ended.

import type { Observer } from '../../src/v86/index.ts';

/** Names of the hypercalls that a guest of this kind may make, and of their commands. */
const NAMES: Readonly<Record<number, readonly [string, Readonly<Record<number, string>>]>> = {
  12: ['memory_op', { 7: 'add_to_physmap' }],
  15: ['set_timer_op', {}],
  17: ['xen_version', { 0: 'version', 1: 'extraversion', 6: 'get_features', 8: 'guest_handle' }],
  18: ['console_io', {}],
  20: ['grant_table_op', { 6: 'query_size', 8: 'set_version' }],
  21: ['vm_assist', {}],
  24: [
    'vcpu_op',
    {
      5: 'register_runstate_memory_area',
      6: 'set_periodic_timer',
      7: 'stop_periodic_timer',
      8: 'set_singleshot_timer',
      9: 'stop_singleshot_timer',
      10: 'register_vcpu_info',
      13: 'register_vcpu_time_memory_area',
    },
  ],
  29: ['sched_op', { 0: 'yield', 1: 'block', 2: 'shutdown', 3: 'poll' }],
  32: [
    'event_channel_op',
    {
      0: 'bind_interdomain',
      1: 'bind_virq',
      2: 'bind_pirq',
      3: 'close',
      4: 'send',
      5: 'status',
      6: 'alloc_unbound',
      7: 'bind_ipi',
      8: 'bind_vcpu',
      9: 'unmask',
      10: 'reset',
      11: 'init_control',
      12: 'expand_array',
      13: 'set_priority',
    },
  ],
  34: ['hvm_op', { 0: 'set_param', 1: 'get_param', 9: 'pagetable_dying', 23: 'set_evtchn_upcall_vector' }],
};

const ENOSYS = 38;

/** One line of the report. */
export interface HypercallCount {
  readonly name: string;
  readonly count: number;
  /** how many of them were answered with -ENOSYS, and with another error */
  readonly unknown: number;
  readonly failed: number;
}

/** ms from when an upcall was asked for to when the guest got its vector. */
export interface Latency {
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

/** Watches one machine. */
export class Statistics implements Observer {
  upcalls = 0;
  readonly #counts = new Map<string, { count: number; unknown: number; failed: number }>();
  readonly #latencies: number[] = [];
  #pendingSince: number | null = null;

  hypercall(number: number, params: readonly number[], result: number): void {
    const [name, commands] = NAMES[number] ?? [`hypercall ${number}`, {}];
    const command = commands[params[0] ?? -1];
    const full = command === undefined ? name : `${name}: ${command}`;
    const entry = this.#counts.get(full) ?? { count: 0, unknown: 0, failed: 0 };
    this.#counts.set(full, entry);
    entry.count++;
    if (result === -ENOSYS) entry.unknown++;
    else if (result < 0 && result > -4096) entry.failed++;
  }

  pending(): void {
    this.#pendingSince ??= performance.now();
  }

  inject(): void {
    this.upcalls++;
    if (this.#pendingSince !== null) this.#latencies.push(performance.now() - this.#pendingSince);
    this.#pendingSince = null;
  }

  /** All of them, the most frequent first. */
  get hypercalls(): HypercallCount[] {
    const all = [...this.#counts].map(([name, counts]) => ({ name, ...counts }));
    return all.sort((a, b) => b.count - a.count || a.name.localeCompare(b.name));
  }

  get total(): number {
    return this.hypercalls.reduce((sum, { count }) => sum + count, 0);
  }

  /** How often a hypercall was made, by the name that the report shows. */
  count(name: string): number {
    return this.#counts.get(name)?.count ?? 0;
  }

  get latency(): Latency | null {
    const sorted = [...this.#latencies].sort((a, b) => a - b);
    const at = (part: number): number => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0;
    return sorted.length === 0 ? null : { p50: at(0.5), p99: at(0.99), max: at(1) };
  }
}
