// Random operations with saves and restores in between, and the trace of all that can be seen.

import { type EvtchnRoute, FlatCpu, gpa, VirtualClock, type Vm } from '../../src/index.ts';
import { drained, type MakeOptions, makeVm, random, vcpuInfoGpa } from '../support.ts';
import { dropMappings, guestTakes } from './evidence.ts';

const VCPUS = 3;
const IDS = [4, 9, 2];
const PORTS = 200;

/** A VM and what goes with it; `vm` is another one after a restore. */
export interface World {
  vm: Vm;
  readonly clock: VirtualClock;
}

export type Next = (n: number) => number;

/** One thing that somebody does, and what there is to see of it. */
type Operation = (world: World, next: Next) => unknown;

const port = (next: Next): number => 1 + next(PORTS);

const OPERATIONS: readonly Operation[] = [
  ({ vm }, next) => vm.send(port(next)),
  ({ vm }, next) => vm.send(port(next)),
  ({ vm }, next) => vm.sendMany(Array.from({ length: next(30) }, () => port(next))),
  ({ vm }, next) => vm.evtchnSend({ port: port(next), vcpu: IDS[next(VCPUS)] ?? 0 }),
  ({ vm }, next) => vm.mask(port(next)),
  ({ vm }, next) => vm.unmask(port(next)),
  ({ vm }, next) => vm.bindVcpu(port(next), next(VCPUS)),
  ({ vm }, next) => drained(vm, next(VCPUS)),
  ({ vm }, next) => vm.vcpu(next(VCPUS)).upcallPending,
  ({ vm }, next) => guestTakes(vm, vcpuInfoGpa(next(VCPUS))),
  ({ vm }, next) => vm.vcpu(next(VCPUS)).setAttr({ type: 'vcpu_info', gpa: null }),
  ({ vm }, next) => placeInfo(vm, next(VCPUS), next),
  ({ vm }) => dropMappings(vm),
  ({ vm }, next) => vm.vcpu(next(VCPUS)).setAttr({ type: 'upcall_vector', vector: next(2) * 0x40 }),
  ({ vm }, next) => vm.vcpu(next(VCPUS)).takeUpcallVector(),
  ({ vm }, next) => vm.vcpu(next(VCPUS)).setLapicEnabled(next(2) === 0),
  ({ vm }, next) => vm.vcpu(next(VCPUS)).kick(),
  ({ vm }, next) => vm.vcpu(next(VCPUS)).runnable,
  ({ vm }, next) => vm.vcpu(next(VCPUS)).beforeEntry(),
  ({ vm }, next) => vm.vcpu(next(VCPUS)).afterExit(),
  ({ vm, clock }, next) => {
    const expires = vm.kvmclock.now() + BigInt(next(500));
    vm.vcpu(next(VCPUS)).setAttr({ type: 'timer', port: port(next), expires });
    return clock.now();
  },
  ({ vm }, next) => vm.vcpu(next(VCPUS)).getAttr('timer'),
  ({ vm, clock }, next) => {
    clock.advance(BigInt(next(300)));
    return vm.tick();
  },
  ({ vm }) => vm.nextDeadline(),
  ({ vm }) => vm.kvmclock.now(),
  ({ vm }, next) => vm.vcpu(next(VCPUS)).readTsc(),
  ({ vm }, next) => vm.vcpu(next(VCPUS)).setTsc({ hz: 1_000_000 * (1 + next(9)) }),
  ({ vm, clock }, next) => {
    const vcpu = vm.vcpu(next(VCPUS));
    vcpu.enterRunstate(next(2) ? 'running' : 'blocked', clock.now(), clock.now() / 7n);
    return vcpu.runstate();
  },
  ({ vm, clock }, next) => vm.vcpu(next(VCPUS)).load(clock.now() / 7n),
  ({ vm }, next) => vm.vcpu(next(VCPUS)).unload({ preempted: next(2) === 0 }),
  ({ vm }) => vm.eventfds.list(),
  ({ vm }, next) => vm.eventfds.create(next(3), { semaphore: next(2) === 0 }).fd,
  ({ vm }, next) => vm.eventfds.get(3 + next(4)).write(1 + next(3)),
  ({ vm }, next) => vm.eventfds.get(3 + next(4)).read(),
  ({ vm }, next) => vm.eventfds.get(3 + next(4)).close(),
  ({ vm }, next) => vm.eventfds.bindIrq(3 + next(4), next(8)),
  ({ vm }, next) => vm.routes.set(routes(next)),
  ({ vm }, next) => vm.routes.raise(next(8), 1),
  ({ vm }, next) => setSendPort(vm, next),
  ({ vm }, next) => vm.sendPorts.ring(port(next)),
  ({ vm }) => vm.sendPorts.list(),
  ({ vm }, next) =>
    vm.vcpu(next(VCPUS)).hypercall(new FlatCpu(vm, { rip: BigInt(next(9)), registers: { rax: 77n } })).kind,
  ({ vm }, next) => vm.vcpu(next(VCPUS)).completeHypercall(new FlatCpu(vm, { rip: BigInt(next(9)) }), 5n),
  ({ vm }, next) => vm.dirtyLog.take(next(2)).join(),
  ({ vm }, next) => Array.from({ length: VCPUS }, (_, i) => vm.portStatus(1 + ((i * 37 + next(PORTS)) % PORTS))),
];

