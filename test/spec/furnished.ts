// A VM with something of everything that a snapshot holds, always the same, and fresh ones that it can be restored into.

import { XEN_CPUID_EBX, XEN_CPUID_ECX, XEN_CPUID_EDX } from '../../src/abi/cpuid.ts';
import { FlatCpu, gpa, hva, VirtualClock, type Vm } from '../../src/index.ts';
import { type MakeOptions, makeVm, ram } from '../support.ts';

const START = 5_000_000_000n;
const STEPS = [1_000_000n, 1_000n] as const;

function hostClock(now: bigint): VirtualClock {
  return new VirtualClock(now, 1_700_000_000_000_000_000n, { tscHz: 2_000_000_000 });
}

/** The host's clock at the moment when a VM is furnished. */
export const clockThen = (): VirtualClock => hostClock(START + STEPS[0] + STEPS[1]);

/** Two vCPUs with ids that are not their indices, and room for everything. */
export function emptyVm(options: MakeOptions = {}): Vm {
  return makeVm({ vcpus: 2, vcpuIds: [3, 8], memslots: 4, routes: 8, eventfds: 4, clock: clockThen(), ...options });
}

/** Everything set to something that is not its default. */
export function furnishedVm(options: MakeOptions = {}): Vm {
  const clock = hostClock(START);
  const vm = emptyVm({ ...options, clock });
  vm.setConfig({ msr: 0x40000000, interceptHypercalls: true, evtchnSend: true, tscUnstable: true });
  vm.setAttr({ type: 'upcall_vector', vector: 0xf3 });
  vm.setAttr({ type: 'xen_version', version: 0x80040011 });
  vm.setAttr({ type: 'runstate_update_flag', enabled: true });
  furnishMemory(vm);
  furnishTime(vm, clock);
  furnishVcpus(vm);
  furnishEvents(vm);
  return vm;
}

function furnishMemory(vm: Vm): void {
  const high = gpa(2 ** 33);
  vm.memslots.set({ id: 7, gpa: high, bytes: 8192, hva: hva(vm.guestBase + 12 * 4096), logDirty: true });
  vm.memslots.set({ id: 9, addressSpace: 1, gpa: gpa(0), bytes: 4096, hva: hva(vm.guestBase), readonly: true });
  vm.guestMemory.write(gpa(high + 4096), Uint8Array.of(1, 2, 3), 1);
}

function furnishTime(vm: Vm, clock: VirtualClock): void {
  clock.advance(STEPS[0]);
  vm.kvmclock.set(777_000_000n);
  vm.vcpu(0).setTsc({ hz: 1_500_000_000, offset: 12_345n });
  vm.vcpu(1).setTsc({ hz: 1_500_000_000, offset: 12_345n });
  clock.advance(STEPS[1]);
}

function furnishVcpus(vm: Vm): void {
  const [first, second] = [vm.vcpu(0), vm.vcpu(1)];
  first.setAttr({ type: 'vcpu_id', id: 5 });
  first.setAttr({ type: 'vcpu_time_info', gpa: gpa(0x6000) });
  // Across a page edge.
  first.setAttr({ type: 'runstate_addr', gpa: gpa(0x7ff0) });
  first.load(100);
  first.enterRunstate('runnable', 400, 150);
  first.enterRunstate('blocked', 1000, 200);
  first.unload({ runDelay: 230 });
  first.setAttr({ type: 'upcall_vector', vector: 0x51 });
  first.setLapicEnabled(false);
  first.setCpuid((leaf) =>
    leaf === 0x40000100 ? { eax: 0x40000105, ebx: XEN_CPUID_EBX, ecx: XEN_CPUID_ECX, edx: XEN_CPUID_EDX } : null,
  );
  second.setAttr({ type: 'timer', port: 17, expires: 900_000_000n });
  // A hypercall that the embedder handles.
  const cpu = new FlatCpu(vm, { rip: 0xffff_ffff_8100_0000n, registers: { rax: 99n } });
  second.hypercall(cpu);
  second.kick();
}

function furnishEvents(vm: Vm): void {
  vm.bindVcpu(9, 1);
  vm.bindVcpu(64, 0);
  const line = vm.eventfds.create(0);
  const counter = vm.eventfds.create(41, { semaphore: true });
  vm.setAttr({ type: 'evtchn', action: 'assign', sendPort: 21, channel: 'ipi', target: { port: 21, vcpu: 8 } });
  vm.setAttr({ type: 'evtchn', action: 'assign', sendPort: 22, channel: 'interdomain', target: { port: 9, vcpu: 77 } });
  vm.setAttr({
    type: 'evtchn',
    action: 'assign',
    sendPort: 23,
    channel: 'interdomain',
    target: { eventfd: counter.fd },
  });
  vm.routes.set([
    { gsi: 24, type: 'xen_evtchn', port: 30, vcpu: 3 },
    { gsi: 4, type: 'irqchip', irqchip: 0, pin: 4 },
    { gsi: 4, type: 'irqchip', irqchip: 2, pin: 4 },
    { gsi: 25, type: 'msi', address: 0xfee0_0000_0000_1000n, data: 0x4041, device: 7 },
    { gsi: 26, type: 'msi', address: 0xfee0_1000n, data: 1 },
  ]);
  vm.eventfds.bindIrq(line.fd, 24);
  // Closed, and alive by its send port.
  counter.close();
  vm.mask(40);
  vm.send(40);
  vm.send(9);
  // Kept aside: its vcpu_info is away.
  vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: null });
  vm.send(64);
}

/** Guest RAM that no snapshot without RAM holds. */
export function copyRam(from: Vm, to: Vm): void {
  ram(to).set(ram(from));
}
