// Single faults put into the kernel on purpose: each has to turn an interleaving red, else that test proves nothing.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import asc from 'assemblyscript/asc';
import { GPC_ACTIVE, GPC_ADDRESS_LO, GPC_BY_GPA, GPC_BY_HVA, GPC_LENGTH, GPC_UNMAPPED } from '../../src/abi/region.ts';
import type { Hpa } from '../../src/index.ts';
import { kernelBytes } from '../support.ts';
import { type Actor, Interleaver } from './world.ts';

export interface Mutant {
  readonly name: string;
  readonly file: string;
  readonly from: string;
  readonly to: string;
}

/** The same for the half that is in TypeScript: done to each world. */
export interface Patch {
  readonly name: string;
  readonly patch: Actor;
}

export const MUTANTS: readonly Mutant[] = [
  {
    name: 'KF-16 no second look before sleeping',
    file: 'assembly/sleep.ts',
    from: 'const found = look(vm, agent, vcpu);\n  const reason = blind ? found & ~AWAY : found;\n  return reason ? wakeUp(line, reason) : 0;',
    to: 'return 0;',
  },
  {
    name: 'KF-16 the look comes before the sleeping flag',
    file: 'assembly/sleep.ts',
    from: 'Shared.or<i32>(line + VCPU_KICK, KICK_SLEEPER);\n  const found = look(vm, agent, vcpu);',
    to: 'const found = look(vm, agent, vcpu);\n  Shared.or<i32>(line + VCPU_KICK, KICK_SLEEPER);',
  },
  {
    name: 'a kick does not wake the sleeper',
    file: 'assembly/upcall.ts',
    from: 'if (what & KICK_SLEEPER) wakeSleeper(agent, line);',
    to: '',
  },
  {
    name: 'KX-EVT-65 the barrier is left out: a bit that is pending already is not set again',
    file: 'assembly/send.ts',
    from: 'if (Shared.or<W>(p, bit) & bit) return 0;',
    to: 'if (Shared.load<W>(p) & bit) return 0;\n  if (Shared.or<W>(p, bit) & bit) return 0;',
  },
  {
    name: 'KX-EVT-65 the barrier of a batch is left out',
    file: 'assembly/batch.ts',
    from: 'if (ASC_FEATURE_THREADS && token & 1) Shared.or<i32>(agent + AGENT_READER, 0);',
    to: '',
  },
  {
    name: 'KX-EVT-65 the mask is read before pending is set',
    file: 'assembly/send.ts',
    from: 'if (Shared.or<W>(p, bit) & bit) return 0;',
    to: 'const early = Shared.load<W>(p + Layout.toMask<W>());\n  if (Shared.or<W>(p, bit) & bit) return 0;\n  if (early & bit) return -ENOTCONN;',
  },
  {
    name: 'KF-15 the upcall byte is set before the selector',
    file: 'assembly/upcall.ts',
    from: 'if ((Selector.or<W>(Selector.address<W>(info), bits) & bits) == bits) return;\n  kick(vm, agent, vcpu, line, setUpcallPending(info));',
    to: 'const edge = setUpcallPending(info);\n  if ((Selector.or<W>(Selector.address<W>(info), bits) & bits) == bits) return;\n  kick(vm, agent, vcpu, line, edge);',
  },
  {
    name: 'the selector is tested before pending is set',
    file: 'assembly/send.ts',
    from: 'if (Shared.or<W>(p, bit) & bit) return 0;',
    to: 'const info = Vcpu.info(Vcpu.line(vm, 0));\n  let early: W = 0 as W;\n  if (!Layout.unmapped(info)) early = (Shared.load<W>((info as usize) + Layout.selector<W>()) & Layout.bit<W>(index)) as W;\n  if (Shared.or<W>(p, bit) & bit) return 0;\n  if (early) return 1;',
  },
  {
    name: 'KX-EVT-66 the receiver takes the selector before it clears the upcall byte',
    file: 'assembly/drain.ts',
    from: 'Shared.store<u8>((info as usize) + VCPU_INFO_UPCALL_PENDING, 0);\n  let selector = (Selector.take<W>(Selector.address<W>(info)) | takeShadow<W>(line)) as W;',
    to: 'let selector = (Selector.take<W>(Selector.address<W>(info)) | takeShadow<W>(line)) as W;\n  Shared.store<u8>((info as usize) + VCPU_INFO_UPCALL_PENDING, 0);',
  },
  {
    name: 'the receiver loads and clears the selector in two steps',
    file: 'assembly/selector.ts',
    from: 'Shared.exchange<W>(p, 0 as W)',
    to: 'takeInTwo<W>(p)',
  },
  {
    name: 'the receiver clears what it did not take',
    file: 'assembly/drain.ts',
    from: 'if (!mask) return Shared.exchange<W>(p, 0 as W);',
    to: 'if (!mask) {\n    const all = Shared.load<W>(p);\n    Shared.store<W>(p, 0 as W);\n    return all;\n  }',
  },
  {
    name: 'KF-23 unmask does not look at pending',
    file: 'assembly/mask.ts',
    from: 'if (!(Shared.load<W>(p - Layout.toMask<W>()) & bit)) return 0;',
    to: 'if (bit) return 0;',
  },
  {
    name: 'KF-23 unmask looks before it clears the mask',
    file: 'assembly/mask.ts',
    from: 'if (!(Shared.and<W>(p, ~bit as W) & bit)) return 0;',
    to: 'const early = Shared.load<W>(p - Layout.toMask<W>()) & bit;\n  if (!(Shared.and<W>(p, ~bit as W) & bit)) return 0;\n  if (!early) return 0;',
  },
  {
    name: 'R3 invalidation does not wait for readers',
    file: 'assembly/bracket.ts',
    from: 'if (!(epoch & 1)) continue;',
    to: 'continue;',
  },
  {
    name: 'R3 a reader announces itself after it has read the mapping',
    file: 'assembly/send.ts',
    from: 'const token = Bracket.enterAt(agent, epoch);\n  // Read once: the page, whether there is one, the layout and the ABI belong together.\n  const word = Shared.load<i32>(vm + REGION_SHARED_INFO + GPC_WORD);',
    to: 'const word = Shared.load<i32>(vm + REGION_SHARED_INFO + GPC_WORD);\n  const token = Bracket.enterAt(agent, epoch);',
  },
  {
    name: 'KF-01 an invalidation leaves a refresh its token',
    file: 'assembly/gpc.ts',
    from: 'if ((word & ~GPC_MODE_BITS) != GPC_UNMAPPED) gpcUnmap(vm, gpc);',
    to: '',
  },
  {
    name: 'KX-GPC-32 a refresh does not ask whether an invalidation is active',
    file: 'assembly/gpc.ts',
    from: 'return Shared.load<i32>(vm + REGION_INVALIDATE_ACTIVE) ? -EAGAIN : 0;',
    to: 'return 0;',
  },
  {
    name: 'KF-03 a refresh asks whether the cache is active only before it begins',
    file: 'assembly/gpc.ts',
    from: 'if (!Shared.load<i32>(gpc + GPC_ACTIVE)) return -EINVAL;\n  return Shared.load<i32>(vm + REGION_INVALIDATE_ACTIVE)',
    to: 'return Shared.load<i32>(vm + REGION_INVALIDATE_ACTIVE)',
  },
  {
    name: 'KF-13 the selector of a vcpu_info that moves is forgotten',
    file: 'assembly/upcall.ts',
    from: 'if (bits) shade<W>(vm, agent, vcpu, Vcpu.line(vm, vcpu), bits);',
    to: '',
  },
  {
    name: 'KX-EVT-55 a flush clears the whole shadow',
    file: 'assembly/upcall.ts',
    from: 'Shared.and<i32>(line + VCPU_SHADOW_LO, ~(bits as u32 as i32));',
    to: 'Shared.store<i32>(line + VCPU_SHADOW_LO, 0);',
  },
  {
    name: 'KF-22 bind does not look at pending',
    file: 'assembly/port.ts',
    from: 'if (!(Shared.load<W>(p) & Layout.bit<W>(port))) return;',
    to: 'if (p) return;',
  },
  {
    name: 'KF-22 a sender looks its vCPU up before it sets pending',
    file: 'assembly/send.ts',
    from: 'if (Shared.or<W>(p, bit) & bit) return 0;',
    to: 'const early = Port.vcpu(vm, port);\n  if (Shared.or<W>(p, bit) & bit) return 0;\n  if (!(Shared.load<W>(p + Layout.toMask<W>()) & bit)) {\n    Upcall.raise<W>(vm, agent, early, Layout.bit<W>(index));\n    return 1;\n  }',
  },
  {
    name: 'KX-EVT-10 an event that names its vCPU does not ask which one its port is bound to',
    file: 'assembly/port.ts',
    from: 'return entry & PORT_BOUND ? entry & PORT_VCPU_BITS : vcpu;',
    to: 'return entry < 0 ? entry : vcpu;',
  },
  {
    name: 'KX-EVT-10 an event that names its vCPU asks before it sets pending',
    file: 'assembly/send.ts',
    from: 'if (Shared.or<W>(p, bit) & bit) return 0;',
    to: 'const early = Event.vcpu(vm, port, named);\n    if (Shared.or<W>(p, bit) & bit) return 0;\n    if (named >= 0 && !(Shared.load<W>(p + Layout.toMask<W>()) & bit)) {\n      Upcall.raise<W>(vm, agent, early, Layout.bit<W>(index));\n      return 1;\n    }',
  },
  {
    name: 'KX-MEM-12 a change of memory slots leaves what is mapped',
    file: 'assembly/gpc.ts',
    from: 'return unmapAll(vm, 1, 0);',
    to: 'return 0;',
  },
  {
    name: 'KX-MEM-12 a change of memory slots leaves a refresh its token',
    file: 'assembly/gpc.ts',
    from: 'if ((word & ~GPC_MODE_BITS) != GPC_UNMAPPED) gpcUnmap(vm, gpc);',
    to: 'if (first <= last && (word & ~GPC_MODE_BITS) != GPC_UNMAPPED) gpcUnmap(vm, gpc);',
  },
  {
    name: 'KX-VMA-11 a change of memory slots drops what is mapped by host address',
    file: 'assembly/gpc.ts',
    from: 'if (first > last) return base == GPC_BY_GPA;',
    to: 'if (first > last) return true;',
  },
  {
    name: 'KX-HCL-33 a poller announces itself after its look',
    file: 'assembly/poll.ts',
    from: 'Shared.exchange<i32>(line + VCPU_POLL, n == 1 ? load<i32>(list) + 1 : POLL_ANY);',
    to: '',
  },
];

