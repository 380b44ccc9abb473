// Single faults put into sends and changes of ports on purpose: each has to turn a race red, else that proves nothing.

import { buildMutant, type Mutant } from '../interleave/mutants.ts';
import { kernelBytes } from '../support.ts';
import { RaceRunner, type RaceWorld } from './race_world.ts';

/** A fault of the half in TypeScript: done to each world. */
interface RacePatch {
  readonly name: string;
  patch(world: RaceWorld): void;
}

const FILE = 'assembly/xen_port.ts';

const KERNEL_FAULTS: readonly Mutant[] = [
  {
    name: 'XE-MOD-43 the sender reads the descriptor before its bracket',
    file: FILE,
    from: 'const token = Bracket.enter(agent);\n  const result = send(vm, agent, peers, port);\n  Bracket.leave(agent, token);\n  return result;',
    to: 'return send(vm, agent, peers, port);',
  },
  {
    name: 'XE-MOD-24 a raise reads the VIRQ table before its bracket',
    file: FILE,
    from: 'const token = Bracket.enter(agent);\n  let result = 0;\n  // On the other side: a bind writes it last, a close clears it first, then waits for this bracket. [XE-MOD-24]\n  const port = Shared.load<i32>(vm + load<u32>(vm + REGION_VIRQS) + ((row * NR_VIRQS + virq) as usize) * 4);',
    to: 'const port = Shared.load<i32>(vm + load<u32>(vm + REGION_VIRQS) + ((row * NR_VIRQS + virq) as usize) * 4);\n  let result = 0;\n  const token = Bracket.enter(agent);',
  },
  {
    name: 'XE-OP-22 no second look after an event was kept',
    file: FILE,
    from: 'if (!Shared.load<i32>(vm + REGION_SHARED_INFO + GPC_ACTIVE)) return 0;\n  return Shared.and<i32>(desc + PORT_KEPT, ~PORT_SAVED) & PORT_SAVED ? -EAGAIN : 0;',
    to: 'return 0;',
  },
  {
    name: 'XE-OP-22 an event is raised although its saved bit was taken by the owner',
    file: FILE,
    from: 'return Shared.and<i32>(desc + PORT_KEPT, ~PORT_SAVED) & PORT_SAVED ? -EAGAIN : 0;',
    to: 'return -EAGAIN;',
  },
];

const PATCHES: readonly RacePatch[] = [
  {
    name: 'XE-MOD-15 a close does not wait for senders',
    patch: ({ one, two }) => {
      for (const { ports } of [one, two]) {
        const begin = ports.beginClose.bind(ports);
        ports.beginClose = (closed) => {
          const { undo, finish } = begin(closed);
          finish();
          return { readers: new Set(), undo, finish: () => {} };
        };
      }
    },
  },
  {
    name: 'XE-OP-62 a close does not wait for senders of the other end',
    patch: ({ one, two, sender }) => {
      // Those of its own domain only.
      for (const [domain, view] of [
        [one, sender.one],
        [two, sender.two],
      ] as const) {
        const begin = domain.ports.beginClose.bind(domain.ports);
        domain.ports.beginClose = (closed) => {
          const closing = begin(closed);
          if (view.vm.region.bracketOpen(view.vm.agent)) return closing;
          closing.finish();
          return { readers: new Set(), undo: closing.undo, finish: () => {} };
        };
      }
    },
  },
  {
    name: 'KF-21 a close forgets what is pending',
    patch: ({ one, two }) => {
      for (const { vm } of [one, two]) vm.kernel = { ...vm.kernel, xenClearPending: () => 0 };
    },
  },
  {
    name: 'XE-OP-22 a bind leaves the local port as it is',
    patch: ({ two }) => {
      Object.defineProperty(two, 'dialect', { value: { ...two.dialect, pendingOnBind: false } });
    },
  },
  {
    name: 'XE-OP-22 nobody looks for what was kept',
    patch: ({ one }) => {
      one.ports.flushSaved = () => {};
    },
  },
];

export const RACE_FAULTS: readonly (Mutant | RacePatch)[] = [...KERNEL_FAULTS, ...PATCHES];

/** A runner with one fault in it. */
export async function faultyRunner(fault: Mutant | RacePatch): Promise<RaceRunner> {
  if ('patch' in fault) return new RaceRunner(kernelBytes('trace-shared'), fault.patch);
  return new RaceRunner(await buildMutant(fault));
}
