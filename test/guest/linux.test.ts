// An unmodified Debian kernel as a Xen guest in v86: it boots, uses its event channels, its clocks, its disk, and ends.
//
// The kernel is fetched with apt, once, into build/linux. Each boot takes a processor some ten seconds.

import { afterEach, describe, expect, test } from 'vitest';
import { bootGuest, type GuestOptions, type LinuxGuest, resumeGuest, type SavedGuest } from '../../demo/linux/guest.ts';
import {
  compareViews,
  type Finding,
  lookAround,
  loop,
  powerOff,
  ring,
  stuckPorts,
  useDisk,
  xenInterrupts,
} from '../../demo/linux/jobs.ts';
import { bootFiles } from '../../demo/linux/run.ts';
import { Store } from '../../demo/linux/store.ts';
import { loadV86 } from '../../demo/linux/v86.ts';
import { createXen } from '../../src/xen/index.ts';

const CACHE = 'build/linux';
/** A guest has as much time as a slow machine needs: nothing here is about speed. */
const PATIENCE = 300_000;
const DISK_BYTES = 16 << 20;

type World = Pick<GuestOptions, 'v86' | 'xen' | 'store'>;

async function world(): Promise<World> {
  return { v86: await loadV86(CACHE), xen: createXen(), store: new Store() };
}

const running: LinuxGuest[] = [];
afterEach(async () => {
  for (const { machine } of running.splice(0)) await machine.destroy();
}, PATIENCE);

/** Boots a guest, or goes on with a saved one, in a world of its own unless one is given; it is stopped when the test ends. */
async function start(
  options: Pick<GuestOptions, 'fifo' | 'nopv' | 'disk'> & { readonly domid?: number; readonly within?: World },
  saved?: SavedGuest,
): Promise<LinuxGuest> {
  const { within, domid = 1, ...rest } = options;
  const all: GuestOptions = { ...(within ?? (await world())), domid, ...rest };
  const guest = saved ? await resumeGuest(all, saved) : await bootGuest(all, files(rest.disk != null));
  running.push(guest);
  return guest;
}

/** Fails with the first sentence that says what is wrong, if it cannot be fetched. */
const files = (disk: boolean) => bootFiles(CACHE, disk, console.log);

function expectAll(findings: readonly Finding[]): void {
  expect(findings.filter(({ ok }) => !ok)).toEqual([]);
}

/** What both ABIs have to show. */
async function exercise(guest: LinuxGuest, fifo: boolean): Promise<void> {
  expectAll(await lookAround(guest, fifo));
  expectAll([await loop(guest, 5000)]);
  expectAll(await useDisk(guest, 6));
  const events = await xenInterrupts(guest);
  expect(events.find(({ name }) => name === 'blkif')?.count).toBeGreaterThan(0);
  expect(guest.statistics.count('event_channel_op: send')).toBeGreaterThan(5000);
  expect(await stuckPorts(guest)).toEqual([]);
}

describe('Linux on the engine', () => {
  test('XE-BT-20, XE-BT-21, XE-CB-03, XE-RG-07 2-level: boots, 5000 of 5000 events, disk, VIRQ_DEBUG, power-off', {
    timeout: PATIENCE,
  }, async () => {
    const guest = await start({ disk: new Uint8Array(DISK_BYTES) });
    expect(guest.machine.domain.fifo.active).toBe(false);
    await exercise(guest, false);
    expectAll(await compareViews(guest));
    expectAll([await powerOff(guest)]);
  });

  let saved: SavedGuest;

  test('XE-OP-120, XE-OP-124, XE-FF-72 FIFO: boots, is saved and goes on, 5000 of 5000 events, disk, power-off', {
    timeout: PATIENCE,
  }, async () => {
    const guest = await start({ fifo: true, disk: new Uint8Array(DISK_BYTES) });
    expect(guest.machine.domain.fifo.active).toBe(true);
    saved = await guest.save();
    await guest.machine.run();
    await exercise(guest, true);
    expectAll([await powerOff(guest)]);
  });

  test('R13 the guest that was saved goes on in a new machine: the same again', {
    timeout: PATIENCE,
  }, async () => {
    const guest = await start({}, saved);
    expect(guest.machine.domain.fifo.active).toBe(true);
    await exercise(guest, true);
    expectAll([await powerOff(guest)]);
  });

  test('XE-OP-20 two guests, one of each ABI, ring each other: 500 of 500', { timeout: PATIENCE }, async () => {
    const within = await world();
    const [pong, ping] = await Promise.all([start({ within, domid: 1 }), start({ within, domid: 2, fifo: true })]);
    expectAll([await ring(pong, ping, 500)]);
    for (const guest of [pong, ping]) {
      expect(await stuckPorts(guest)).toEqual([]);
      expectAll([await powerOff(guest)]);
    }
  });

  test('negative control: with xen_nopv Linux makes no hypercall and gets no upcall', {
    timeout: PATIENCE,
  }, async () => {
    const guest = await start({ nopv: true });
    const { output } = await guest.command('cat /sys/devices/system/clockevents/clockevent0/current_device');
    expect(output.trim()).toBe('lapic');
    expect(guest.log).not.toContain('Hypervisor detected: Xen');
    expect([guest.statistics.total, guest.statistics.upcalls]).toEqual([0, 0]);
  });
});
