// The vCPU's own upcall vector and its local APIC: an edge that is lost while the APIC is off, and due again. [KX-EVT-48..50, KF-14]

import { describe, expect, test } from 'vitest';
import { VCPU_LAPIC_OFF, VCPU_MODE } from '../../src/abi/region.ts';
import { attachVm, type Vm } from '../../src/index.ts';
import { drained, KINDS, LAYOUTS, ram, random, VCPU_INFO_GPA, vcpuInfoGpa } from '../support.ts';
import { changed, dropMappings, guestTakes, invalidate, noNaps, register, unregister } from './evidence.ts';
import { type Guest, MSR, makeGuest, setVector, VECTOR } from './guest.ts';

const OWN = 0x40;

describe.each(KINDS)('$layout layout, shared memory: $shared', ({ longMode, shared, bits }) => {
  const make = (more = {}): Guest => {
    const guest = makeGuest({ longMode, shared, ...more });
    guest.vcpu.setAttr({ type: 'upcall_vector', vector: OWN });
    return guest;
  };

  test('KX-EVT-48 the vector is due for each new selector bit, and told once at entry', () => {
    const guest = make();
    guest.vm.send(5);
    expect(guest.vcpu.beforeEntry()).toEqual({ kind: 'enter', externalInterrupt: 0, lapicInterrupt: OWN });
    guest.vm.send(6);
    expect(guest.vcpu.beforeEntry()).toEqual({ kind: 'enter', externalInterrupt: 0, lapicInterrupt: 0 });
    guest.vm.send(3 * bits);
    expect(guest.vcpu.leaveRequested).toBe(true);
    expect(guest.vcpu.beforeEntry()).toMatchObject({ lapicInterrupt: OWN });
    expect(guest.vcpu.leaveRequested).toBe(false);
  });

  test('KX-EVT-48 KX-EVT-55 the flush of the shadow sends the vector, also when bits and byte were set already', () => {
    const guest = make();
    unregister(guest.vm);
    guest.vm.send(5);
    expect(guest.vcpu.beforeEntry()).toMatchObject({ lapicInterrupt: 0 });
    register(guest.vm, VCPU_INFO_GPA);
    expect(guest.vcpu.beforeEntry()).toMatchObject({ lapicInterrupt: OWN });
    guest.vcpu.afterExit();
    dropMappings(guest.vm);
    guest.vm.send(2 * bits);
    expect(guest.vcpu.beforeEntry()).toMatchObject({ lapicInterrupt: OWN });
  });

  test('KX-EVT-49 X-20 an edge is lost while the APIC is disabled, and due once when it is enabled', () => {
    const guest = make();
    const { vm, vcpu } = guest;
    vcpu.beforeEntry();
    vcpu.setLapicEnabled(false);
    expect(vcpu.lapicEnabled).toBe(false);
    vm.send(5);
    expect([vcpu.takeUpcallVector(), vcpu.hasEvents, vcpu.leaveRequested]).toEqual([0, false, false]);
    expect(vcpu.beforeEntry()).toMatchObject({ lapicInterrupt: 0 });
    expect(changed(vm, () => vcpu.setLapicEnabled(true))).toEqual([]);
    expect(vcpu.lapicEnabled).toBe(true);
    expect([vcpu.hasEvents, vcpu.leaveRequested]).toEqual([true, true]);
    expect(vcpu.beforeEntry()).toMatchObject({ lapicInterrupt: OWN });
    expect(vcpu.beforeEntry()).toMatchObject({ lapicInterrupt: 0 });
  });

  test('KX-EVT-49 what was lost and then taken by the guest is not due when the APIC is enabled', () => {
    const guest = make();
    guest.vcpu.setLapicEnabled(false);
    guest.vm.send(5);
    expect(drained(guest.vm)).toEqual([5]);
    guest.vcpu.setLapicEnabled(true);
    expect(guest.vcpu.beforeEntry()).toMatchObject({ lapicInterrupt: 0 });
    guest.vm.send(5);
    expect(guest.vcpu.beforeEntry()).toMatchObject({ lapicInterrupt: OWN });
  });

  test('KX-EVT-49 an edge of the time when the APIC was off does not come back by itself, whoever looked meanwhile', () => {
    const guest = make();
    guest.vcpu.setLapicEnabled(false);
    guest.vm.send(5);
    guestTakes(guest.vm);
    // Nobody has taken it: enabling is what drops it.
    guest.vcpu.setLapicEnabled(true);
    expect(guest.vcpu.takeUpcallVector()).toBe(0);
  });

  test('KX-EVT-49 an edge that came before the APIC was disabled is due when it is enabled, if the guest is still asked', () => {
    const guest = make();
    guest.vm.send(5);
    guest.vcpu.setLapicEnabled(false);
    expect(guest.vcpu.takeUpcallVector()).toBe(0);
    guest.vcpu.setLapicEnabled(true);
    expect(guest.vcpu.takeUpcallVector()).toBe(OWN);
  });

  test('KX-EVT-49 a write that enables an APIC that is enabled sends the vector again while the byte is set', () => {
    const guest = make();
    guest.vm.send(5);
    expect(guest.vcpu.takeUpcallVector()).toBe(OWN);
    guest.vcpu.setLapicEnabled(true);
    expect(guest.vcpu.takeUpcallVector()).toBe(OWN);
    guestTakes(guest.vm);
    guest.vcpu.setLapicEnabled(true);
    expect(guest.vcpu.takeUpcallVector()).toBe(0);
  });

  test('KX-EVT-49 an edge that an enabled APIC was sent stays due when it is enabled again, byte or not', () => {
    const guest = make();
    guest.vm.send(5);
    guestTakes(guest.vm);
    guest.vcpu.setLapicEnabled(true);
    expect(guest.vcpu.takeUpcallVector()).toBe(OWN);
  });

  test('KX-EVT-49 KX-EVT-56 an edge to an APIC that is off is no event and no reason to leave the guest', () => {
    const guest = make();
    guest.vcpu.beforeEntry();
    guest.vcpu.setLapicEnabled(false);
    guest.vm.send(5);
    expect([guest.vcpu.hasEvents, guest.vcpu.runnable, guest.vcpu.leaveRequested]).toEqual([false, false, false]);
  });

  test.each([
    ['the gate is closed', (g: Guest) => g.vm.setConfig({ msr: 0 })],
    ['there is no vector', (g: Guest) => g.vcpu.setAttr({ type: 'upcall_vector', vector: 0 })],
    ['there is no vcpu_info', (g: Guest) => unregister(g.vm)],
    ['the byte is not set', (g: Guest) => guestTakes(g.vm)],
    ['vcpu_info cannot be mapped', (g: Guest) => g.vm.memslots.delete(0)],
  ])('KX-EVT-49 nothing is due at enabling while %s', (_why, prepare) => {
    const guest = make();
    guest.vcpu.setLapicEnabled(false);
    guest.vm.send(5);
    prepare(guest);
    guest.vcpu.setLapicEnabled(true);
    // Nor is it left for a vector that is set later.
    guest.vcpu.setAttr({ type: 'upcall_vector', vector: OWN });
    expect(guest.vcpu.takeUpcallVector()).toBe(0);
  });

  test('KX-EVT-49 KX-EVT-46 a vcpu_info that is only unmapped is mapped to look at its byte', () => {
    const guest = make();
    guest.vcpu.setLapicEnabled(false);
    guest.vm.send(5);
    dropMappings(guest.vm);
    guest.vcpu.setLapicEnabled(true);
    expect(guest.vcpu.takeUpcallVector()).toBe(OWN);
  });

  test('KX-EVT-50 with both vectors set both fire: the edge once, the level as long as the byte is set', () => {
    const guest = make();
    setVector(guest);
    guest.vm.send(5);
    expect(guest.vcpu.beforeEntry()).toEqual({ kind: 'enter', externalInterrupt: VECTOR, lapicInterrupt: OWN });
    expect(guest.vcpu.beforeEntry()).toEqual({ kind: 'enter', externalInterrupt: VECTOR, lapicInterrupt: 0 });
    guestTakes(guest.vm);
    expect(guest.vcpu.beforeEntry()).toEqual({ kind: 'enter', externalInterrupt: 0, lapicInterrupt: 0 });
  });

  test('KX-EVT-50 the VM’s vector does not ask the local APIC', () => {
    const guest = make();
    setVector(guest);
    guest.vcpu.setLapicEnabled(false);
    guest.vm.send(5);
    expect(guest.vcpu.beforeEntry()).toEqual({ kind: 'enter', externalInterrupt: VECTOR, lapicInterrupt: 0 });
  });

  test('each vCPU has its own APIC and vector', () => {
    const guest = make({ vcpus: 2 });
    const { vm } = guest;
    vm.vcpu(1).setAttr({ type: 'upcall_vector', vector: 0x50 });
    vm.bindVcpu(9, 1);
    vm.vcpu(0).setLapicEnabled(false);
    vm.send(5);
    vm.send(9);
    expect([vm.vcpu(0).takeUpcallVector(), vm.vcpu(1).takeUpcallVector()]).toEqual([0, 0x50]);
    expect([vm.vcpu(0).lapicEnabled, vm.vcpu(1).lapicEnabled]).toEqual([false, true]);
  });

  test('KF-14 toggled in any order, an upcall is never dropped: asked and deliverable means injected since the last change', () => {
    for (let seed = 1; seed <= 40; seed++) {
      const next = random(seed);
      const guest = make();
      const { vm, vcpu } = guest;
      let [level, edges, on, gate] = [VECTOR, 0, true, true];
      setVector(guest, level);
      for (let step = 0; step < 60; step++) {
        switch (next(9)) {
          case 0:
            on = !on;
            vcpu.setLapicEnabled(on);
            break;
          case 1:
            level = level ? 0 : VECTOR;
            setVector(guest, level);
            break;
          case 2:
            gate = !gate;
            vm.setConfig({ msr: gate ? MSR : 0 });
            // As the guest's own next write of the register would.
            if (gate && on) vcpu.setLapicEnabled(true);
            break;
          case 3:
            dropMappings(vm);
            break;
          case 4:
            vm.mask(next(3) + 1);
            break;
          case 5:
            vm.unmask(next(3) + 1);
            break;
          case 6:
            if (next(3) === 0) {
              drained(vm);
              edges = 0;
            }
            break;
          default:
            vm.send(next(4 * bits) || 1);
        }
        const entry = vcpu.beforeEntry();
        if (entry.kind !== 'enter') expect.fail(entry.kind);
        if (entry.lapicInterrupt) edges++;
        if (!on) edges = 0;
        const asked = ram(vm)[VCPU_INFO_GPA] !== 0;
        expect(entry.externalInterrupt, `seed ${seed}, step ${step}`).toBe(asked && gate ? level : 0);
        if (asked && on && gate) expect(edges, `seed ${seed}, step ${step}: no edge`).toBeGreaterThan(0);
      }
    }
  });

  test('an APIC that is off is in the region, where every agent sees it', () => {
    const guest = make();
    guest.vcpu.setLapicEnabled(false);
    const { words } = guest.vm.region;
    expect(words.load(guest.vcpu.record + VCPU_MODE) & VCPU_LAPIC_OFF).toBe(VCPU_LAPIC_OFF);
    if (shared) expect(attachVm(guest.vm.handle()).vcpu(0).lapicEnabled).toBe(false);
  });
});

