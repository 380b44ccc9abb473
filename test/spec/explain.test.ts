// "Why did nothing happen?": a port that is stuck for each reason there is, and the sentence that names it.

import { afterEach, describe, expect, test, vi } from 'vitest';
import { KICK_SLEEPER, VCPU_KICK, VCPU_SLEEPER } from '../../src/abi/region.ts';
import {
  attachVm,
  type Explanation,
  type ExplanationCause,
  FlatCpu,
  gfn,
  gpa,
  hva,
  VirtualClock,
  type Vm,
} from '../../src/index.ts';
import { drained, errorOf, makeVm, memoryBytes, ram, SHARED_INFO_GFN, VCPU_INFO_GPA } from '../support.ts';
import { changes, dropMappings, guestSets, guestTakes, invalidate, noNaps, register, unregister } from './evidence.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

const MSR = 0x40000000;
/** Behind everything that `makeVm` uses. */
const FAR = 0x100000;

/** Explains a port, sees that not one byte of the memory has changed, and that the text has it all. */
function explained(vm: Vm, port: number): Explanation {
  const before = memoryBytes(vm);
  const explanation = vm.explain(port);
  expect(changes(before, memoryBytes(vm))).toEqual([]);
  const text = String(explanation);
  for (const part of [explanation.verdict, explanation.advice, ...explanation.facts.map(({ what }) => what)]) {
    expect(text).toContain(part);
  }
  for (const { what, means } of explanation.facts) {
    expect(what).not.toBe('');
    expect(means).not.toBe('');
  }
  expect(explanation.verdict).not.toContain('undefined');
  return explanation;
}

/** The cause is this one, and the sentence has these words. */
function blames(vm: Vm, port: number, cause: ExplanationCause, ...words: readonly (string | number)[]): Explanation {
  const explanation = explained(vm, port);
  expect(explanation.cause).toBe(cause);
  for (const word of words) expect(explanation.verdict).toContain(String(word));
  return explanation;
}

/** The value of a fact. */
function fact(explanation: Explanation, what: string): unknown {
  return explanation.facts.find((found) => found.what === what)?.value;
}

/** Registers something where it cannot be reached. */
function misplace(call: () => void): void {
  expect(errorOf(call).code).toBe('EFAULT');
}

describe('the port', () => {
  test.each([
    0,
    -1,
    4096,
    2 ** 31,
    1.5,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    '5' as never,
    {} as never,
    null as never,
  ])('%s is no port: the verdict says so, and nothing is thrown', (port) => {
    blames(makeVm(), port, 'not-a-port', String(port), '1 to 4095');
  });

  test('one that a 32-bit guest has not', () => {
    const vm = makeVm({ longMode: false });
    blames(vm, 1024, 'out-of-mode', '1023', '32-bit');
    expect(vm.explain(1023).cause).toBe('not-pending');
  });

  test('a view that is detached, a VM that is closed', () => {
    const vm = makeVm();
    const other = attachVm(vm.handle());
    vm.close();
    blames(vm, 5, 'detached', '-EBADF');
    blames(other, 5, 'closed');
  });
});

