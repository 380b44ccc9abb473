// What an inspector sees of a port.

import { describe, expect, test } from 'vitest';
import { errorOf, KINDS, makeVm } from '../support.ts';

describe.each(KINDS)('portStatus, $layout layout, shared memory: $shared', ({ longMode, shared, maxPorts }) => {
  test('follows a port from idle to delivered, masked, and bound elsewhere', () => {
    const vm = makeVm({ longMode, shared, vcpus: 2 });
    const idle = { pending: false, masked: false, selected: false, upcallPending: false, shadowed: false };
    expect(vm.portStatus(5)).toEqual({ ...idle, vcpu: 0, bound: false, vcpuInfoMapped: true });
    vm.send(5);
    expect(vm.portStatus(5)).toMatchObject({ pending: true, selected: true, upcallPending: true });
    vm.vcpu(0).drain();
    vm.mask(5);
    vm.send(5);
    expect(vm.portStatus(5)).toMatchObject({ pending: true, masked: true, selected: false, upcallPending: false });
    vm.bindVcpu(5, 1);
    expect(vm.portStatus(5)).toMatchObject({ vcpu: 1, bound: true });
    vm.vcpu(1).setAttr({ type: 'vcpu_info', gpa: null });
    vm.unmask(5);
    expect(vm.portStatus(5)).toMatchObject({ pending: true, masked: false, shadowed: true, vcpuInfoMapped: false });
  });

  test('no port, no page, no view: a sentence each', () => {
    const vm = makeVm({ longMode, shared });
    for (const port of [0, -1, maxPorts, 1.5, Number.NaN])
      expect(errorOf(() => vm.portStatus(port)).code).toBe('EINVAL');
    expect(errorOf(() => vm.portStatus(maxPorts)).message).toContain(`1 to ${maxPorts - 1}`);
    vm.setAttr({ type: 'shared_info', gfn: null });
    expect(errorOf(() => vm.portStatus(5)).message).toContain('shared_info');
    vm.close();
    expect(errorOf(() => vm.portStatus(5)).code).toBe('EBADF');
  });
});