function placeInfo(vm: Vm, index: number, next: Next): void {
  vm.vcpu(index).setAttr({ type: 'vcpu_info', gpa: gpa(vcpuInfoGpa(index) + (next(3) === 0 ? 0x1000 : 0)) });
}

function routes(next: Next): EvtchnRoute[] {
  return Array.from({ length: next(8) }, (_, gsi) => ({ gsi, type: 'xen_evtchn', port: port(next), vcpu: next(10) }));
}

function setSendPort(vm: Vm, next: Next): void {
  const sendPort = port(next);
  const target = next(3) === 0 ? { eventfd: 3 + next(4) } : { port: port(next), vcpu: IDS[next(VCPUS)] ?? 0 };
  vm.setAttr({ type: 'evtchn', action: 'assign', sendPort, channel: 'interdomain', target });
}

/** The result, or the code of the error. */
function attempt(call: () => unknown): unknown {
  try {
    return call();
  } catch (error) {
    return (error as { code: string }).code;
  }
}

function freshVm(clock: VirtualClock, options: MakeOptions): Vm {
  return makeVm({ vcpus: VCPUS, vcpuIds: IDS, eventfds: 4, routes: 8, clock, ...options });
}

function newWorld(options: MakeOptions): World {
  const clock = new VirtualClock(1_000_000n, 10n ** 18n);
  const vm = freshVm(clock, options);
  vm.setConfig({ msr: 0x40000000, interceptHypercalls: true });
  vm.setAttr({ type: 'upcall_vector', vector: 0xf0 });
  for (const [id, at] of [
    [0, 0],
    [1, 2 ** 30],
  ] as const) {
    if (id) vm.memslots.set({ id, gpa: gpa(at), bytes: 65536, hva: vm.guestBase as never, logDirty: true });
    else {
      vm.memslots.set({ id, gpa: gpa(at), bytes: vm.guestBytes, hva: vm.guestBase as never, logDirty: true });
    }
  }
  return { vm, clock };
}

/** The trace of `steps` operations, with saves and restores as `interrupt` says. */
export function run(
  seed: number,
  steps: number,
  options: MakeOptions,
  interrupt: (world: World, next: Next) => void,
): unknown[] {
  const world = newWorld(options);
  const next = random(seed);
  const other = random(seed + 1);
  const trace: unknown[] = [];
  for (let i = 0; i < steps; i++) {
    interrupt(world, other);
    const operation = next(OPERATIONS.length);
    trace.push([operation, attempt(() => OPERATIONS[operation]?.(world, next))]);
  }
  trace.push(world.vm.snapshotState());
  return trace;
}

/** No thread runs a vCPU any more. */
function stop(vm: Vm): void {
  for (let i = 0; i < VCPUS; i++) {
    vm.vcpu(i).afterExit();
    vm.vcpu(i).unload();
  }
}

/** Saves, ends the VM, and goes on with another one, which may lie elsewhere. */
export function moved(world: World, next: Next, options: MakeOptions): void {
  stop(world.vm);
  const saved = world.vm.snapshot({ ram: true });
  world.vm.close();
  world.vm = freshVm(world.clock, { ...options, agents: 1 + next(8) });
  world.vm.restore(saved);
  if (Buffer.compare(world.vm.snapshot({ ram: true }), saved) !== 0)
    throw new Error('a restored VM is saved as another');
}

/** What goes with a save and a restore: vCPUs are stopped, expiries that wait are delivered, what is registered is mapped. */
export function stayed({ vm }: World, next: Next): void {
  next(8);
  stop(vm);
  vm.snapshotState();
  for (const gpc of vm.region.gpcs()) vm.gpcs.refresh(gpc);
}