describe('shared_info', () => {
  test('not registered', () => {
    const vm = makeVm();
    vm.setAttr({ type: 'shared_info', gfn: null });
    expect(vm.send(5)).toBe(-22);
    blames(vm, 5, 'no-shared-info', 'shared_info is not registered');
  });

  test('in no memory slot', () => {
    const vm = makeVm();
    misplace(() => vm.setAttr({ type: 'shared_info', gfn: gfn(FAR >> 12) }));
    expect(vm.send(5)).toBe(-14);
    blames(vm, 5, 'shared-info-unreachable', 'no memory slot', '0x100000');
  });

  test('in a slot that is read-only', () => {
    const vm = makeVm();
    vm.memslots.set({ id: 1, gpa: gpa(FAR), bytes: 4096, hva: hva(vm.guestBase), readonly: true });
    misplace(() => vm.setAttr({ type: 'shared_info', gfn: gfn(FAR >> 12) }));
    blames(vm, 5, 'shared-info-unreachable', 'read-only', 'slot');
  });

  test('in a slot that leads out of the window', () => {
    const vm = makeVm();
    vm.memslots.set({ id: 1, gpa: gpa(FAR), bytes: 4096, hva: hva(0) });
    misplace(() => vm.setAttr({ type: 'shared_info', gfn: gfn(FAR >> 12) }));
    blames(vm, 5, 'shared-info-unreachable', 'outside the guest-RAM window');
  });

  test('at a host address outside the window', () => {
    const vm = makeVm();
    misplace(() => vm.setAttr({ type: 'shared_info_hva', hva: hva(2 ** 40) }));
    blames(vm, 5, 'shared-info-unreachable', 'host address 0x10000000000');
  });

  test('on a host page that is absent, or read-only', () => {
    const vm = makeVm({ hostPages: 256 });
    const page = hva(vm.guestBase + SHARED_INFO_GFN * 4096);
    vm.hostPages.unmap(page, 1);
    expect(vm.send(5)).toBe(-14);
    blames(vm, 5, 'shared-info-unreachable', 'absent');
    vm.hostPages.map(page, 1, page as never, { writable: false });
    blames(vm, 5, 'shared-info-unreachable', 'read-only', 'host page');
  });

  test('while an invalidation is open', () => {
    const vm = makeVm();
    invalidate(vm, SHARED_INFO_GFN * 4096);
    expect(vm.send(5)).toBe(-11);
    blames(vm, 5, 'invalidation-open', '1 invalidation is open');
    invalidate(vm, 0);
    blames(vm, 5, 'invalidation-open', '2 invalidations are open');
  });

  test('while an invalidation waits for a bracket that an agent holds', () => {
    const vm = makeVm();
    const other = attachVm(vm.handle());
    other.enter();
    // As the owner sees it from another thread, in the middle of invalidateStart.
    let seen: Explanation | undefined;
    vi.spyOn(Atomics, 'wait').mockImplementation(() => {
      seen ??= vm.explain(5);
      return 'timed-out';
    });
    expect(errorOf(() => invalidate(vm, SHARED_INFO_GFN * 4096)).code).toBe('EBUSY');
    expect(seen?.cause).toBe('invalidation-waits');
    expect(seen?.verdict).toContain(`agent ${other.agentNumber}`);
    expect(fact(seen as Explanation, 'bracket')).toBe(other.agentNumber);
  });

  test('not mapped at the moment is no reason: it is looked at where it lies', () => {
    const vm = makeVm();
    vm.send(5);
    vm.mask(5);
    dropMappings(vm);
    const explanation = blames(vm, 5, 'masked');
    expect(explanation.facts.find(({ what }) => what === 'shared_info')?.means).toContain('the next use maps it');
  });
});

describe('not pending', () => {
  test('never raised, or taken', () => {
    const vm = makeVm();
    blames(vm, 5, 'not-pending', 'nobody has raised it');
    vm.send(5);
    drained(vm);
    blames(vm, 5, 'not-pending');
  });

  test('KX-EVA-12 a send port that names a vCPU that there is not', () => {
    const vm = makeVm({ vcpuIds: [4] });
    vm.setAttr({
      type: 'evtchn',
      action: 'assign',
      sendPort: 8,
      channel: 'interdomain',
      target: { port: 5, vcpu: 77 },
    });
    expect(vm.sendPorts.ring(8)).toBeNull();
    const explanation = blames(vm, 5, 'unknown-vcpu', 'send port 8', '77');
    expect(fact(explanation, 'send port 8')).toBe('vCPU id 77');
    expect(vm.explain(8).cause).toBe('not-pending');
  });

  test('KX-RTE-02 a route that names a vCPU that there is not, and the eventfd before it', () => {
    const vm = makeVm();
    vm.routes.set([{ gsi: 24, type: 'xen_evtchn', port: 5, vcpu: 3 }]);
    const { fd } = vm.eventfds.create();
    vm.eventfds.bindIrq(fd, 24);
    const explanation = blames(vm, 5, 'unknown-vcpu', 'gsi 24', 'id 3');
    expect(fact(explanation, `eventfd ${fd}`)).toBe(true);
    vm.routes.set([{ gsi: 24, type: 'xen_evtchn', port: 5, vcpu: 0 }]);
    expect(fact(blames(vm, 5, 'not-pending'), 'the route of gsi 24')).toBe('vCPU id 0');
  });

  test('KX-TMR-01 a timer that has not expired, one that nobody ticks, and one that waits for its vCPU', () => {
    const clock = new VirtualClock(100n);
    const vm = makeVm({ clock });
    vm.vcpu(0).setAttr({ type: 'timer', port: 5, expires: 0n });
    expect(fact(blames(vm, 5, 'not-pending'), 'the timer of vCPU 0')).toBe('not set');
    vm.vcpu(0).setAttr({ type: 'timer', port: 5, expires: 1000n });
    blames(vm, 5, 'timer-armed', 'timer of vCPU 0', '1000 ns');
    clock.advance(1500n);
    blames(vm, 5, 'timer-due', '500 ns', 'tick');
    dropMappings(vm);
    vm.tick();
    blames(vm, 5, 'timer-waits', 'timer of vCPU 0');
  });
});

