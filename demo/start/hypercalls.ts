// The recording again, one layer up: every hypercall of the guest's goes to a Xen domain, with the arguments it had, and the answer is
// held against the one it got then. What a guest does by itself, the guest here does in its own memory, byte by byte.

import { PAGE_SIZE } from '../../src/abi/shared_info.ts';
import { FlatCpu, VirtualClock } from '../../src/index.ts';
import { createXen, type Domain, type HostChannel, type HvmOptions, VIRQ_TIMER } from '../../src/xen/index.ts';
import { earlyPorts, sharedInfoGfn, vcpuInfoGpa } from './guest.ts';
import { LinuxEvents } from './linux_events.ts';
import { fields, type HypercallRecord, type Recording, type TraceRecord } from './recording.ts';

/** Linux keeps its memory at this virtual address. */
const PAGE_OFFSET = 0xc0000000n;
const PAGE_OFFSET_NUMBER = Number(PAGE_OFFSET);
const VECTOR = 0xf3;

/** HVM parameters that a tool stack sets before a guest starts. */
const STORE_PFN = 1;
const STORE_EVTCHN = 2;
const CONSOLE_PFN = 17;
const CONSOLE_EVTCHN = 18;

/** Which parameter points to the structure: of a vcpu_op the third, else the second. */
const VCPU_OP = 24;

/**
 * Where the host of the recording did less than Xen, which this engine does: the recorded answer, ours, and why. Everything else has to
 * be answered as recorded.
 */
export const BETTER: readonly (readonly [op: string, recorded: number, answered: number, why: string])[] = [
  ['hvm_op.pagetable_dying', -38, -22, 'Xen knows it, for guests with shadow page tables, and this is none'],
  ['event_channel_op.init_control', -38, -95, 'a Xen without the FIFO ABI says that it is not supported'],
  ['vcpu_op.register_vcpu_time_memory_area', -38, 0, 'the second copy of the clock is kept'],
  ['vm_assist.0', -38, 0, 'the runstate update marker is kept'],
];

export interface HypercallReplay {
  readonly hypercalls: number;
  /** answered as recorded: result, and every byte that was written */
  readonly same: number;
  /** answered better, as `BETTER` says */
  readonly better: number;
  /** answered otherwise */
  readonly different: number;
  readonly upcalls: number;
  readonly missed: number;
  readonly invented: number;
  /** timer interrupts that the guest's own timers have raised, and those that were recorded */
  readonly timers: number;
  readonly timersRecorded: number;
  /** sends of the guest's, all of which have reached the code on the host */
  readonly sends: number;
  readonly sendsRecorded: number;
  /** ports that are pending and not masked at the end */
  readonly left: number;
  readonly fault: string | null;
}

/** Plays the recording to a domain of its own. `shared`: in memory of several agents. */
export function replayHypercalls(recording: Recording, shared: boolean): HypercallReplay {
  const run = new Run(recording, shared);
  recording.records.forEach((record, i) => {
    run.take(record, i + 1);
  });
  return run.finish();
}

/** The guest's processor: its memory is mapped from PAGE_OFFSET on. */
class LinuxCpu extends FlatCpu {
  override readVirtual(address: bigint, length: number): Uint8Array | null {
    return address < PAGE_OFFSET ? null : super.readVirtual(address - PAGE_OFFSET, length);
  }
  override writeVirtual(address: bigint, bytes: Uint8Array): boolean {
    return address >= PAGE_OFFSET && super.writeVirtual(address - PAGE_OFFSET, bytes);
  }
  override translate(address: bigint): number | null {
    return address < PAGE_OFFSET ? null : super.translate(address - PAGE_OFFSET);
  }
}

