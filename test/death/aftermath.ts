// What has to hold once a dead agent was removed: nothing is left of it, what others had sent arrives, and everything works.

import {
  AGENT_STATE,
  AGENT_USED,
  EVENTFD_SIGNALS,
  KICK_SLEEPER,
  PORT_TABLE,
  PORT_VCPU_BITS,
  REGION_CLOCK_WRITER,
  REGION_EVENTFDS,
  REGION_INVALIDATE_ACTIVE,
  REGION_POLLERS,
  REGION_TIMEKEEPER,
  VCPU_KICK,
  VCPU_POLL,
  VCPU_POLLER,
  VCPU_SLEEPER,
  VCPU_TIMER_CALLBACK,
} from '../../src/abi/region.ts';
import { PAGE_SIZE } from '../../src/abi/shared_info.ts';
import { gpa, hpa, hva, type Vm } from '../../src/index.ts';
import { startTimer } from '../../src/vm/time/timer.ts';
import { dropMappings, scratchIsClean } from '../spec/evidence.ts';
import { fields, ram } from '../support.ts';
import {
  ARGUMENT,
  BOUND,
  COUNTS,
  INFO,
  PULSES,
  RAM,
  RINGS,
  ROUTED,
  RUNG,
  RUNSTATES,
  type Scene,
  SPARE,
  TIMER_PORT,
  VCPU_INFO,
} from './world.ts';

const MS = 1_000_000n;

/** A word of each half of the bitmap, and what operations touch. */
const PROBES = [1, 5, 6, 7, BOUND, 71, 130, 200, 300, 1000];
/** Pages that the engine does not log, and one that the guest writes. */
const UNLOGGED = [INFO, VCPU_INFO / PAGE_SIZE, ARGUMENT / PAGE_SIZE];
/** After everything that was accounted before, on the guest's clock. */
const LATE = 10n ** 10n;
const TIME = { tscTimestamp: 11n, systemTime: 12n, mul: 2 ** 31, shift: 1 };

function check(what: string, fine: boolean): void {
  if (!fine) throw new Error(what);
}

function equal(what: string, found: unknown, expected: unknown): void {
  if (found === expected) return;
  const text = (value: unknown): string => JSON.stringify(value, (_, v) => (typeof v === 'bigint' ? String(v) : v));
  check(`${what}: ${text(found)}, not ${text(expected)}`, text(found) === text(expected));
}

/** While the dead one is still counted, whoever needs nothing of what it holds goes on. */
export function others(s: Scene): void {
  const result = s.other.send(PROBES[8] as number);
  check(`a send before the removal: ${result}`, result === 1 || result === 0);
  s.owed.push([0, PROBES[8] as number]);
}

/** All that holds after the removal; throws what does not. `before` is guest RAM as it was before the operation. */
export function aftermath(s: Scene, dead: number, before: Uint8Array, takes: number | undefined): void {
  nothingIsLeft(s, dead);
  everybodyIsAwake(s);
  equal('the clock, right away', s.other.kvmclock.now(), s.now());
  everyPageIsLogged(s, before);
  const heir = s.attach();
  equal('the place is given again', heir.agent, dead);
  check('the scratch of the place is not empty', scratchIsClean(heir));
  whatWasSentArrives(s, heir, takes);
  eventsArrive(s, heir);
  pagesMove(s);
  eventsArrive(s, heir);
  pollersAreTold(s, heir);
  clocksGo(s, heir);
  runstatesAddUp(s, heir);
  timersExpire(s, heir);
  signalsArrive(s, heir);
}

function nothingIsLeft({ owner }: Scene, dead: number): void {
  const { words, base } = owner.region;
  equal('invalidations open', words.load(base + REGION_INVALIDATE_ACTIVE), 0);
  check('the clock has a writer', words.load(base + REGION_CLOCK_WRITER) === 0);
  check('the agent is still there', words.load(dead + AGENT_STATE) !== AGENT_USED);
  check('its bracket is open', !owner.region.bracketOpen(dead));
  let pollers = 0;
  for (let i = 0; i < owner.vcpus; i++) {
    const line = owner.region.vcpuLine(i);
    for (const claim of [VCPU_SLEEPER, VCPU_POLLER])
      check('it sleeps or polls', words.load(line + claim) !== (dead | 0));
    if (words.load(line + VCPU_POLLER) === 0) equal('a port is polled for by nobody', words.load(line + VCPU_POLL), 0);
    else pollers++;
    if (words.load(line + VCPU_SLEEPER) === 0) check('nobody sleeps', !(words.load(line + VCPU_KICK) & KICK_SLEEPER));
    equal('a timer is held', words.load(owner.region.vcpuRecord(i) + VCPU_TIMER_CALLBACK), 0);
  }
  // One too many costs a look, one too few hides a poller from a batch.
  check('too few pollers are counted', words.load(base + REGION_POLLERS) >= pollers);
}

