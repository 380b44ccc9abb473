// What has to compile and what must not; `npm run check` compiles it. [KF-11]

import { createVm, type Gfn, type Gpa, gfn, gpa, type VmAttr } from '../../src/index.ts';

const vm = createVm();
vm.setAttr({ type: 'shared_info', gfn: gfn(1) });
vm.setAttr({ type: 'shared_info', gfn: null });
const mode: boolean = vm.getAttr('long_mode').enabled;
const frame: Gfn | null = vm.getAttr('shared_info').gfn;
const place: Gpa | null = vm.vcpu(0).getAttr('vcpu_info').gpa;

// @ts-expect-error a number is not a guest frame
vm.setAttr({ type: 'shared_info', gfn: 1 });
// @ts-expect-error an address is not a frame
vm.setAttr({ type: 'shared_info', gfn: gpa(4096) });
// @ts-expect-error a frame is not an address
vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gfn(1) });
// @ts-expect-error an attribute has its own fields
vm.setAttr({ type: 'long_mode', gfn: gfn(1) });
// @ts-expect-error there is no such attribute
vm.setAttr({ type: 'shared_page', gfn: gfn(1) });
// @ts-expect-error an attribute of a vCPU is none of a VM
vm.getAttr('vcpu_info');

export const used: [boolean, Gfn | null, Gpa | null, VmAttr['type']] = [mode, frame, place, 'long_mode'];
