// A soft reset, and what a snapshot keeps of an area that lies across two pages. [XE-CB-20]

import { describe, expect, test } from 'vitest';
import { drained, ram } from '../support.ts';
import {
  AREA,
  addToPhysmap,
  answer,
  CALLERS,
  type Caller,
  getParam,
  makeGuest,
  put,
  registerVcpuInfo,
  SHARED_INFO_FRAME,
  setParam,
  VCPU_INFO_FRAME,
  VECTOR_VIA,
} from './caller.ts';

describe.each(CALLERS)('$caller caller, shared memory: $shared', ({ long, shared }) => {
  const make = (): Caller => makeGuest({ long, shared, vcpus: 2, pirqs: 32 });

  test('XE-CB-20 XE-QE-42 all that the guest has set up is taken back, and it can set it up again', () => {
    const guest = make();
    const { domain } = guest;
    const { vm } = domain;
    const put8 = (value: number | bigint): number => put(guest, 8, [[0, 8, value]]);
    domain.evtchn.bindVirq({ virq: 0, vcpu: 0 });
    answer(guest, 24, [5, 0, put8(AREA)]);
    answer(guest, 24, [13, 0, put8(AREA + 256)]);
    answer(guest, 24, [6, 0, put8(2_000_000)]);
    answer(guest, 15, [2n ** 40n, 2n ** 8n]);
    answer(guest, 29, [
      6,
      put(guest, 8, [
        [0, 4, 0],
        [4, 4, 9],
      ]),
    ]);
    answer(guest, 34, [
      23,
      put(guest, 8, [
        [0, 4, 1],
        [4, 1, 0x40],
      ]),
    ]);
    answer(guest, 33, [
      13,
      put(guest, 40, [
        [0, 2, 0x7ff0],
        [4, 4, 1],
        [8, 4, 20],
        [12, 4, -1],
      ]),
    ]);
    answer(guest, 29, [2, put(guest, 4, [[0, 4, 5]])]);
    expect(domain.hvm.shutdownReason).toBe('soft_reset');
    domain.hvm.softReset();
    expect(domain.hvm.shutdownReason).toBeNull();
    expect(vm.nextDeadline()).toBeNull();
    expect(vm.getAttr('shared_info').gfn).toBeNull();
    expect(vm.getAttr('upcall_vector').vector).toBe(0);
    for (const index of [0, 1]) {
      const vcpu = vm.vcpu(index);
      expect(vcpu.getAttr('upcall_vector').vector).toBe(0);
      for (const type of ['vcpu_info', 'vcpu_time_info', 'runstate_addr'] as const)
        expect(vcpu.getAttr(type).gpa).toBeNull();
    }
    expect(domain.evtchn.status({ port: 1 })).toMatchObject({ status: 'closed' });
    expect(domain.hvm.pirqMap.isMapped(16)).toBe(false);
    expect(getParam(guest, 0)).toEqual([0, 0n]);
    expect(addToPhysmap(guest, 0, 0, SHARED_INFO_FRAME)).toBe(0);
    expect(registerVcpuInfo(guest, 0, VCPU_INFO_FRAME, 0)).toBe(0);
    expect(setParam(guest, 0, VECTOR_VIA)).toBe(0);
    const port = domain.evtchn.bindIpi({ vcpu: 0 });
    domain.send(port);
    expect(drained(vm)).toEqual([port]);
  });

  test('R13 KF-49 a runstate area on two pages that are apart is where it was after a restore', () => {
    const guest = make();
    const { cpu, domain } = guest;
    // Virtual page 0x100 is frame 12, virtual page 0x101 is frame 6.
    const frames = new Map([
      [0x100, 12],
      [0x101, 6],
    ]);
    cpu.translate = (address) => {
      const frame = frames.get(Number(address >> 12n)) ?? Number(address >> 12n);
      return frame * 4096 + Number(address & 0xfffn);
    };
    expect(answer(guest, 24, [5, 0, put(guest, 8, [[0, 8, 0x101000 - 20]])])).toBe(0);
    const to = make();
    to.domain.restore(domain.snapshot({ ram: true }));
    const bytes = ram(to.domain.vm);
    for (const page of [6, 13]) bytes.fill(0xa5, page * 4096, page * 4096 + 4096);
    to.clock.advance(1_000_000n);
    to.domain.vm.vcpu(0).enterRunstate('blocked', to.domain.vm.kvmclock.now());
    // It began in frame 12 and goes on in frame 6.
    expect(bytes[13 * 4096 - 20]).toBe(2);
    expect(bytes[13 * 4096]).toBe(0xa5);
    expect(bytes.subarray(6 * 4096, 6 * 4096 + (long ? 28 : 24)).some((byte) => byte !== 0xa5)).toBe(true);
  });
});
