// One run of the demo: guests are made, do their jobs, and are reported on.

import { readFileSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { deserialize, serialize } from 'node:v8';
import { gunzipSync, gzipSync } from 'node:zlib';
import { createXen, type Xen } from '../../src/xen/index.ts';
import {
  type BootFiles,
  bootGuest,
  type GuestOptions,
  type LinuxGuest,
  resumeGuest,
  type SavedGuest,
} from './guest.ts';
import { initramfs } from './initramfs.ts';
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
} from './jobs.ts';
import { fetchPackages } from './packages.ts';
import { describe, type GuestReport, type RunReport, statisticsReport } from './report.ts';
import { Store } from './store.ts';
import { type LoadedV86, loadV86 } from './v86.ts';

export interface RunOptions {
  /** folder for what is fetched and made once */
  readonly cache: string;
  readonly fifo: boolean;
  readonly disk: boolean;
  readonly two: boolean;
  readonly nopv: boolean;
  readonly shell: boolean;
  readonly verbose: boolean;
  /** pairs of boots whose times are compared */
  readonly compare: number;
  readonly trips: number;
  readonly save: string | null;
  readonly load: string | null;
  /** what to boot instead of what apt fetches */
  readonly own: BootFiles | null;
  readonly print: (text: string) => void;
}

const DISK_BYTES = 16 << 20;
const DISK_MEGABYTES = 6;
const RING_TRIPS = 500;

/** Throws NoPackages when the guest's software cannot be had. */
export async function run(options: RunOptions): Promise<RunReport> {
  const say = (line: string): void => options.print(`${line}\n`);
  const report = await guests(options, say);
  for (const line of describe(report)) say(line);
  return report;
}

async function guests(options: RunOptions, say: (line: string) => void): Promise<RunReport> {
  const v86 = await loadV86(options.cache);
  const world = { v86, xen: createXen(), store: new Store() };
  if (options.load !== null) return goOn(options, world);
  const packages = options.own === null ? fetchPackages(options.cache, say) : null;
  const files = options.own ?? bootFiles(options.cache, options.disk, say);
  if (options.compare > 0) return compare(options, v86, files, options.compare);
  if (options.two) return twoGuests(options, world, files);
  const began = performance.now();
  const guest = await bootGuest(guestOptions(options, world, 1, options.fifo), files, options.own === null);
  return oneGuest(options, guest, performance.now() - began, packages?.packages ?? []);
}

/** What apt has fetched, with a root file system for the demo. Throws NoPackages. */
export function bootFiles(cache: string, disk: boolean, say: (line: string) => void): BootFiles {
  const files = fetchPackages(cache, say);
  return {
    kernel: readFileSync(files.kernel),
    bios: readFileSync(files.bios),
    vgaBios: readFileSync(files.vgaBios),
    initrd: initramfs(files, disk),
  };
}

type World = Pick<GuestOptions, 'v86' | 'store'> & { readonly xen: Xen };

function guestOptions(options: RunOptions, world: World, domid: number, fifo: boolean): GuestOptions {
  const { nopv, verbose, print } = options;
  return { ...world, domid, fifo, nopv, verbose, print, disk: options.disk ? new Uint8Array(DISK_BYTES) : null };
}

/** Whole lines of a guest, with its number in front. */
function linesOf(domid: number, print: (text: string) => void): (text: string) => void {
  let line = '';
  return (text) => {
    const lines = (line + text).split('\n');
    line = lines.pop() ?? '';
    for (const whole of lines) print(`${domid}: ${whole.trimEnd()}\n`);
  };
}

/**
 * How long a boot takes with Xen, compared with the same machine whose hooks are asked and have nothing to say: in turns, so that
 * both meet the machine's ups and downs.
 */
async function compare(options: RunOptions, v86: LoadedV86, files: BootFiles, pairs: number): Promise<RunReport> {
  const boot = async (nopv: boolean): Promise<{ wall: number; cpu: number }> => {
    const world = { v86, xen: createXen(), store: new Store() };
    const [began, used] = [performance.now(), process.cpuUsage()];
    const guest = await bootGuest({ ...guestOptions(options, world, 1, options.fifo), nopv, print: () => {} }, files);
    const { user, system } = process.cpuUsage(used);
    const took = { wall: (performance.now() - began) / 1000, cpu: (user + system) / 1e6 };
    await guest.machine.destroy();
    return took;
  };
  const ratios: { wall: number; cpu: number }[] = [];
  for (let i = 0; i < pairs; i++) {
    const [idle, xen] = [await boot(true), await boot(false)];
    ratios.push({ wall: xen.wall / idle.wall, cpu: xen.cpu / idle.cpu });
    const seconds = (value: number): string => `${value.toFixed(1)} s`;
    options.print(
      `idle hooks ${seconds(idle.wall)} (processor ${seconds(idle.cpu)}), Xen ${seconds(xen.wall)} (${seconds(xen.cpu)})\n`,
    );
  }
  const median = (of: 'wall' | 'cpu'): string =>
    ([...ratios].sort((a, b) => a[of] - b[of])[Math.floor(ratios.length / 2)]?.[of] ?? 0).toFixed(2);
  const what = 'boot with Xen, compared with idle hooks';
  return finish(
    [],
    [{ what, ok: true, found: `${median('wall')} of the time, ${median('cpu')} of the processor` }],
    [],
  );
}

