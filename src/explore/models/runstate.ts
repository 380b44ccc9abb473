// A vCPU's runstate, read by its guest while it is written: what the guest accepts adds up, whatever of the plain stores between the
// marker's two atomic ones reaches it when. [R11, KX-RUN-28..31, KF-48..51]

import { PAGE_SIZE } from '../../abi/shared_info.ts';
import { gpa } from '../../memory/address.ts';
import type { Code } from '../actor.ts';
import type { Model, World } from '../world.ts';
import type { ModelMaker } from './model_maker.ts';

const RUNSTATE_PAGE = 8;
/** Offsets of the 64-bit layout; times fit into their lower halves here. */
const [ENTRY_LOW, ENTRY_HIGH] = [8, 12];
const TIMES = [16, 24, 32, 40];
const TAKEN_WRONG = 0;

/** The vCPU is loaded and unloaded: three transitions, at 10, 25 and 60 ns. */
const writer: Code = (vm, self) => {
  const vcpu = vm.vcpu(0);
  self.do('runs', () => vcpu.enterRunstate('running', 10));
  self.do('is preempted', () => vcpu.enterRunstate('runnable', 25));
};

/** As Linux does on 32 bits: the entry time in halves until it is whole, the rest, the entry time again. */
function reader(world: () => World): Code {
  return (vm, self) => {
    const at = vm.guestBase + RUNSTATE_PAGE * PAGE_SIZE;
    // Locked, because no load may pass it.
    const high = (): number => self.change(at + ENTRY_HIGH, (word) => word);
    const entryTime = (): number => {
      const before = high();
      const low = self.read(at + ENTRY_LOW);
      return high() === before && before >= 0 ? low : -1;
    };
    self.do('reads its runstate', () => {
      const first = entryTime();
      if (first < 0) return;
      const sum = TIMES.reduce((total, time) => total + self.read(at + time), 0);
      const again = entryTime();
      self.note(() => (first === again && sum !== first ? world().add(TAKEN_WRONG) : 0));
    });
  };
}

/** A model of both; without the marker the guest cannot know. */
export function runstateModel(marker: boolean, storeBuffers: boolean): Model {
  let world: World | null = null;
  return {
    name: 'runstate-read',
    counters: 1,
    storeBuffers,
    setup: (w) => {
      world = w;
      w.vm.setAttr({ type: 'runstate_update_flag', enabled: marker });
      w.vm.vcpu(0).setAttr({ type: 'runstate_addr', gpa: gpa(RUNSTATE_PAGE * PAGE_SIZE) });
    },
    parties: [
      { name: 'vcpu', code: writer },
      { name: 'guest', code: reader(() => world as World) },
    ],
    always: (w) =>
      w.count(TAKEN_WRONG) === 0 ? null : 'the guest accepted times that do not add up to the entry time',
  };
}

export const RUNSTATE: readonly ModelMaker[] = [
  {
    id: 'runstate-read',
    title: 'a guest reads its runstate while it is written, with stores that arrive in any order',
    promises: ['R11'],
    bounds: { preemptions: 3 },
    make: () => runstateModel(true, true),
  },
];
