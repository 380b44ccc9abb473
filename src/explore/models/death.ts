// An agent that dies before any of its steps, and a guest that writes what it likes: the others go on. [R5, R8, R9]

import { PAGE_SIZE } from '../../abi/shared_info.ts';
import { hva } from '../../memory/address.ts';
import type { Code, Party } from '../actor.ts';
import { deliveryModel, Ports, vcpuLoop } from '../delivery.ts';
import { SHARED_INFO_PAGE, VCPU_INFO_PAGE, type World } from '../world.ts';
import { NEIGHBOUR, PORT, STRANGER, sender } from './delivery.ts';
import type { ModelMaker } from './model_maker.ts';

/** A page that nothing uses. */
const SPARE_PAGE = 9;

/** What somebody does when he dies. */
const DYING: readonly (readonly [id: string, title: string, code: (ports: Ports) => Code])[] = [
  ['sender', 'a sender', (ports) => (vm, self) => ports.send(vm, self, NEIGHBOUR)],
  ['batch', 'a batch', (ports) => (vm, self) => ports.sendMany(vm, self, [NEIGHBOUR, STRANGER])],
  ['drain', 'a vCPU that drains', () => (vm, self) => void self.do('vCPU 0 drains', () => vm.vcpu(0).drain())],
  ['sleeper', 'a vCPU that goes to sleep', () => (vm, self) => void self.do('vCPU 0 sleeps', () => vm.vcpu(0).wait())],
  [
    'poller',
    'a vCPU that polls',
    () => (vm, self) => void self.do(`polls for ${STRANGER}`, () => vm.vcpu(0).poll([STRANGER])),
  ],
  ['bracket', 'an agent with a bracket open', () => (vm, self) => self.do('opens a bracket', () => vm.enter())],
];

/** Words that a guest may write at any time, and what to. */
type Scribble = readonly [what: string, page: number, at: number, value: number];
const SCRIBBLES: readonly Scribble[] = [
  ['selector', VCPU_INFO_PAGE, 8, -1],
  ['upcall byte', VCPU_INFO_PAGE, 0, 0x0101_0101],
  ['mask word', SHARED_INFO_PAGE, 0xa08, -1],
];

export const DEATH: readonly ModelMaker[] = [
  ...DYING.map(([id, title, code]): ModelMaker => {
    return {
      id: `death-${id}`,
      title: `${title} dies at any step, the owner detaches it, a new send arrives`,
      promises: ['R1', 'R8', 'R6'],
      bounds: { preemptions: 3 },
      make: (longMode) => {
        const ports = new Ports([PORT, NEIGHBOUR, STRANGER]);
        let world: World | null = null;
        const victim: Party = { name: 'victim', mortal: true, code: code(ports) };
        const isOver = (): boolean => world?.actors[0]?.ended ?? false;
        const owner: Party = {
          name: 'owner',
          owner: true,
          code: (vm, self) => {
            self.until(isOver);
            self.do('detaches the victim', () => vm.detachAgent(1));
            self.note(() => world?.add(ports.counters) ?? 0);
            self.do('announces that a page changes, which waits for whoever is in a bracket', () => {
              const page = hva(vm.guestBase + SPARE_PAGE * PAGE_SIZE);
              vm.invalidateStart(page, page);
              vm.invalidateEnd();
            });
            ports.send(vm, self, PORT);
          },
        };
        const vcpu: Code = (vm, self) => {
          // Only then is what the victim did for the vCPU over: one thread runs a vCPU at a time.
          self.until(() => world?.count(ports.counters) === 1);
          vcpuLoop(ports, 0, 1)(vm, self);
        };
        const model = deliveryModel(ports, {
          name: `death-${id}`,
          longMode,
          setup: (w) => {
            world = w;
          },
          parties: [victim, owner, { name: 'vcpu', code: vcpu }],
          // What the victim had begun to send may have arrived or not; that it is not handled twice is counted.
          except: [NEIGHBOUR, STRANGER],
        });
        return { ...model, counters: ports.counters + 1 };
      },
    };
  }),
  ...SCRIBBLES.map(hostile),
];

/** A guest that writes garbage into its own pages: no call traps or turns for ever, and the others' state stays sound. */
function hostile([what, page, at, value]: Scribble): ModelMaker {
  const id = `hostile-${what.replaceAll(' ', '-')}`;
  return {
    id,
    title: `the guest overwrites its ${what} under a send and a drain`,
    promises: ['R5', 'R9', 'R6'],
    make: (longMode) => {
      const ports = new Ports([PORT, NEIGHBOUR, STRANGER]);
      const guest: Party = {
        name: 'guest',
        code: (vm, self) => {
          const address = vm.guestBase + page * PAGE_SIZE + at;
          self.do(`writes its ${what}`, () => {
            self.write(address, value);
            self.write(address, 0);
          });
        },
      };
      return deliveryModel(ports, {
        name: id,
        longMode,
        parties: [sender(ports, 'sender', PORT), guest, { name: 'vcpu', code: vcpuLoop(ports, 0, 0) }],
        // It may have destroyed its own events: what matters is that every call comes to its end.
        except: [PORT, NEIGHBOUR, STRANGER],
      });
    },
  };
}
