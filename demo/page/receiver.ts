// Worker: the receiving side. Sleep until there is something, take it all, sleep again.

import { attachVm } from '../../src/index.ts';
import { Ledger, SPINS } from './ledger.ts';
import type { Setup } from './sender.ts';

addEventListener(
  'message',
  ({ data }: MessageEvent<Omit<Setup, 'mailbox'>>) => {
    const vcpu = attachVm(data.handle).vcpu(0);
    const ledger = new Ledger(data.ledger);
    while (vcpu.wait(undefined, ledger.get(SPINS)) !== 'closed') {
      const n = vcpu.drain();
      ledger.receive(vcpu.drained, n);
    }
  },
  { once: true },
);