describe('pending', () => {
  test('masked', () => {
    const vm = makeVm();
    vm.mask(5);
    expect(vm.send(5)).toBe(-107);
    const explanation = blames(vm, 5, 'masked', 'masked');
    expect(fact(explanation, 'masked')).toBe(true);
    expect(explanation.advice).toContain('vm.unmask(5)');
  });

  test('KX-EVT-41 masked, and polled for by a vCPU that is not told', () => {
    const vm = makeVm({ vcpus: 2 });
    vm.bindVcpu(5, 1);
    vm.mask(5);
    begunPoll(vm, 0, 5);
    vm.send(5);
    blames(vm, 5, 'polled-by-another', 'vCPU 0 polls', 'vCPU 1');
  });

  test('unmasked by a guest that did not look at pending', () => {
    const vm = makeVm();
    vm.mask(5);
    vm.send(5);
    guestSets(vm, 'mask', 5, false);
    const explanation = blames(vm, 5, 'not-selected', 'no selector');
    expect(explanation.advice).toContain('resync');
    vm.vcpu(0).resync();
    expect(drained(vm)).toEqual([5]);
  });

  test('its word shows in the selector of another vCPU than the one it is bound to', () => {
    const vm = makeVm({ vcpus: 2 });
    vm.bindVcpu(5, 1);
    vm.send(5);
    guestTakes(vm, VCPU_INFO_GPA + 64);
    vm.send(6);
    blames(vm, 5, 'selected-elsewhere', 'bound to vCPU 1', 'vCPU 0');
  });

  test('the upcall byte was cleared, the selector not taken', () => {
    const vm = makeVm();
    vm.send(5);
    ram(vm)[VCPU_INFO_GPA] = 0;
    blames(vm, 5, 'upcall-taken', 'upcall byte of vCPU 0');
  });
});

describe('vcpu_info', () => {
  test('not registered: the event is kept aside', () => {
    const vm = makeVm({ vcpus: 2 });
    vm.bindVcpu(5, 1);
    unregister(vm, 1);
    vm.send(5);
    const explanation = blames(vm, 5, 'no-vcpu-info', 'vCPU 1');
    expect(fact(explanation, 'vCPU 1 shadow')).toBe(true);
  });

  test('registered where it cannot be reached', () => {
    const vm = makeVm();
    misplace(() => register(vm, FAR));
    vm.send(5);
    blames(vm, 5, 'vcpu-info-unreachable', 'vcpu_info of vCPU 0', 'no memory slot');
  });

  test('on a host page that is absent', () => {
    const vm = makeVm({ hostPages: 256 });
    vm.hostPages.unmap(hva(vm.guestBase + VCPU_INFO_GPA), 1);
    vm.send(5);
    blames(vm, 5, 'vcpu-info-unreachable', 'absent');
  });

  test('back again, and the vCPU has not looked since', () => {
    const vm = makeVm();
    unregister(vm);
    vm.send(5);
    register(vm, VCPU_INFO_GPA);
    blames(vm, 5, 'shadow-waits', 'has not looked since');
    vm.setAttr({ type: 'upcall_vector', vector: 0xf3 });
    blames(vm, 5, 'gate-closed', 'no MSR');
    vm.setConfig({ msr: MSR });
    blames(vm, 5, 'shadow-waits');
    expect(vm.vcpu(0).flushShadow()).toBe(true);
  });

  test('held off by an open invalidation', () => {
    const vm = makeVm();
    unregister(vm);
    vm.send(5);
    register(vm, VCPU_INFO_GPA);
    invalidate(vm, VCPU_INFO_GPA);
    blames(vm, 5, 'invalidation-open', 'vcpu_info of vCPU 0');
  });
});

