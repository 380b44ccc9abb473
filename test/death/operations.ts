// What an agent may be in the middle of when it dies. Those of any thread; what only the owner does is in owner.ts.

import {
  EVTCHNOP_SEND,
  HYPERCALL_EVENT_CHANNEL_OP,
  HYPERCALL_SCHED_OP,
  HYPERCALL_SET_TIMER_OP,
  HYPERCALL_VCPU_OP,
  SCHEDOP_POLL,
  VCPUOP_STOP_SINGLESHOT_TIMER,
} from '../../src/abi/hypercall.ts';
import {
  EVENTFD_WAITERS,
  REGION_EVENTFDS,
  REQUEST_CLOCK_UPDATE,
  REQUEST_MASTERCLOCK_UPDATE,
  REQUEST_STEAL_UPDATE,
  VCPU_POLL_DEADLINE,
} from '../../src/abi/region.ts';
import { gpa, type Vm } from '../../src/index.ts';
import { startTimer, stopTimer } from '../../src/vm/time/timer.ts';
import { dropMappings } from '../spec/evidence.ts';
import { ARGUMENT, BOUND, COUNTS, PULSES, RAM, RINGS, type Scene, TIMER_PORT } from './world.ts';

export interface Operation {
  readonly name: string;
  readonly setup?: (scene: Scene) => void;
  readonly run: (scene: Scene) => void;
  /** the vCPU whose events it takes: what it had taken and not handled goes with it, as with a processor that stops */
  readonly takes?: number;
}

export const PORT = 5;
const TIME = { tscTimestamp: 1n, systemTime: 2n, mul: 3, shift: 0 };
const MS = 1_000_000n;

/** Something is pending on both vCPUs, which a survivor has sent. */
export function pending(s: Scene): void {
  for (const [vcpu, port] of [
    [0, 200],
    [0, 6],
    [1, BOUND],
  ] as const) {
    s.other.send(port);
    s.owed.push([vcpu, port]);
  }
}
/** A survivor sleeps for vCPU 1. */
export function sleeps(s: Scene): void {
  s.other.kernel.sleepBegin(s.other.vmBase, s.other.agent, 1);
}
function masked(s: Scene): void {
  s.owner.mask(PORT);
}
/** A survivor polls for a masked port, on vCPU 1. */
function polled(s: Scene): void {
  masked(s);
  s.owner.bindVcpu(PORT, 1);
  const list = s.other.region.outbox(s.other.agent);
  s.other.outbox[0] = PORT;
  s.other.kernel.pollBegin(s.other.vmBase, s.other.agent, 1, list, 1);
  sleeps(s);
}
function away(s: Scene): void {
  s.owner.vcpu(0).setAttr({ type: 'vcpu_info', gpa: null });
}
function dropped(s: Scene): void {
  dropMappings(s.owner);
}
/** Events are kept aside for a vcpu_info that has come back since. */
function shaded(s: Scene): void {
  const at = s.owner.vcpu(0).getAttr('vcpu_info').gpa;
  away(s);
  s.other.send(6);
  s.other.send(200);
  s.owed.push([0, 6], [0, 200]);
  s.owner.vcpu(0).setAttr({ type: 'vcpu_info', gpa: at });
}
function vector(s: Scene): void {
  for (let i = 0; i < 2; i++) s.owner.vcpu(i).setAttr({ type: 'upcall_vector', vector: 0x51 });
}
/** A timekeeper sleeps. */
const timekeeper = (s: Scene): void => s.keepTime();
function armed(s: Scene): void {
  startTimer(s.other.vcpu(0), s.other.kvmclock.now() + 5n * MS, false);
  timekeeper(s);
}
function due(s: Scene): void {
  armed(s);
  s.advance(6n * MS);
  s.owed.push([0, TIMER_PORT]);
}
const both =
  (...setups: ((s: Scene) => void)[]) =>
  (s: Scene): void => {
    for (const setup of setups) setup(s);
  };

const ports = (n: number, step = 1): number[] => Array.from({ length: n }, (_, i) => 1 + ((i * step) % 1000));

function hypercall(s: Scene, number: number, ...params: bigint[]): void {
  s.cpu.registers.rax = BigInt(number);
  for (const [i, name] of (['rdi', 'rsi', 'rdx'] as const).entries()) s.cpu.registers[name] = params[i] ?? 0n;
  s.victim.vcpu(0).hypercall(s.cpu);
}
function argument(s: Scene, ...words: number[]): bigint {
  new Uint32Array(s.owner.memory.buffer, s.owner.guestBase + ARGUMENT, words.length).set(words);
  return BigInt(ARGUMENT);
}