export const PATCHES: readonly Patch[] = [
  {
    name: 'KX-VMA-10 a cache that moves is inactive for a moment',
    patch: ({ a }) => {
      const activate = a.gpcs.activate.bind(a.gpcs);
      a.gpcs.activate = (gpc, ...rest) => {
        a.gpcs.deactivate(gpc);
        activate(gpc, ...rest);
      };
    },
  },
  {
    name: 'KX-VMA-10 a cache that moves does not announce it: a refresh maps the old place again',
    patch: ({ a }) => {
      const { gpcs, region, kernel } = a;
      const { words, base } = region;
      gpcs.activate = (gpc, _what, at, length, onOld) => {
        const old = kernel.gpcUnmap(base, gpc) >>> 0;
        if (old < GPC_UNMAPPED >>> 0) onOld?.(old as Hpa);
        words.storeWide(gpc + GPC_ADDRESS_LO, 'gpa' in at ? at.gpa : at.hva);
        words.store(gpc + GPC_LENGTH, length);
        words.store(gpc + GPC_ACTIVE, 'gpa' in at ? GPC_BY_GPA : GPC_BY_HVA);
        gpcs.refresh(gpc);
      };
    },
  },
  {
    name: 'KX-MEM-12 memory slots change without a word to the caches',
    patch: ({ a }) => {
      a.changes.changeSlots = (_all, apply) => apply();
    },
  },
];

