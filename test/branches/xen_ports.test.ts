// Sends by descriptors that are just being changed, and events for a guest that is just registering its shared_info. [R16]

import { describe, expect, test } from 'vitest';
import { GPC_ACTIVE, REGION_PORT_DESCS } from '../../src/abi/region.ts';
import { STEP_LOAD, STEP_RMW } from '../../src/abi/step.ts';
import {
  PORT_CONSUMER,
  PORT_DESC_SIZE,
  PORT_FREE,
  PORT_KEPT,
  PORT_RESERVED,
  PORT_SAVED,
  PORT_WHAT,
  XEN_ELSEWHERE,
} from '../../src/abi/xen_port.ts';
import { gfn, type Vm } from '../../src/index.ts';
import { createXen, type Domain } from '../../src/xen/index.ts';
import { changed } from '../spec/evidence.ts';
import { drained, KINDS, SHARED_INFO_GFN } from '../support.ts';
import { makeDomain } from '../xen/guests.ts';
import { Interrupted } from './between.ts';

function descOf({ region, vmBase }: Vm, port: number): number {
  return vmBase + region.words.load(vmBase + REGION_PORT_DESCS) + port * PORT_DESC_SIZE;
}

function loopback({ evtchn, domid }: Domain): [number, number] {
  const first = evtchn.allocUnbound({ remoteDom: domid });
  return [first, evtchn.bindInterdomain({ remoteDom: domid, remotePort: first })];
}

describe.each(KINDS)('$layout layout, shared memory: $shared', ({ longMode, shared, maxPorts }) => {
  test('XE-MOD-15 XE-OP-70 a peer that is being closed, or is the hypervisor’s by now: nothing becomes pending', () => {
    const domain = makeDomain(createXen(), { longMode, shared });
    const { vm } = domain;
    const { words } = vm.region;
    const [here, there] = loopback(domain);
    drained(vm);
    const what = words.load(descOf(vm, there) + PORT_WHAT);
    const send = (): number => vm.kernel.xenSend(vm.vmBase, vm.agent, 0, here);
    const answers = (as: number, answer: number): void => {
      words.store(descOf(vm, there) + PORT_WHAT, as);
      expect(changed(vm, () => expect(send()).toBe(answer))).toEqual([]);
    };
    answers(PORT_FREE, 0);
    answers(PORT_RESERVED, 0);
    answers(what | PORT_CONSUMER, XEN_ELSEWHERE);
    words.store(descOf(vm, there) + PORT_WHAT, what);
    expect([send(), drained(vm)]).toEqual([0, [there]]);
  });

  test('XE-MOD-24 a VIRQ whose port is not bound yet, or is not any more: nobody has it', () => {
    const domain = makeDomain(createXen(), { longMode, shared });
    const { vm } = domain;
    const { words } = vm.region;
    const port = domain.evtchn.bindVirq({ virq: 1, vcpu: 0 });
    const what = words.load(descOf(vm, port) + PORT_WHAT);
    const raise = (): number => vm.kernel.xenRaiseVirq(vm.vmBase, vm.agent, 0, 1);
    for (const as of [PORT_FREE, PORT_RESERVED, what | PORT_CONSUMER]) {
      words.store(descOf(vm, port) + PORT_WHAT, as);
      expect(changed(vm, () => expect(raise()).toBe(0))).toEqual([]);
    }
    words.store(descOf(vm, port) + PORT_WHAT, what);
    expect([raise(), raise(), drained(vm)]).toEqual([1, 0, [port]]);
  });

  test('XE-2L-05 XE-2L-06 what is pending of a closed port: -EAGAIN while the page is away, and nothing where there is no bit', () => {
    const { vm } = makeDomain(createXen(), { longMode, shared, ports: 8192, fifoPorts: 8192 });
    const clear = (port: number): number => vm.kernel.xenClearPending(vm.vmBase, vm.agent, port);
    vm.sendMany([5, 6, maxPorts - 1]);
    // Behind the last pending word lie the masks.
    vm.mask(1);
    expect(changed(vm, () => expect([maxPorts, maxPorts + 1, 8191].map(clear)).toEqual([0, 0, 0]))).toEqual([]);
    expect(clear(maxPorts - 1)).toBe(0);
    vm.kernel.gpcUnmap(vm.vmBase, vm.region.sharedInfo);
    expect(changed(vm, () => expect(clear(5)).toBe(-11))).toEqual([]);
    expect(drained(vm)).toEqual([5, 6]);
  });

  describe('an event while shared_info is being registered', () => {
    function stageOf() {
      const stage = new Interrupted({ longMode, shared, ports: 4096 });
      const { vm } = stage;
      const domain = createXen().adopt(vm);
      const port = domain.evtchn.bindIpi({ vcpu: 0 });
      vm.setAttr({ type: 'shared_info', gfn: null });
      const kept = descOf(vm, port) + PORT_KEPT;
      const send = (): number => vm.kernel.xenSend(vm.vmBase, vm.agent, 0, port);
      const register = (): void => vm.setAttr({ type: 'shared_info', gfn: gfn(SHARED_INFO_GFN) });
      const saved = (): number => vm.region.words.load(kept) & PORT_SAVED;
      return { stage, vm, port, kept, send, register, saved };
    }

    test('XE-2L-01 before it is kept: nobody else raises it, so the sender takes it back and tries again', () => {
      const { stage, vm, port, kept, send, register, saved } = stageOf();
      const other = (): void => vm.region.words.store(vm.region.sharedInfo + GPC_ACTIVE, 1);
      expect(stage.run({ kind: STEP_RMW, at: kept }, other, send)).toBe(-11);
      expect(saved()).toBe(0);
      vm.region.words.store(vm.region.sharedInfo + GPC_ACTIVE, 0);
      register();
      expect([send(), drained(vm)]).toEqual([0, [port]]);
    });

    test('XE-2L-01 after it is kept: whoever registers raises it, and the sender does not', () => {
      const { stage, vm, port, send, register, saved } = stageOf();
      // The second look is behind the bit; the owner takes the bit and raises the port as soon as senders are through.
      const { words, sharedInfo } = vm.region;
      const desc = descOf(vm, port);
      const other = (): void => {
        words.store(sharedInfo + GPC_ACTIVE, 1);
        words.and(desc + PORT_KEPT, ~PORT_SAVED);
      };
      expect(stage.run({ kind: STEP_LOAD, at: sharedInfo + GPC_ACTIVE, count: 2 }, other, send)).toBe(0);
      expect(saved()).toBe(0);
      words.store(sharedInfo + GPC_ACTIVE, 0);
      register();
      expect(drained(vm)).toEqual([]);
    });

    test('XE-2L-01 nobody registers: it is kept, and raised when somebody does', () => {
      const { vm, port, send, register, saved } = stageOf();
      expect([send(), saved()]).toEqual([0, PORT_SAVED]);
      register();
      expect([saved(), drained(vm)]).toEqual([0, [port]]);
    });
  });
});
