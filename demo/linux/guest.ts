// A Linux guest: a machine, its tool stack, and a console on which one can have commands run.

import type { V86 } from 'v86';
import { createXenMachine, type XenMachine } from '../../src/v86/index.ts';
import type { ShutdownReason, Xen } from '../../src/xen/index.ts';
import { DONE, READY } from './initramfs.ts';
import { Statistics } from './statistics.ts';
import type { Store } from './store.ts';
import { ToolStack, type ToolStackState } from './tool_stack.ts';
import type { LoadedV86 } from './v86.ts';

/** 96 MB are enough for this kernel; v86 puts an initrd at 64 MB. */
export const MEMORY = 96 << 20;

const ENOSYS = 38;
const NEWLINE = 10;

/** What init prints for us, not for a reader. */
const MARKERS = new RegExp(`(${READY}|${DONE} \\d+)\\r?\\n`, 'g');

/**
 * Parts of Linux' start that take seconds and that nobody needs here; and a check of the legacy timer that compares it with the TSC,
 * which panics when the host gives v86 no processor for some ticks.
 */
const QUICK = [
  'cryptomgr.notests',
  'noisapnp',
  'initcall_blacklist=init_kprobe_trace,load_system_certificate_list,crypto_kdf108_init,init_encrypted',
  'no_timer_check',
].join(' ');

/** What a guest boots. */
export interface BootFiles {
  readonly kernel: Uint8Array;
  readonly initrd: Uint8Array;
  readonly bios: Uint8Array;
  readonly vgaBios: Uint8Array;
}

/** A guest that was saved. */
export interface SavedGuest {
  /** it uses the FIFO ABI */
  readonly fifo: boolean;
  readonly machine: Uint8Array<ArrayBuffer>;
  readonly tools: ToolStackState;
  readonly disk: Uint8Array | null;
}

export interface GuestOptions {
  readonly v86: LoadedV86;
  readonly xen: Xen;
  readonly domid: number;
  readonly store: Store;
  /** Linux takes the FIFO ABI, which it prefers, rather than the 2-level one. */
  readonly fifo?: boolean;
  /** Linux is told to take no notice of Xen. */
  readonly nopv?: boolean;
  /** The kernel says all that it does. */
  readonly verbose?: boolean;
  readonly disk?: Uint8Array | null;
  /** Called with what the guest prints: over the serial line, and over Xen's console. */
  readonly print?: (text: string) => void;
}

/** What a command of the guest's shell has printed, and its status. */
export interface CommandResult {
  readonly output: string;
  readonly status: number;
}

interface Waiting {
  readonly pattern: RegExp;
  readonly resolve: (before: string, match: RegExpExecArray) => void;
  readonly reject: (error: Error) => void;
}

/** Boots a guest; with the demo's own root file system, until its shell is ready. Rejects when it shuts down before. */
export async function bootGuest(options: GuestOptions, files: BootFiles, hasShell = true): Promise<LinuxGuest> {
  const guest = await LinuxGuest.create(options, {
    bios: image(files.bios),
    ...(files.vgaBios.length > 0 ? { vga_bios: image(files.vgaBios) } : {}),
    bzimage: image(files.kernel),
    initrd: image(files.initrd),
    cmdline: commandLine(options),
  });
  const ready = hasShell ? guest.expect(new RegExp(`${READY}\r?\n`)) : null;
  await guest.machine.run();
  await ready;
  return guest;
}

/** Goes on with a guest that was saved: its shell is ready. The store is what the guest's was. */
export async function resumeGuest(options: GuestOptions, saved: SavedGuest): Promise<LinuxGuest> {
  const guest = await LinuxGuest.create({ ...options, disk: saved.disk }, {}, saved);
  await guest.machine.run();
  return guest;
}

function commandLine({ fifo = false, nopv = false, verbose = false }: GuestOptions): string {
  const words = ['console=ttyS0', QUICK, verbose ? 'loglevel=7' : 'quiet'];
  if (!fifo) words.push('xen.fifo_events=0');
  if (nopv) words.push('xen_nopv');
  return words.join(' ');
}

function image(bytes: Uint8Array): { buffer: ArrayBuffer } {
  return { buffer: new Uint8Array(bytes).buffer };
}

