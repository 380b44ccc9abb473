// What a guest is made to do, and what has to come of it: each job is a list of findings.

import type { Domain } from '../../src/xen/index.ts';
import type { LinuxGuest } from './guest.ts';
import { DISK_MODULES } from './packages.ts';

/** One thing that was looked at. */
export interface Finding {
  readonly what: string;
  readonly ok: boolean;
  readonly found: string;
}

/** A line of /proc/interrupts that is Xen's. */
export interface XenInterrupt {
  readonly name: string;
  /** xen-percpu, xen-dyn or xen-dyn-lateeoi */
  readonly chip: string;
  readonly count: number;
}

/** Event channels as Linux counts them. */
export async function xenInterrupts(guest: LinuxGuest): Promise<XenInterrupt[]> {
  const { output } = await guest.command('cat /proc/interrupts');
  const lines = output.matchAll(/^ *\d+: +(\d+) +(xen-\S+) +\S+ +(\S.*)$/gm);
  return [...lines].map(([, count, chip = '', name = '']) => ({ name: name.trim(), chip, count: Number(count) }));
}

/** Whether Linux has found Xen, and uses its events and clocks. */
export async function lookAround(guest: LinuxGuest, fifo: boolean): Promise<Finding[]> {
  const { output: log } = await guest.command('dmesg');
  const logged = (what: string): Finding => ({ what: `kernel: ${what}`, ok: log.includes(what), found: '' });
  const interrupts = await xenInterrupts(guest);
  const counted = (name: string): Finding => {
    const line = interrupts.find((interrupt) => interrupt.name === name);
    return {
      what: `/proc/interrupts: ${name} counts`,
      ok: (line?.count ?? 0) > 0,
      found: String(line?.count ?? 'absent'),
    };
  };
  const file = async (path: string, expected: string): Promise<Finding> => {
    const found = (await guest.command(`cat ${path}`)).output.trim();
    return { what: path, ok: found === expected, found };
  };
  const devices = '/sys/devices/system';
  return [
    logged('Hypervisor detected: Xen HVM'),
    logged(`xen:events: Using ${fifo ? 'FIFO-based' : '2-level'} ABI`),
    logged('Xen HVM callback vector for event delivery is enabled'),
    counted('timer0'),
    counted('xenbus'),
    counted('hvc_console'),
    await file(`${devices}/clockevents/clockevent0/current_device`, 'xen'),
    await file(`${devices}/clocksource/clocksource0/current_clocksource`, 'xen'),
  ];
}

/** Round trips through /dev/xen/evtchn, each an event sent and taken by a program. */
export async function loop(guest: LinuxGuest, trips: number): Promise<Finding> {
  const { output } = await guest.command(`channels loop ${trips}`);
  return tripsFinding(`${trips} round trips through /dev/xen/evtchn`, output, 'LOOP', trips);
}

/** Two guests ring each other over an interdomain channel. */
export async function ring(pong: LinuxGuest, ping: LinuxGuest, trips: number): Promise<Finding> {
  const answering = pong.command(`channels pong ${trips} ${ping.machine.domain.domid}`);
  const { output } = await ping.command(`channels ping ${trips} ${pong.machine.domain.domid}`);
  await answering;
  return tripsFinding(`${trips} round trips between two guests`, output, 'PING', trips);
}

function tripsFinding(what: string, output: string, name: string, trips: number): Finding {
  const [, done, of, micros] = output.match(new RegExp(`${name}-DONE (\\d+) of (\\d+) us_per_roundtrip (\\d+)`)) ?? [];
  const ok = Number(done) === trips && Number(of) === trips;
  return { what, ok, found: done === undefined ? output.trim() : `${done} of ${of}, ${micros} us each` };
}

/** The disk: a file system made, mounted and filled, dropped from the cache, and read again from the host. */
export async function useDisk(guest: LinuxGuest, megabytes: number): Promise<Finding[]> {
  const load = DISK_MODULES.map((name) => `insmod /modules/${name}.ko`).join('; ');
  const mounted = await guest.command(
    `(${load}; mke2fs /dev/xvda && mount -t ext4 /dev/xvda /mnt) >/dev/null 2>&1 && grep xvda /proc/mounts`,
  );
  const kilobytes = megabytes * 1024;
  const written = await guest.command(
    `dd if=/dev/urandom of=/mnt/file bs=64k count=${kilobytes / 64} 2>/dev/null; sync; md5sum /mnt/file`,
  );
  const before = guest.tools.diskCounts;
  const again = await guest.command('echo 3 >/proc/sys/vm/drop_caches; md5sum /mnt/file; umount /mnt');
  const after = guest.tools.diskCounts;
  const read = (after?.bytesRead ?? 0) - (before?.bytesRead ?? 0);
  const sum = (text: string): string => text.match(/^[0-9a-f]{32}(?= {2}\/mnt\/file$)/m)?.[0] ?? text.trim();
  return [
    { what: '/dev/xvda is mounted', ok: mounted.status === 0, found: mounted.output.trim() },
    {
      what: `${megabytes} MB written, dropped from the cache and read back are the same`,
      ok: sum(written.output).length === 32 && sum(written.output) === sum(again.output),
      found: `${sum(written.output)}, ${sum(again.output)}`,
    },
    {
      what: 'they came back from the host',
      ok: read >= megabytes * 2 ** 20 && (after?.bytesWritten ?? 0) >= megabytes * 2 ** 20 && after?.errors === 0,
      found: `${read} bytes read, ${after?.errors} errors`,
    },
  ];
}