/** Explores with one fault in. */
export async function faulty(mutant: Mutant | Patch): Promise<Interleaver> {
  return 'patch' in mutant
    ? new Interleaver(kernelBytes('trace-shared'), mutant.patch)
    : new Interleaver(await buildMutant(mutant));
}

/** Code that a mutant needs beside its line. */
const EXTRA: Readonly<Record<string, string>> = {
  'assembly/send.ts': "import { Vcpu } from './upcall';\n",
  'assembly/selector.ts': `
function takeInTwo<W extends number>(p: usize): W {
  const value = Shared.load<W>(p);
  Shared.store<W>(p, 0 as W);
  return value;
}
`,
};

/** The trace kernel with one fault in it. Throws when the line that the mutant changes is not there any more. */
export async function buildMutant(mutant: Mutant): Promise<Uint8Array<ArrayBuffer>> {
  const source = readFileSync(mutant.file, 'utf8');
  if (source.split(mutant.from).length !== 2) throw new Error(`${mutant.file} does not have once: ${mutant.from}`);
  const changed = source.replace(mutant.from, () => mutant.to) + (EXTRA[mutant.file] ?? '');
  let binary: Uint8Array | null = null;
  const { error, stderr } = await asc.main(['--target', 'trace-shared', '--optimizeLevel', '1'], {
    readFile: (name, base) => {
      const path = join(base, name);
      if (path === mutant.file) return changed;
      try {
        return readFileSync(path, 'utf8');
      } catch {
        return null;
      }
    },
    writeFile: (_name, contents) => {
      if (typeof contents !== 'string') binary = contents;
    },
    listFiles: () => [],
  });
  if (error || binary === null) throw new Error(`${mutant.name}: ${stderr.toString()}`);
  return new Uint8Array(binary);
}