/** A guest that runs. */
export class LinuxGuest {
  readonly machine: XenMachine<V86>;
  readonly tools: ToolStack;
  readonly statistics: Statistics;
  /** Resolves when the guest has ended. */
  readonly ended: Promise<ShutdownReason>;
  readonly #disk: Uint8Array | null;
  readonly #type: (text: string) => void;
  readonly #print: (text: string) => void;
  /** what was printed where commands run, and nobody has looked at yet */
  #unread = '';
  #waiting: Waiting | null = null;
  /** all that the kernel has printed on the serial line */
  log = '';

  /** @internal */
  static async create(
    options: GuestOptions,
    settings: Readonly<Record<string, unknown>>,
    saved: SavedGuest | null = null,
  ): Promise<LinuxGuest> {
    const statistics = new Statistics();
    let guest: LinuxGuest | null = null;
    let end: (reason: ShutdownReason) => void = () => {};
    const ended = new Promise<ShutdownReason>((resolve) => {
      end = resolve;
    });
    const machine: XenMachine<V86> = await createXenMachine({
      V86: options.v86.V86,
      wasm: options.v86.wasm,
      memorySize: MEMORY,
      settings,
      xen: options.xen,
      domain: {
        domid: options.domid,
        hvm: {
          onGrantTableOp: (call, cpu) => guest?.tools.grants.hypercall(call, cpu) ?? null,
          onGrantFrame: (index, gfn) => guest?.tools.platform.place(index, gfn) ?? -ENOSYS,
          onShutdown: (reason) => {
            void machine.stop();
            end(reason);
          },
        },
      },
      observer: statistics,
    });
    guest = new LinuxGuest(options, machine, statistics, ended, saved);
    return guest;
  }

  private constructor(
    options: GuestOptions,
    machine: XenMachine<V86>,
    statistics: Statistics,
    ended: Promise<ShutdownReason>,
    saved: SavedGuest | null,
  ) {
    const { print = () => {}, nopv = false, disk = null, store } = options;
    this.machine = machine;
    this.statistics = statistics;
    this.ended = ended;
    this.#disk = disk;
    this.#print = print;
    this.#type = nopv ? (text) => machine.emulator.serial0_send(text) : (text) => this.tools.console.type(text);
    machine.emulator.add_listener('serial0-output-byte', (byte) => {
      const text = String.fromCharCode(byte);
      this.log += text;
      print(text);
      if (byte === NEWLINE) this.#checkPanic();
      if (nopv) this.#printed(text);
    });
    if (saved !== null) machine.restore(saved.machine);
    this.tools = new ToolStack({
      domain: machine.domain,
      cpu: machine.cpu,
      store,
      disk,
      saved: saved?.tools ?? null,
      print: (text) => {
        print(text.replace(MARKERS, ''));
        this.#printed(text);
      },
    });
    void ended.then((reason) => this.#waiting?.reject(new Error(`the guest has shut down, reason ${reason}`)));
  }

  /** Has the guest's shell run a line. */
  async command(line: string): Promise<CommandResult> {
    this.#print(`\n# ${line}\n`);
    const done = this.expect(new RegExp(`${DONE} (\\d+)\r?\n`));
    this.#type(`${line}\n`);
    const { before, match } = await done;
    return { output: before.replaceAll('\r\n', '\n'), status: Number(match[1]) };
  }

  /** Types a line whose end is that of the guest. */
  type(line: string): void {
    this.#type(`${line}\n`);
  }

  /** What was printed before a pattern where commands run. One at a time. */
  expect(pattern: RegExp): Promise<{ before: string; match: RegExpExecArray }> {
    return new Promise((resolve, reject) => {
      this.#waiting = { pattern, resolve: (before, match) => resolve({ before, match }), reject };
      this.#printed('');
    });
  }

  /** Stops the guest and saves it. */
  async save(): Promise<SavedGuest> {
    await this.machine.stop();
    return {
      fifo: this.machine.domain.fifo.active,
      machine: this.machine.save(),
      tools: this.tools.state(),
      disk: this.#disk === null ? null : this.#disk.slice(),
    };
  }

  /** Nobody has to wait for a guest that is no more. */
  #checkPanic(): void {
    const found = this.log.indexOf('Kernel panic');
    if (found >= 0) this.#waiting?.reject(new Error(`the guest has died: ${this.log.slice(found).trim()}`));
  }

  #printed(text: string): void {
    this.#unread += text;
    const waiting = this.#waiting;
    const match = waiting?.pattern.exec(this.#unread);
    if (!waiting || !match) return;
    const before = this.#unread.slice(0, match.index);
    this.#unread = this.#unread.slice(match.index + match[0].length);
    this.#waiting = null;
    waiting.resolve(before, match);
  }
}
