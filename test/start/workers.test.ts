import { describe, expect, test } from 'vitest';
import { LEDGER_PAGES, Ledger, PORTS } from '../../demo/start/ledger.ts';
import { workerLines } from '../../demo/start/report.ts';
import { type HammerOptions, hammer } from '../../demo/start/workers.ts';
import { createVm } from '../../src/index.ts';

/** A worker file, which has to be the built one. */
const built = (path: string): URL => new URL(`../../dist/${path}.js`, import.meta.url);
const files = { sender: built('demo/start/sender'), receiver: built('demo/start/receiver') };

const small = (change: Partial<HammerOptions> = {}): HammerOptions => ({ ...files, sends: 30_000, ...change });

describe('two workers, one memory', () => {
  test.each(['sleeping', 'spinning'] as const)('R1 a %s receiver gets every event once', async (mode) => {
    const row = await hammer(mode, small());
    expect(row).toMatchObject({ mode, sends: 30_000, lost: 0, invented: 0, refused: 0, failure: null });
    expect(row.delivered + row.coalesced).toBe(row.sends);
    expect(row.drained).toBe(row.delivered);
    expect(row.upcalls).toBeGreaterThan(0);
    expect(row.eventsPerSecond).toBeGreaterThan(0);
    expect(workerLines([row])[0]?.ok).toBe(true);
  });

  test('a number of sends that is no multiple of a burst or a batch', async () => {
    expect(await hammer('sleeping', small({ sends: 1 }))).toMatchObject({
      sends: 1,
      delivered: 1,
      drained: 1,
      lost: 0,
    });
  });

  test('R1 an event that the receiver forgets is lost', async () => {
    const row = await hammer('spinning', small({ receiver: built('test/workers/forgetful_receiver'), stallMs: 2000 }));
    expect(row).toMatchObject({ lost: 1, invented: 0, failure: null });
    expect(row.drained).toBe(row.delivered - 1);
    const [line] = workerLines([row]);
    expect(line?.ok).toBe(false);
    expect(line?.text).toMatch(/^receiver spinning: lost 1, invented 0; the books do not balance: /);
  });

  test('a receiver that does nothing is a failure with a sentence, not a hang', async () => {
    const row = await hammer('sleeping', small({ receiver: built('test/workers/mute_receiver'), stallMs: 500 }));
    expect(row.failure).toMatch(/^nothing moved for 0.5 s: [\d,]+ sends, 0 events drained, [\d,]+ ports wait$/);
    expect(workerLines([row])[0]).toEqual({ ok: false, text: `receiver sleeping: ${row.failure}` });
  });

  test('a worker that throws is a failure with a sentence', async () => {
    const row = await hammer('sleeping', small({ receiver: built('test/workers/failing_receiver') }));
    expect(row.failure).toBe('the receiver failed: the test made me fail');
  });
});

describe('the ledger', () => {
  /** A VM with the books, and both sides in this thread. */
  function books() {
    const vm = createVm({ guestPages: 2 + LEDGER_PAGES });
    const ledger = new Ledger(vm);
    const vcpu = vm.vcpu(0);
    let delivered = 0;
    let drained = 0;
    return {
      ledger,
      send(port: number): void {
        ledger.publish(port);
        if (vm.send(port) === 1) delivered++;
      },
      drain(forget = 0): void {
        const count = vcpu.drain() - forget;
        ledger.record(vcpu.drained, count);
        drained += count;
      },
      settle: () => ledger.settle(delivered, drained),
    };
  }

  test('balances when every event was drained, coalesced ones with the one they joined', () => {
    const { send, drain, settle, ledger } = books();
    for (let port = 1; port <= PORTS; port++) send(port);
    send(7);
    drain();
    send(7);
    send(PORTS);
    drain();
    expect(ledger.stale()).toEqual([]);
    expect(settle()).toEqual({ lost: 0, invented: 0 });
  });

  test('finds an event that was never drained', () => {
    const { send, drain, settle, ledger } = books();
    send(7);
    drain();
    send(8);
    expect(ledger.stale()).toEqual([8]);
    expect(settle()).toEqual({ lost: 1, invented: 0 });
  });

  test('finds an event that a drain forgot although the port rang again later', () => {
    const { send, drain, settle, ledger } = books();
    send(7);
    drain(1);
    send(7);
    drain();
    expect(ledger.stale()).toEqual([]);
    expect(settle()).toEqual({ lost: 1, invented: 0 });
  });

  test('finds the last event of a port whose send was swallowed', () => {
    const { send, drain, settle, ledger } = books();
    send(7);
    drain();
    ledger.publish(7);
    expect(settle()).toEqual({ lost: 1, invented: 0 });
  });

  test('finds an event that was drained twice', () => {
    const { send, drain, settle } = books();
    send(7);
    drain(-1);
    expect(settle()).toEqual({ lost: 0, invented: 1 });
  });
});