const SENDS: Operation[] = [
  { name: 'a send', run: (s) => s.victim.send(PORT) },
  { name: 'a send to a sleeper', setup: sleeps, run: (s) => s.victim.send(BOUND) },
  { name: 'a send that is coalesced', setup: pending, run: (s) => s.victim.send(6) },
  { name: 'a send of a word that is told already', setup: pending, run: (s) => s.victim.send(7) },
  { name: 'a send of a masked port', setup: masked, run: (s) => s.victim.send(PORT) },
  { name: 'a send of a masked port that is polled for', setup: polled, run: (s) => s.victim.send(PORT) },
  { name: 'a send with vcpu_info away', setup: away, run: (s) => s.victim.send(PORT) },
  {
    name: 'a send to a sleeper with vcpu_info away',
    setup: both(sleeps, unregister1),
    run: (s) => s.victim.send(BOUND),
  },
  { name: 'a send that has to map shared_info', setup: both(pending, dropped), run: (s) => s.victim.send(PORT) },
  { name: 'a send to a vCPU with a vector of its own', setup: vector, run: (s) => s.victim.send(PORT) },
  { name: 'an event that names its vCPU', setup: sleeps, run: (s) => s.victim.evtchnSend({ port: PORT, vcpu: 1 }) },
  {
    name: 'a bracket of sends',
    setup: sleeps,
    run: (s) => {
      s.victim.enter();
      s.victim.send(PORT);
      s.victim.send(BOUND);
      s.victim.leave();
    },
  },
  { name: 'a batch of single ports', setup: sleeps, run: (s) => s.victim.sendMany([PORT, BOUND, 300]) },
  { name: 'a batch of neighbours', setup: sleeps, run: (s) => s.victim.sendMany([PORT, 7, BOUND, 71, 300]) },
  { name: 'a batch by bitmaps', setup: sleeps, run: (s) => s.victim.sendMany(ports(100, 11)) },
  { name: 'a batch by bytes', setup: sleeps, run: (s) => s.victim.sendMany(ports(700)) },
  { name: 'a batch with ports that are none', run: (s) => s.victim.sendMany([...ports(700), 5000, 0]) },
  { name: 'a batch of masked ports, one polled for', setup: polled, run: (s) => s.victim.sendMany([PORT, 6, 7]) },
  { name: 'a batch that has to map shared_info', setup: dropped, run: (s) => s.victim.sendMany([PORT, BOUND]) },
];

function unregister1(s: Scene): void {
  s.owner.vcpu(1).setAttr({ type: 'vcpu_info', gpa: null });
}

const RECEIVES: Operation[] = [
  { name: 'a drain', setup: pending, run: (s) => s.victim.vcpu(0).drain(() => {}), takes: 0 },
  {
    name: 'a drain with ports of another vCPU',
    setup: pending,
    run: (s) => s.victim.vcpu(1).drain(() => {}),
    takes: 1,
  },
  { name: 'a drain of the shadow', setup: shaded, run: (s) => s.victim.vcpu(0).drain(() => {}), takes: 0 },
  {
    name: 'a drain that has to map its pages',
    setup: both(pending, dropped),
    run: (s) => s.victim.vcpu(0).drain(() => {}),
    takes: 0,
  },
  { name: 'a flush of the shadow', setup: shaded, run: (s) => s.victim.vcpu(0).flushShadow() },
  { name: 'a look at the upcall', setup: both(pending, dropped), run: (s) => s.victim.vcpu(0).upcallPending },
  { name: 'resync', setup: sleeps, run: (s) => s.victim.vcpu(1).resync() },
  { name: 'mask', setup: pending, run: (s) => s.victim.mask(6) },
  {
    name: 'unmask of a pending port',
    setup: (s) => {
      masked(s);
      s.other.send(PORT);
      s.owed.push([0, PORT]);
    },
    run: (s) => s.victim.unmask(PORT),
  },
  { name: 'unmask that has to map shared_info', setup: both(masked, dropped), run: (s) => s.victim.unmask(PORT) },
  { name: 'a port’s status', setup: pending, run: (s) => s.victim.portStatus(6) },
  { name: 'explain', setup: pending, run: (s) => String(s.victim.explain(6)) },
  { name: 'taking a vector', setup: both(vector, pending), run: (s) => s.victim.vcpu(0).takeUpcallVector() },
  { name: 'the local APIC off and on', setup: both(vector, pending), run: lapic },
];