/** Whoever may sleep was notified after the last change that he has to see. */
function everybodyIsAwake(s: Scene): void {
  const { owner, other, notified } = s;
  const { words, base } = owner.region;
  for (let i = 0; i < owner.vcpus; i++) {
    const line = owner.region.vcpuLine(i);
    if (words.load(line + VCPU_SLEEPER) !== (other.agent | 0)) continue;
    check('a sleeper was not notified', notified.has(line + VCPU_KICK));
    check('a sleeper finds nothing', other.kernel.sleepEnd(other.vmBase, other.agent, i) !== 0);
    if (words.load(line + VCPU_POLLER) === (other.agent | 0)) other.kernel.pollEnd(other.vmBase, i);
  }
  const flag = base + REGION_TIMEKEEPER;
  if (s.timekeeper() && words.load(flag) === 0) check('a timekeeper was not notified', notified.has(flag));
  const signals = owner.region.part(REGION_EVENTFDS) + EVENTFD_SIGNALS;
  if (s.counter.read() > 0n) check('who waits for an eventfd was not notified', notified.has(signals));
}

/** Pages of guest RAM that have changed are in the log, but for those that are never in it. [KX-MEM-20..36] */
function everyPageIsLogged({ owner }: Scene, before: Uint8Array): void {
  const after = ram(owner);
  const logged = new Set<number>();
  for (let i = 0; i < owner.vcpus; i++) for (const { page } of owner.dirtyLog.collect(i)) logged.add(page);
  for (let page = 0; page < before.length / PAGE_SIZE; page++) {
    if (UNLOGGED.includes(page)) continue;
    const [from, to] = [page * PAGE_SIZE, (page + 1) * PAGE_SIZE];
    const same = Buffer.compare(before.subarray(from, to), after.subarray(from, to)) === 0;
    check(`page ${page} was written and is not in the log`, same || logged.has(page));
  }
  owner.dirtyLog.reset();
  const page = 12;
  owner.guestMemory.write(gpa(page * PAGE_SIZE), Uint8Array.of(1));
  equal('the log goes on', owner.dirtyLog.collect(0), [{ slot: 0, page }]);
  equal('and its entry is given back', owner.dirtyLog.reset(), 1);
}

/** The guest answers every upcall that it is asked for. @returns what arrived, `vcpu:port` */
function answered(vm: Vm): string[] {
  const found: string[] = [];
  for (let i = 0; i < vm.vcpus; i++) {
    for (let round = 0; vm.vcpu(i).upcallPending; round++) {
      vm.vcpu(i).drain((port) => found.push(`${i}:${port}`));
      check('upcalls without end', round < 8);
    }
  }
  return found;
}

function whatWasSentArrives({ owed, owner, other }: Scene, heir: Vm, takes: number | undefined): void {
  for (let i = 0; i < owner.vcpus; i++) {
    if (owner.vcpu(i).getAttr('vcpu_info').gpa === null) {
      owner.vcpu(i).setAttr({ type: 'vcpu_info', gpa: gpa(VCPU_INFO + 64 * i) });
    }
  }
  for (const port of PROBES) other.unmask(port);
  heir.tick();
  // An expiry that was put off waits for its vCPU to enter the guest.
  for (let i = 0; i < owner.vcpus; i++) if (heir.vcpu(i).beforeEntry().kind === 'enter') heir.vcpu(i).afterExit();
  const found = new Set(answered(heir));
  for (const [vcpu, port] of owed) {
    // What the dead one had taken is gone with it.
    if (vcpu === takes) continue;
    check(`port ${port} did not arrive`, found.has(`${vcpu}:${port}`));
  }
}

