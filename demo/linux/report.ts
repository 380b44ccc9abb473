// The report at the end of a run: what was found, what the guest asked for, what it was told and how fast.

import type { Finding, XenInterrupt } from './jobs.ts';
import type { HypercallCount, Latency, Statistics } from './statistics.ts';

/** What there is to say of one guest. */
export interface GuestReport {
  readonly domid: number;
  readonly abi: '2-level' | 'FIFO' | 'none';
  /** ms from start to shell */
  readonly readyMs: number;
  readonly interrupts: readonly XenInterrupt[];
  readonly hypercalls: readonly HypercallCount[];
  readonly upcalls: number;
  /** from pending to vector, ms */
  readonly latency: Latency | null;
  /** ports whose event did not arrive */
  readonly lost: readonly number[];
}

/** A whole run. */
export interface RunReport {
  readonly ok: boolean;
  readonly packages: readonly string[];
  readonly findings: readonly Finding[];
  readonly guests: readonly GuestReport[];
}

/** @returns what the statistics of a guest say */
export function statisticsReport(statistics: Statistics): Pick<GuestReport, 'hypercalls' | 'upcalls' | 'latency'> {
  return { hypercalls: statistics.hypercalls, upcalls: statistics.upcalls, latency: statistics.latency };
}

/** As lines of text. */
export function describe({ ok, findings, guests }: RunReport): string[] {
  return [
    ...guests.flatMap(describeGuest),
    '',
    ...findings.map(
      (finding) => `${finding.ok ? '  ok ' : 'FAIL '} ${finding.what}${finding.found && `: ${finding.found}`}`,
    ),
    '',
    ok ? 'All of it holds.' : 'Not all of it holds.',
  ];
}

function describeGuest(guest: GuestReport): string[] {
  const { latency } = guest;
  const micros = (ms: number): string => `${(ms * 1000).toFixed(1)} us`;
  const total = guest.hypercalls.reduce((sum, { count }) => sum + count, 0);
  return [
    '',
    `Domain ${guest.domid}: ${guest.abi} ABI, shell ready after ${(guest.readyMs / 1000).toFixed(1)} s`,
    '',
    `  ${total} hypercalls`,
    ...guest.hypercalls.map(
      ({ name, count, unknown, failed }) => `    ${String(count).padStart(7)}  ${name}${remark(unknown, failed)}`,
    ),
    '',
    `  ${guest.upcalls} upcalls${latency ? `, from pending to vector p50 ${micros(latency.p50)}, p99 ${micros(latency.p99)}` : ''}`,
    ...(guest.interrupts.length > 0 ? ['', '  events, as Linux has counted them'] : []),
    ...guest.interrupts.map(({ name, chip, count }) => `    ${String(count).padStart(7)}  ${name} (${chip})`),
    '',
    `  lost ${guest.lost.length}${guest.lost.length > 0 ? `: ports ${guest.lost.join(', ')}` : ''}`,
  ];
}

function remark(unknown: number, failed: number): string {
  const parts = [];
  if (unknown > 0) parts.push(`${unknown} answered -ENOSYS`);
  if (failed > 0) parts.push(`${failed} refused`);
  return parts.length > 0 ? ` (${parts.join(', ')})` : '';
}