class Run {
  readonly #domain: Domain;
  readonly #clock = new VirtualClock();
  readonly #cpu: LinuxCpu;
  readonly #guest: LinuxEvents;
  readonly #channels = new Map<number, HostChannel>();
  readonly #found = {
    hypercalls: 0,
    same: 0,
    better: 0,
    different: 0,
    upcalls: 0,
    missed: 0,
    invented: 0,
    timers: 0,
    timersRecorded: 0,
    sends: 0,
    sendsRecorded: 0,
  };
  /** timers whose deadline was past when they were set: their records are still to come */
  #expiredAtOnce = 0;
  #fault: string | null = null;
  #place = '';
  /** A level that stays wrong is one fault, not one per record. */
  #wrong: boolean | null = null;

  constructor(recording: Recording, shared: boolean) {
    const xen = createXen({ clock: this.#clock });
    const guestPages = pagesOf(recording);
    const domain = xen.createDomain({ guestPages, shared, bare: true, fifo: false, hvm: GRANT_TABLES });
    this.#domain = domain;
    const store = this.#channel(xen.host.bindUnbound(domain.domid, () => this.#found.sends++));
    const console = this.#channel(xen.host.bindUnbound(domain.domid, () => this.#found.sends++));
    domain.hvm.setParam(STORE_PFN, 0xf800n);
    domain.hvm.setParam(STORE_EVTCHN, BigInt(store.port));
    domain.hvm.setParam(CONSOLE_PFN, 0xf801n);
    domain.hvm.setParam(CONSOLE_EVTCHN, BigInt(console.port));
    const early = earlyPorts(recording.records);
    // Before the guest runs and has a shared_info: kept until it has.
    for (const port of early) this.#channels.get(port)?.notify();
    this.#cpu = new LinuxCpu(domain.vm, { longMode: false });
    this.#guest = new LinuxEvents(domain.vm, early, (what) => this.#blame(what));
  }

  take(record: TraceRecord, number: number): void {
    this.#place = `record ${number} (${record.k === 'hc' ? record.op : record.k})`;
    const passed = BigInt(record.t ?? 0) - this.#clock.now();
    if (passed > 0n) this.#clock.advance(passed);
    if (record.k === 'hc') this.#call(record);
    else if (record.k === 'upcall') this.#upcall();
    else if (record.k === 'virq') this.#timer(record.port);
    else this.#ring(record.port);
    this.#checkLevel();
  }

  finish(): HypercallReplay {
    const left = this.#guest.pending();
    this.#domain.destroy();
    return { ...this.#found, left, fault: this.#fault };
  }

  /** The recorded host noticed an expiry now, of which the deadline may be past; a deadline that was past when it was set has expired then. */
  #timer(port: number): void {
    this.#found.timersRecorded++;
    const expired = this.#domain.vm.tick();
    if (expired + this.#expiredAtOnce !== 1)
      this.#blame(`${expired} timers expire, ${this.#expiredAtOnce} have expired`);
    this.#found.timers += expired + this.#expiredAtOnce;
    this.#expiredAtOnce = 0;
    if (expired > 0) this.#guest.raised(port);
  }

  #setTimer({ in: argument }: HypercallRecord): void {
    const deadline = Buffer.from(argument ?? '', 'hex').readBigUInt64LE();
    if (deadline > this.#clock.now()) return;
    this.#expiredAtOnce++;
    this.#guest.raised(this.#domain.virqPort(VIRQ_TIMER));
  }

  #ring(port: number): void {
    const result = this.#channels.get(port)?.notify();
    if (result !== 0) this.#blame(`the host rings port ${port} and is told ${result}`);
    this.#guest.raised(port);
  }

  #upcall(): void {
    const entry = this.#domain.vm.vcpu(0).beforeEntry();
    const vector = entry.kind === 'enter' ? entry.externalInterrupt : 0;
    if (vector === VECTOR) this.#found.upcalls++;
    else this.#blame(`the guest is called through vector ${vector}`);
    this.#domain.vm.vcpu(0).afterExit();
    this.#guest.handleUpcall();
  }

  #call(record: HypercallRecord): void {
    this.#found.hypercalls++;
    if (record.op === 'event_channel_op.send') this.#found.sendsRecorded++;
    this.#guest.before(record);
    const pointer = this.#load(record);
    const result = this.#domain.hypercall(0, this.#cpu);
    const answer = result.kind === 'handled' ? Number(BigInt.asIntN(64, result.result)) : result.kind;
    this.#compare(record, answer, pointer);
    this.#guest.after(record);
    if (record.op === 'event_channel_op.alloc_unbound') this.#bindBackend(record);
    if (record.op === 'vcpu_op.set_singleshot_timer') this.#setTimer(record);
  }

  /** Sets the registers and puts the structure where it was. @returns where */
  #load({ nr, regs: [a, b, c], in: bytes }: HypercallRecord): bigint {
    const { registers } = this.#cpu;
    registers.rax = BigInt(nr);
    registers.rbx = BigInt(a);
    registers.rcx = BigInt(b);
    registers.rdx = BigInt(c);
    const pointer = BigInt(nr === VCPU_OP ? c : b);
    if (bytes !== undefined) this.#cpu.writeVirtual(pointer, Buffer.from(bytes, 'hex'));
    return pointer;
  }

  #compare({ op, ret, out = '' }: HypercallRecord, answer: number | string, pointer: bigint): void {
    const found = Buffer.from(this.#cpu.readVirtual(pointer, out.length / 2) ?? []).toString('hex');
    if (BETTER.some((row) => row[0] === op && row[1] === ret && row[2] === answer)) {
      this.#found.better++;
    } else if (answer === ret && found === out) {
      this.#found.same++;
    } else {
      this.#found.different++;
      this.#blame(`answered ${answer} ${found}, recorded are ${ret} ${out}`);
    }
  }

  /** The host's disk is at the other end of the port that the guest has made for it. */
  #bindBackend({ out }: HypercallRecord): void {
    const [, , port = 0] = fields(out, 2, 2, 4);
    const { evtchn, xen, domid } = this.#domain;
    const status = evtchn.status({ port });
    if (typeof status === 'number' || status.status !== 'unbound') {
      this.#blame(`port ${port} is not unbound`);
      return;
    }
    const { sends } = this.#found;
    this.#channel(xen.host.bind(domid, port, () => this.#found.sends++));
    // It is told once, because the guest may have sent before.
    this.#found.sends = sends;
  }

  #channel(channel: HostChannel): HostChannel {
    this.#channels.set(channel.port, channel);
    return channel;
  }

  /** From the registration of vcpu_info on, the level is what the model says. */
  #checkLevel(): void {
    if (!this.#guest.registered) return;
    const due = this.#guest.due;
    const wrong = this.#domain.vm.vcpu(0).upcallPending === due ? null : due;
    if (wrong !== null && wrong !== this.#wrong) {
      this.#found[wrong ? 'missed' : 'invented']++;
      this.#blame(wrong ? 'an upcall is due and not asked for' : 'an upcall is asked for and nothing explains it');
    }
    this.#wrong = wrong;
  }

  #blame(what: string): void {
    this.#fault ??= `${this.#place}: ${what}`;
  }
}

/** The tables of the recorded host: what it was asked for was there. */
const GRANT_TABLES: HvmOptions = { onGrantTableOp: () => 0, onGrantFrame: () => 0 };

/** As much RAM as the guest's addresses need; untouched pages cost nothing. */
function pagesOf({ records }: Recording): number {
  let top = 0;
  for (const record of records) {
    if (record.k !== 'hc') continue;
    top = Math.max(top, sharedInfoGfn(record) ?? 0, Math.floor((vcpuInfoGpa(record) ?? 0) / PAGE_SIZE));
    for (const register of record.regs) top = Math.max(top, Math.floor((register - PAGE_OFFSET_NUMBER) / PAGE_SIZE));
  }
  return top + 2;
}