function lapic(s: Scene): void {
  s.victim.vcpu(0).setLapicEnabled(false);
  s.victim.vcpu(0).setLapicEnabled(true);
}

const SLEEPS: Operation[] = [
  { name: 'a sleep that times out', run: (s) => s.victim.vcpu(0).wait(1e6) },
  {
    name: 'a sleep that an event ends',
    run: (s) => {
      s.whenAsleep(() => {
        s.other.send(6);
        s.owed.push([0, 6]);
        return 0;
      });
      s.victim.vcpu(0).wait(1e9);
    },
  },
  { name: 'a sleep that has to map vcpu_info', setup: both(pending, dropped), run: (s) => s.victim.vcpu(0).wait(1e6) },
  { name: 'a kick of a sleeper', setup: sleeps, run: (s) => s.victim.vcpu(1).kick() },
  { name: 'a poll that times out', setup: masked, run: (s) => s.victim.vcpu(0).poll([PORT, 7], 1e6) },
  { name: 'a poll that finds its port', setup: pending, run: (s) => s.victim.vcpu(0).poll([6], 1e6) },
  { name: 'a poll that has to map shared_info', setup: dropped, run: (s) => s.victim.vcpu(0).poll([PORT], 1e6) },
  {
    name: 'a poll that an event ends',
    setup: masked,
    run: (s) => {
      s.whenAsleep(() => {
        s.other.send(PORT);
        return 0;
      });
      s.victim.vcpu(0).poll([PORT], 1e9);
    },
  },
  {
    name: 'SCHEDOP_poll and what ends it',
    setup: masked,
    run: (s) => {
      const structure = argument(s, ARGUMENT + 24, 0, 1, 0, 5_000_000, 0, PORT);
      hypercall(s, HYPERCALL_SCHED_OP, BigInt(SCHEDOP_POLL), structure);
      s.victim.vcpu(0).runnable;
      s.victim.vcpu(0).beforeEntry();
    },
  },
];

const GUESTS: Operation[] = [
  { name: 'guest entry with events', setup: both(vector, pending), run: (s) => s.victim.vcpu(0).beforeEntry() },
  { name: 'guest entry with a shadow', setup: shaded, run: (s) => s.victim.vcpu(0).beforeEntry() },
  {
    name: 'guest entry that writes clock and runstate',
    setup: (s) => s.owner.requestAll(REQUEST_CLOCK_UPDATE | REQUEST_MASTERCLOCK_UPDATE | REQUEST_STEAL_UPDATE),
    run: (s) => s.victim.vcpu(0).beforeEntry(),
  },
  {
    name: 'guest entry that has to map its pages',
    setup: both(pending, dropped),
    run: (s) => s.victim.vcpu(0).beforeEntry(),
  },
  {
    name: 'guest entry and exit',
    run: (s) => {
      s.victim.vcpu(0).beforeEntry();
      s.victim.vcpu(0).afterExit();
    },
  },
  {
    name: 'load and unload',
    run: (s) => {
      s.victim.vcpu(0).load(10);
      s.victim.vcpu(0).unload({ preempted: true, runDelay: 20 });
    },
  },
  {
    name: 'EVTCHNOP_send',
    run: (s) => hypercall(s, HYPERCALL_EVENT_CHANNEL_OP, BigInt(EVTCHNOP_SEND), argument(s, RINGS)),
  },
  { name: 'set_timer_op', setup: timekeeper, run: (s) => hypercall(s, HYPERCALL_SET_TIMER_OP, 9_000_000n) },
  {
    name: 'VCPUOP_stop_singleshot_timer',
    setup: armed,
    run: (s) => hypercall(s, HYPERCALL_VCPU_OP, BigInt(VCPUOP_STOP_SINGLESHOT_TIMER), 0n, 0n),
  },
];