describe.each(LAYOUTS)('onUpcall, $layout layout', ({ longMode, bits }) => {
  function listening(): { vm: Vm; calls: number[]; guest: Guest } {
    const guest = makeGuest({ longMode, shared: false });
    const calls: number[] = [];
    guest.vcpu.setAttr({ type: 'upcall_vector', vector: OWN });
    guest.vcpu.onUpcall((_, vector) => calls.push(vector));
    return { vm: guest.vm, calls, guest };
  }

  test('KX-EVT-49 a listener is told no vector while the APIC is off, and the vector when it is enabled', () => {
    const { vm, calls, guest } = listening();
    guest.vcpu.setLapicEnabled(false);
    vm.send(5);
    vm.send(2 * bits);
    expect(calls).toEqual([0, 0]);
    guest.vcpu.setLapicEnabled(true);
    expect(calls).toEqual([0, 0, OWN]);
    expect(guest.vcpu.takeUpcallVector()).toBe(0);
    drained(vm);
    guest.vcpu.setLapicEnabled(true);
    expect(calls.length).toBe(3);
  });
});

test('KF-14 enabled while an invalidation keeps the page for too long, the vector is due: better once too often', () => {
  noNaps();
  const guest = makeGuest({ vcpus: 2 });
  guest.vcpu.setAttr({ type: 'upcall_vector', vector: OWN });
  guest.vcpu.setLapicEnabled(false);
  guest.vm.send(5);
  invalidate(guest.vm, vcpuInfoGpa(0));
  guest.vcpu.setLapicEnabled(true);
  expect(guest.vcpu.takeUpcallVector()).toBe(OWN);
  guest.vm.invalidateEnd();
  expect(drained(guest.vm)).toEqual([5]);
});