async function oneGuest(
  options: RunOptions,
  guest: LinuxGuest,
  readyMs: number,
  packages: readonly string[],
): Promise<RunReport> {
  const { fifo, nopv, save } = options;
  if (save !== null) {
    writeGuest(save, await guest.save());
    await guest.machine.run();
  }
  const findings: Finding[] = [];
  let rest: Pick<GuestReport, 'interrupts' | 'lost'> = { interrupts: [], lost: [] };
  if (options.shell || options.own !== null) await typeInto(guest);
  else if (nopv) findings.push(...(await nothingAsked(guest)));
  else {
    findings.push(...(await lookAround(guest, fifo)), await loop(guest, options.trips));
    if (!fifo) findings.push(...(await compareViews(guest)));
    if (options.disk) findings.push(...(await useDisk(guest, DISK_MEGABYTES)));
    rest = { interrupts: await xenInterrupts(guest), lost: await stuckPorts(guest) };
    findings.push(await powerOff(guest));
  }
  const abi = nopv ? 'none' : fifo ? 'FIFO' : '2-level';
  const guestReport = { domid: 1, abi, readyMs, ...rest, ...statisticsReport(guest.statistics) } as const;
  return finish(packages, findings, [guestReport]);
}

async function twoGuests(options: RunOptions, world: World, files: BootFiles): Promise<RunReport> {
  const began = performance.now();
  const both = await Promise.all([
    bootGuest({ ...guestOptions(options, world, 1, false), print: linesOf(1, options.print) }, files),
    bootGuest({ ...guestOptions(options, world, 2, true), print: linesOf(2, options.print) }, files),
  ]);
  const readyMs = performance.now() - began;
  const [pong, ping] = both;
  const findings = [
    await ring(pong, ping, RING_TRIPS),
    ...named('domain 1', await lookAround(pong, false)),
    ...named('domain 2', await lookAround(ping, true)),
  ];
  const reports: GuestReport[] = [];
  for (const [i, guest] of both.entries()) {
    const [interrupts, lost] = [await xenInterrupts(guest), await stuckPorts(guest)];
    findings.push(...named(`domain ${i + 1}`, [await powerOff(guest)]));
    const abi = i === 0 ? '2-level' : 'FIFO';
    reports.push({ domid: i + 1, abi, readyMs, interrupts, lost, ...statisticsReport(guest.statistics) });
  }
  return finish([], findings, reports);
}

function named(name: string, findings: readonly Finding[]): Finding[] {
  return findings.map((finding) => ({ ...finding, what: `${name}: ${finding.what}` }));
}

/** The negative control. */
async function nothingAsked(guest: LinuxGuest): Promise<Finding[]> {
  const { output } = await guest.command('cat /sys/devices/system/clockevents/clockevent0/current_device');
  const { total, upcalls } = guest.statistics;
  guest.type('poweroff -f');
  await guest.ended;
  return [
    { what: 'with xen_nopv, Linux makes no hypercall', ok: total === 0, found: String(total) },
    { what: 'and gets no upcall', ok: upcalls === 0, found: String(upcalls) },
    { what: 'and its clock is another', ok: output.trim() === 'lapic', found: output.trim() },
  ];
}

async function goOn(options: RunOptions, world: World): Promise<RunReport> {
  const began = performance.now();
  const { fifo, saved } = readGuest(options.load as string);
  const guest = await resumeGuest({ ...guestOptions(options, world, 1, fifo), disk: saved.disk }, saved);
  await guest.command('true');
  return oneGuest({ ...options, fifo, disk: saved.disk !== null }, guest, performance.now() - began, []);
}

/** What is typed goes to the guest, until it ends. */
async function typeInto(guest: LinuxGuest): Promise<void> {
  const lines = createInterface({ input: process.stdin });
  lines.on('line', (line) => guest.type(line));
  await guest.ended;
  lines.close();
}

function finish(packages: readonly string[], findings: readonly Finding[], reports: readonly GuestReport[]): RunReport {
  const ok = findings.every((finding) => finding.ok) && reports.every(({ lost }) => lost.length === 0);
  return { ok, packages, findings, guests: reports };
}

function writeGuest(file: string, saved: SavedGuest): void {
  writeFileSync(file, gzipSync(serialize(saved), { level: 1 }));
}

function readGuest(file: string): { readonly fifo: boolean; readonly saved: SavedGuest } {
  const saved: SavedGuest = deserialize(gunzipSync(readFileSync(file)));
  return { fifo: saved.fifo, saved };
}