describe('the upcall', () => {
  /** A guest that is asked for an upcall of port 5 and does not react. */
  function asked(options: Parameters<typeof makeVm>[0] = {}): Vm {
    const vm = makeVm(options);
    vm.setConfig({ msr: MSR });
    vm.send(5);
    return vm;
  }

  test('no vector, and nobody who looks', () => {
    blames(asked(), 5, 'no-vector', 'no upcall vector');
    const explanation = blames(asked({ shared: false }), 5, 'no-vector');
    expect(fact(explanation, 'listener')).toBe(false);
    expect(explanation.advice).toContain('onUpcall');
  });

  test('KX-GEN-05 the gate is closed', () => {
    const vm = makeVm();
    vm.setAttr({ type: 'upcall_vector', vector: 0xf3 });
    vm.send(5);
    blames(vm, 5, 'gate-closed', 'no MSR');
  });

  test('KX-EVT-45 no interrupt controller on this side', () => {
    const vm = asked({ irqchip: false });
    vm.setAttr({ type: 'upcall_vector', vector: 0xf3 });
    blames(vm, 5, 'no-irqchip', 'irqchip: false');
  });

  test('KX-EVT-45 the VM’s vector waits for an entry', () => {
    const vm = asked();
    vm.setAttr({ type: 'upcall_vector', vector: 0xf3 });
    const explanation = blames(vm, 5, 'waits-for-entry', 'vector 243');
    expect(explanation.advice).toContain('beforeEntry');
  });

  test('KX-EVT-20 the guest holds upcalls off', () => {
    const vm = asked();
    vm.setAttr({ type: 'upcall_vector', vector: 0xf3 });
    ram(vm)[VCPU_INFO_GPA + 1] = 1;
    blames(vm, 5, 'upcall-masked', 'upcall mask');
  });

  test('KX-EVT-48, 49 the vCPU’s own vector: due, taken, or lost to an APIC that is off', () => {
    const vm = makeVm();
    vm.setConfig({ msr: MSR });
    vm.vcpu(0).setAttr({ type: 'upcall_vector', vector: 0x51 });
    vm.send(5);
    blames(vm, 5, 'vector-due', 'vector 81');
    vm.vcpu(0).takeUpcallVector();
    blames(vm, 5, 'vector-taken', 'vector 81');
    vm.vcpu(0).setLapicEnabled(false);
    blames(vm, 5, 'lapic-off', 'software-disabled');
    ram(vm)[VCPU_INFO_GPA + 1] = 1;
    blames(vm, 5, 'lapic-off');
    vm.vcpu(0).setLapicEnabled(true);
    blames(vm, 5, 'upcall-masked');
  });

  test('a vCPU that sleeps although it is asked', () => {
    const vm = asked();
    const other = attachVm(vm.handle());
    // As it lies between the sender's store and the sleeper's look.
    const { line } = vm.vcpu(0);
    vm.region.words.store(line + VCPU_SLEEPER, other.agent);
    vm.region.words.or(line + VCPU_KICK, KICK_SLEEPER);
    blames(vm, 5, 'asleep', `agent ${other.agentNumber} sleeps for vCPU 0`);
  });

  test('a vCPU that is in a poll for another port', () => {
    const vm = makeVm();
    begunPoll(vm, 0, 77);
    vm.send(5);
    blames(vm, 5, 'polling', 'poll for port 77');
  });
});