/** Every port, from any thread: delivered, and asked for, and there, once. */
function eventsArrive({ owner, other }: Scene, heir: Vm): void {
  for (const from of [owner, other, heir]) {
    for (const port of PROBES) equal(`a send of port ${port}`, from.send(port), 1);
    const bound = (port: number): number => owner.region.words.load(portEntry(owner, port)) & PORT_VCPU_BITS;
    const expected = PROBES.map((port) => `${bound(port)}:${port}`).sort();
    equal('arrived', answered(other).sort(), expected);
  }
}

function portEntry(vm: Vm, port: number): number {
  return vm.vmBase + PORT_TABLE + 4 * port;
}

/** Pages can be taken away, and come back elsewhere. */
function pagesMove({ owner }: Scene): void {
  dropMappings(owner);
  const host = hva(owner.guestBase + INFO * PAGE_SIZE);
  owner.hostPages.move(host, 1, hpa(owner.guestBase + SPARE * PAGE_SIZE));
}

/** A batch finds who polls for a masked port. */
function pollersAreTold({ other }: Scene, heir: Vm): void {
  const port = PROBES[9] as number;
  other.mask(port);
  heir.outbox[0] = port;
  equal('a poll begins', heir.kernel.pollBegin(heir.vmBase, heir.agent, 0, heir.region.outbox(heir.agent), 1), 0);
  other.sendMany([port]);
  equal('a poller is told', heir.kernel.pendingWork(heir.vmBase, heir.agent, 0), 1);
  heir.kernel.pollEnd(heir.vmBase, 0);
  equal('unmasked', other.unmask(port), 1);
  equal('arrived', answered(other), [`0:${port}`]);
}

function clocksGo({ owner, now }: Scene, heir: Vm): void {
  equal('the clock', owner.kvmclock.now(), now());
  equal('the clock of the heir', heir.kvmclock.now(), now());
  for (let i = 0; i < heir.vcpus; i++) {
    equal('guest entry', heir.vcpu(i).beforeEntry().kind, 'enter');
    const record = heir.vcpu(i).readTime(heir.vcpu(i).readTsc());
    equal('the clock that the guest computes', record, heir.kvmclock.now());
    heir.vcpu(i).afterExit();
    heir.vcpu(i).writeTime(TIME);
    equal('its clock record', heir.vcpu(i).readTime(11n), 12n);
    equal('its other record', heir.vcpu(i).readTime(11n, 'vcpu_time_info'), 12n);
  }
}

/** R11: entry time equals the sum, here and in the guest's copy, which is not left marked. */
function runstatesAddUp({ owner, longMode }: Scene, heir: Vm): void {
  for (let i = 0; i < heir.vcpus; i++) {
    heir.vcpu(i).enterRunstate('blocked', LATE, 60);
    const { entryTime, times } = owner.vcpu(i).runstate();
    equal('a runstate', entryTime, LATE);
    equal('its sum', times.running + times.runnable + times.blocked + times.offline, entryTime);
    for (const time of Object.values(times)) check('a time beyond the whole', time <= entryTime);
    const at = (RUNSTATES[i] as number) + (longMode ? 8 : 4);
    const copied = Array.from({ length: 5 }, (_, k) => fields(owner).getBigUint64(at + 8 * k, true));
    equal('the guest’s copy', copied, [entryTime, times.running, times.runnable, times.blocked, times.offline]);
  }
}

function timersExpire({ owner, advance }: Scene, heir: Vm): void {
  const vcpu = heir.vcpu(0);
  check('a timer is not set', startTimer(vcpu, heir.kvmclock.now() + MS, false));
  equal('too early', owner.tick(), 0);
  advance(2n * MS);
  equal('a timer expires', owner.tick(), 1);
  equal('its event', answered(heir), [`0:${TIMER_PORT}`]);
  equal('no deadline is left', owner.nextDeadline(), null);
}

function signalsArrive({ owner, counter, line }: Scene, heir: Vm): void {
  line.read();
  counter.read();
  equal('a ring', heir.sendPorts.ring(RINGS), 0);
  equal('its event', answered(heir), [`0:${RUNG}`]);
  equal('a ring that counts', heir.sendPorts.ring(COUNTS), 0);
  equal('its count', counter.read(), 1n);
  equal('a ring that interrupts', heir.sendPorts.ring(PULSES), 0);
  equal('its event', answered(heir), [`0:${ROUTED}`]);
  equal('a write that interrupts', line.write(1), 0);
  equal('its event', answered(heir), [`0:${ROUTED}`]);
  equal('RAM', owner.guestMemory.read(gpa(RAM), 1)?.length, 1);
}