const TIMES: Operation[] = [
  { name: 'a runstate over a page edge', run: (s) => s.victim.vcpu(0).enterRunstate('blocked', 2000, 50) },
  { name: 'a runstate', run: (s) => s.victim.vcpu(1).enterRunstate('runnable', 2000, 50) },
  {
    name: 'a runstate that has to map its pages',
    setup: dropped,
    run: (s) => s.victim.vcpu(0).enterRunstate('blocked', 2000, 50),
  },
  { name: 'a look at a runstate', run: (s) => s.victim.vcpu(0).runstate() },
  { name: 'both clock records', run: (s) => s.victim.vcpu(0).writeTime(TIME) },
  { name: 'both clock records, which have to be mapped', setup: dropped, run: (s) => s.victim.vcpu(1).writeTime(TIME) },
  {
    name: 'a look at a clock record',
    setup: (s) => s.owner.vcpu(0).writeTime(TIME),
    run: (s) => s.victim.vcpu(0).readTime(5n),
  },
  { name: 'the clock', run: (s) => s.victim.kvmclock.now() },
  { name: 'a new sample of the clock', run: (s) => s.victim.kvmclock.resample() },
  { name: 'a timer set', setup: timekeeper, run: (s) => startTimer(s.victim.vcpu(0), later(s), false) },
  { name: 'a timer set again', setup: armed, run: (s) => startTimer(s.victim.vcpu(0), later(s), false) },
  {
    name: 'a timer that is due at once',
    setup: (s) => s.advance(MS),
    run: (s) => startTimer(s.victim.vcpu(0), 1n, false),
  },
  { name: 'a timer stopped', setup: armed, run: (s) => stopTimer(s.victim.vcpu(0)) },
  { name: 'a look at a timer', setup: armed, run: (s) => s.victim.vcpu(0).getAttr('timer') },
  { name: 'a tick that a timer expires at', setup: due, run: (s) => s.victim.tick() },
  { name: 'a tick with shared_info away', setup: both(due, dropped), run: (s) => s.victim.tick() },
  {
    name: 'a tick that ends a poll',
    setup: (s) => {
      s.owner.region.words.store64(s.owner.vcpu(1).record + VCPU_POLL_DEADLINE, s.owner.clock.now());
      sleeps(s);
    },
    run: (s) => s.victim.tick(),
  },
];

function later(s: Scene): bigint {
  return s.owner.kvmclock.now() + 7n * MS;
}

const THINGS: Operation[] = [
  { name: 'a ring of a send port', run: (s) => s.victim.sendPorts.ring(RINGS) },
  { name: 'a ring that counts', run: (s) => s.victim.sendPorts.ring(COUNTS) },
  { name: 'a ring that counts and interrupts', run: (s) => s.victim.sendPorts.ring(PULSES) },
  { name: 'a ring that has to map shared_info', setup: dropped, run: (s) => s.victim.sendPorts.ring(PULSES) },
  { name: 'an interrupt', run: (s) => s.victim.routes.raise(1, 1) },
  { name: 'lists of routes and send ports', run: lists },
  {
    name: 'a write to an eventfd, for which somebody waits',
    setup: (s) => s.owner.region.words.add(s.owner.region.part(REGION_EVENTFDS) + EVENTFD_WAITERS, 1),
    run: (s) => s.victim.eventfds.get(s.counter.fd).write(2),
  },
  { name: 'a write to an eventfd that interrupts', run: (s) => s.victim.eventfds.get(s.line.fd).write(2) },
  {
    name: 'a read of an eventfd',
    setup: (s) => s.counter.write(3),
    run: (s) => s.victim.eventfds.get(s.counter.fd).read(),
  },
  { name: 'a wait for an eventfd', run: (s) => s.victim.eventfds.get(s.counter.fd).wait(1e6) },
  {
    name: 'a write over two pages of guest RAM',
    run: (s) => s.victim.guestMemory.write(gpa(RAM + 4090), new Uint8Array(12).fill(1), 0),
  },
  { name: 'a read of guest RAM', run: (s) => s.victim.guestMemory.read(gpa(RAM + 4090), 12) },
  { name: 'a refresh of every cache', setup: dropped, run: (s) => refreshAll(s.victim) },
  { name: 'its own detachment', run: (s) => s.victim.detach() },
  { name: 'its own detachment out of a poll', setup: pollsItself, run: (s) => s.victim.detach() },
];

function lists(s: Scene): void {
  s.victim.routes.list();
  s.victim.sendPorts.list();
  s.victim.eventfds.list();
}

function refreshAll(vm: Vm): void {
  for (const gpc of vm.region.gpcs()) vm.gpcs.refresh(gpc);
}

/** The victim is announced as sleeper and as poller of vCPU 0. */
function pollsItself(s: Scene): void {
  const { kernel, vmBase, agent } = s.victim;
  s.victim.outbox[0] = PORT;
  kernel.pollBegin(vmBase, agent, 0, s.victim.region.outbox(agent), 1);
  kernel.sleepBegin(vmBase, agent, 0);
}

export const OPERATIONS: readonly Operation[] = [...SENDS, ...RECEIVES, ...SLEEPS, ...GUESTS, ...TIMES, ...THINGS];