describe('the rest', () => {
  test('it names the vCPU that an unbound port was raised on', () => {
    const vm = makeVm({ vcpus: 3, vcpuIds: [5, 6, 7] });
    vm.evtchnSend({ port: 9, vcpu: 7 });
    const explanation = blames(vm, 9, 'no-vector', 'vCPU 2');
    expect(fact(explanation, 'vCPU 2 selector')).toBe(true);
  });

  test.each([true, false])('every agent may ask, inside a bracket and in a handler as well (shared %s)', (shared) => {
    noNaps();
    const vm = makeVm({ shared });
    const other = attachVm(vm.handle());
    other.enter();
    vm.send(5);
    expect(String(other.explain(5))).toBe(String(vm.explain(5)));
    expect(vm.explain(5).facts.filter(({ what }) => what === 'bracket')).toHaveLength(1);
    other.leave();
    vm.vcpu(0).drain((port) => expect(vm.explain(port).cause).toBe('not-pending'));
  });

  test('no byte changes for any port of a busy VM', () => {
    const vm = makeVm({ vcpus: 2 });
    for (const port of [3, 64, 100, 4095]) vm.send(port);
    vm.bindVcpu(64, 1);
    const before = memoryBytes(vm);
    for (let port = -2; port < 4099; port += 7) vm.explain(port);
    expect(changes(before, memoryBytes(vm))).toEqual([]);
  });

  test('the text is what a person reads', () => {
    const vm = makeVm();
    vm.mask(5);
    vm.send(5);
    expect(String(vm.explain(5)).split('\n')).toEqual([
      'port 5: it is pending, but the guest has masked it',
      expect.stringMatching(/^ {2}bound +false +vCPU 0: not bound/),
      expect.stringMatching(/^ {2}shared_info +guest address 0x3000 +mapped$/),
      expect.stringMatching(/^ {2}pending +true +it was raised and not taken yet$/),
      expect.stringMatching(/^ {2}masked +true +the guest wants no upcall for it$/),
      expect.stringMatching(/^ {2}vCPU 0 vcpu_info +guest address 0x4000 +KVM id 0; mapped$/),
      expect.stringMatching(/^ {2}vCPU 0 selector +false +it is not told of the word$/),
      expect.stringMatching(/^ {2}vCPU 0 shadow +false +nothing waits for vcpu_info$/),
      expect.stringMatching(/^ {2}vCPU 0 upcall byte +false +it is not asked for one$/),
      expect.stringMatching(/^ {2}vCPU 0 upcall mask +false +the guest takes them$/),
      expect.stringMatching(/^ {2}upcall vector +0 +the VM has none$/),
      expect.stringMatching(/^ {2}gate +false +closed: nothing happens by itself$/),
      expect.stringMatching(/^ {2}irqchip +true +interrupts are injected on this side$/),
      '  do: unmask it: vm.unmask(5), or the guest clears the mask bit and raises what is pending',
    ]);
  });

  test('every cause there is has been blamed above', async () => {
    const { readFileSync } = await import('node:fs');
    const source = readFileSync('src/vm/explain/explain.ts', 'utf8');
    const causes = [...source.matchAll(/^ {2}\| '([\w-]+)'/gm)].map((match) => match[1] ?? '');
    expect(causes.length).toBeGreaterThan(25);
    const text = readFileSync('test/spec/explain.test.ts', 'utf8');
    expect(causes.filter((cause) => !text.includes(`'${cause}'`))).toEqual([]);
  });
});

/** A vCPU that sleeps in SCHEDOP_poll for one port. */
function begunPoll(vm: Vm, index: number, port: number): void {
  vm.setConfig({ msr: MSR, interceptHypercalls: true, evtchnSend: true });
  const view = new DataView(vm.memory.buffer, vm.guestBase + 0x8000);
  view.setBigUint64(0, 0x8100n, true);
  view.setUint32(8, 1, true);
  view.setUint32(0x100, port, true);
  const cpu = new FlatCpu(vm, { registers: { rax: 29n, rdi: 3n, rsi: 0x8000n } });
  expect(vm.vcpu(index).hypercall(cpu).kind).toBe('blocked');
}
