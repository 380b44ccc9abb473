// The page's own half of the two-worker machine: it makes the VM, starts the workers, and never waits.

import { createVm } from '../../src/index.ts';
import { Ledger } from './ledger.ts';
import type { Report } from './report.ts';
import { type Rig, startMailbox, watch } from './rig.ts';
import type { Setup } from './sender.ts';

export function startTwoWorkers(report: (what: Report) => void): Rig {
  const vm = createVm();
  const ledger = new Ledger(new SharedArrayBuffer(Ledger.bytes));
  const messages = new MessageChannel();
  const sender = new Worker(new URL('./sender.ts', import.meta.url), { type: 'module', name: 'sender' });
  const receiver = new Worker(new URL('./receiver.ts', import.meta.url), { type: 'module', name: 'receiver' });
  sender.onmessage = ({ data }: MessageEvent<Report>) => report(data);
  watch(sender, 'sender', report);
  watch(receiver, 'receiver', report);
  startMailbox(messages.port2, report);

  const handle = vm.handle();
  const shared = ledger.words.buffer as SharedArrayBuffer;
  receiver.postMessage({ handle, ledger: shared } satisfies Omit<Setup, 'mailbox'>);
  sender.postMessage({ handle, ledger: shared, mailbox: messages.port1 } satisfies Setup, [messages.port1]);
  return { vm, ledger, frame: () => {} };
}