/** Has the guest power off, as a tool stack asks it to. */
export async function powerOff(guest: LinuxGuest): Promise<Finding> {
  guest.tools.shutDown();
  const reason = await guest.ended;
  return { what: 'orderly power-off', ok: reason === 'poweroff' && guest.log.includes('Power down'), found: reason };
}

/**
 * Ports whose event was raised and did not arrive: pending, unmasked, and still so while the guest has nothing to do. What is on its
 * way is looked at again.
 */
export async function stuckPorts(guest: LinuxGuest): Promise<number[]> {
  const looks = 50;
  let stuck: number[] = [];
  for (let i = 0; i < looks; i++) {
    stuck = pendingPorts(guest.machine.domain);
    if (stuck.length === 0) return [];
    await pause(2);
  }
  return stuck;
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function pendingPorts({ vm, evtchn }: Domain): number[] {
  const pending: number[] = [];
  for (let port = 1; port < vm.maxPorts; port++) {
    const status = evtchn.status({ port });
    // Ports behind the last that was ever used.
    if (typeof status === 'number') break;
    if (status.status === 'closed') continue;
    const bits = vm.portStatus(port);
    if (bits.pending && !bits.masked) pending.push(port);
  }
  return pending;
}

const VIRQ_TIMER = 0;
const VIRQ_DEBUG = 1;

/** What Linux prints of its 2-level words when it gets VIRQ_DEBUG: ports by bitmap. */
interface DebugPrint {
  readonly pending: readonly number[];
  readonly masked: readonly number[];
}

/**
 * Raises VIRQ_DEBUG, upon which Linux prints its whole view of the pending and mask words; the engine's view of them has to be the
 * same. A port of the host's that Linux has not bound, and so has masked, is left pending for both to see. 2-level ABI only.
 */
export async function compareViews(guest: LinuxGuest): Promise<Finding[]> {
  const { domain } = guest.machine;
  const stray = domain.xen.host.bindUnbound(domain.domid, () => {});
  const { port } = stray;
  stray.notify();
  await guest.command('dmesg -c >/dev/null; sleep 0.1');
  const raised = domain.raiseVirq(VIRQ_DEBUG);
  const engine = engineView(domain);
  const [debug, timer] = [domain.virqPort(VIRQ_DEBUG), domain.virqPort(VIRQ_TIMER)];
  // It has printed before it hears of the next command.
  while (domain.vm.portStatus(debug).pending) await pause(1);
  await pause(100);
  const linux = readDebugPrint((await guest.command('dmesg')).output, domain.vm.maxPorts);
  const explanation = String(domain.vm.explain(port));
  stray.close();
  // The timer's comes and goes; that of VIRQ_DEBUG Linux had taken.
  const steady = (ports: readonly number[]): number[] => ports.filter((port) => port !== debug && port !== timer);
  const same = (a: readonly number[], b: readonly number[]): boolean => a.join() === b.join();
  return [
    { what: 'VIRQ_DEBUG is delivered', ok: raised === 1 && linux.masked.length > 0, found: String(raised) },
    {
      what: 'Linux and the engine see the same ports masked',
      ok: same(linux.masked, engine.masked),
      found: `${linux.masked.length} and ${engine.masked.length}`,
    },
    {
      what: 'and the same ports pending, among them one that is masked',
      ok: same(steady(linux.pending), steady(engine.pending)) && engine.pending.includes(port),
      found: `${steady(linux.pending)} and ${steady(engine.pending)}`,
    },
    { what: 'which the engine explains', ok: explanation.includes('mask'), found: explanation.split('\n')[0] ?? '' },
  ];
}

function engineView({ vm }: Domain): DebugPrint {
  const ports = Array.from({ length: vm.maxPorts - 1 }, (_, i) => i + 1);
  return {
    pending: ports.filter((port) => vm.portStatus(port).pending),
    masked: ports.filter((port) => vm.portStatus(port).masked),
  };
}

/** Words stand one a line, the highest first. */
function readDebugPrint(log: string, ports: number): DebugPrint {
  const lines = log.split('\n').map((line) => line.replace(/^\[ *[\d.]+\] ?/, '').trim());
  const bitmap = (title: string): number[] => {
    const begin = lines.indexOf(title) + 1;
    const words: number[] = [];
    for (const line of lines.slice(begin)) {
      if (words.length === ports / 32) break;
      for (const word of line.match(/\b[0-9a-f]{8}\b/g) ?? []) words.unshift(Number.parseInt(word, 16));
    }
    const isSet = (port: number): boolean => (((words[port >> 5] ?? 0) >>> (port & 31)) & 1) === 1;
    return Array.from({ length: ports - 1 }, (_, i) => i + 1).filter(isSet);
  };
  return { pending: bitmap('pending:'), masked: bitmap('global mask:') };
}
