// Ports that move from vCPU to vCPU, and polls. [KF-17, KF-19, KF-22, KX-HCL-32..38]

import type { Party } from '../actor.ts';
import { deliveryModel, Ports, vcpuLoop } from '../delivery.ts';
import type { World } from '../world.ts';
import { NEIGHBOUR, PORT, STRANGER, sender } from './delivery.ts';
import type { ModelMaker } from './model_maker.ts';

/** The owner binds a port to another vCPU. */
function binder(port: number, vcpu: number): Party {
  return {
    name: 'owner',
    owner: true,
    code: (vm, self) => self.do(`binds ${port} to vCPU ${vcpu}`, () => vm.bindVcpu(port, vcpu)),
  };
}

export const BINDINGS: readonly ModelMaker[] = [
  maker('bind-send', 'a port is bound to another vCPU under a send', bound, (ports) => [
    sender(ports, 'sender', PORT),
    binder(PORT, 1),
    { name: 'vcpu 0', code: vcpuLoop(ports, 0, 1) },
    { name: 'vcpu 1', code: vcpuLoop(ports, 1, 1) },
  ]),
  maker('bind-two-words', 'a port is bound to another vCPU while its neighbour stays, two sends', bound, (ports) => [
    sender(ports, 'sender 1', PORT),
    sender(ports, 'sender 2', NEIGHBOUR),
    binder(PORT, 1),
    { name: 'vcpu 0', code: vcpuLoop(ports, 0, 0) },
    { name: 'vcpu 1', code: vcpuLoop(ports, 1, 0) },
  ]),
  ...[true, false].map((masked) =>
    maker(
      `poll-${masked ? 'masked' : 'unmasked'}`,
      `a vCPU polls for ${masked ? 'a masked' : 'an unmasked'} port, two sends`,
      masked ? (world) => void world.vm.mask(PORT) : () => {},
      (ports) => [
        sender(ports, 'sender 1', PORT),
        sender(ports, 'sender 2', STRANGER),
        {
          name: 'vcpu',
          code: (vm, self) => {
            self.do(`polls for ${PORT}`, () => vm.vcpu(0).poll([PORT]));
            if (masked) self.do(`unmasks ${PORT}`, () => void vm.unmask(PORT));
            vcpuLoop(ports, 0, 1)(vm, self);
          },
        },
      ],
    ),
  ),
];

function bound({ vm }: World): void {
  vm.bindVcpu(PORT, 0);
  vm.bindVcpu(NEIGHBOUR, 0);
}

function maker(
  id: string,
  title: string,
  setup: (world: World) => void,
  parties: (ports: Ports) => readonly Party[],
): ModelMaker {
  return {
    id,
    title,
    promises: ['R1', 'R2', 'R6'],
    bounds: { preemptions: 3 },
    make: (longMode) => {
      const ports = new Ports([PORT, NEIGHBOUR, STRANGER]);
      return deliveryModel(ports, { name: id, longMode, vcpus: 2, setup, parties: parties(ports) });
    },
  };
}
