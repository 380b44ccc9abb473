// What the page needs of a machine that runs, wherever it runs.

import type { Vm } from '../../src/index.ts';
import type { Ledger } from './ledger.ts';
import type { Report } from './report.ts';

export interface Rig {
  readonly vm: Vm;
  readonly ledger: Ledger;
  /** Called once per frame, before the picture is drawn. */
  frame(now: number): void;
}

/** A worker of its own takes the same load as messages: the receiver of the event channels sleeps in the VM. */
export function startMailbox(port: MessagePort, report: (what: Report) => void): void {
  const mailbox = new Worker(new URL('./mailbox.ts', import.meta.url), { type: 'module', name: 'mailbox' });
  watch(mailbox, 'receiver of messages', report);
  mailbox.postMessage(port, [port]);
}

export function watch(worker: Worker, name: string, report: (what: Report) => void): void {
  worker.onerror = (event) =>
    report({ kind: 'failed', reason: `the ${name} failed: ${event.message ?? 'not loaded'}` });
}
