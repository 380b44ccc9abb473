// What the guest does: it writes its RAM, makes hypercalls, writes the MSR, and is entered and left.

import { type Chance, PAGES } from '../chance.ts';
import { as, type Operations, who } from '../operation.ts';
import { big, little, type Patch, type Value } from '../value.ts';
import { ARGUMENTS, HookError, MSR, type World } from '../world.ts';

const NUMBERS = [15, 17, 24, 29, 32];
const REGISTERS = ['rdi', 'rsi', 'rdx', 'r10', 'r8', 'r9', 'rbx', 'rcx', 'rbp'];
const PORT_LIST = ARGUMENTS + 512;

/** Guest bytes, from hexadecimal digits, written by the guest itself. */
function poke(world: World, at: unknown, digits: unknown): void {
  const text = String(digits);
  for (let i = 0; 2 * i < text.length; i++) {
    const to = Number(at) + i;
    if (to >= world.ram.length) return;
    world.guestWrites(to, Number.parseInt(text.slice(2 * i, 2 * i + 2), 16));
  }
}

/** Where guests keep what the engine reads: the structures, and arguments. */
export function pokeAt(chance: Chance): number {
  if (chance.once(3)) return chance.int(PAGES * 4096);
  const page = chance.pick([1, 2, 2, 2, 3, 4, 5, 9]) * 4096;
  return (
    page + chance.pick([0, 0, 1, 4, 8, 32, 40, 64, 72, 96, 104, 0x800, 0x900, 0xa00, 0xc00, 0xff0, chance.int(4096)])
  );
}

/** A hypercall that is one, with what its pointer leads to; or any registers. */
function hypercall(chance: Chance): Value[] {
  const long = chance.once(2);
  const at = ARGUMENTS + chance.pick([0, 0, 0, 8, 3, 4096 - 8, 4096 * 2]);
  const registers: { [name: string]: Value } = {
    rax: big(BigInt(chance.once(4) ? chance.int(64) : chance.pick(NUMBERS))),
  };
  for (const name of REGISTERS) {
    if (chance.once(3)) registers[name] = chance.once(2) ? chance.wide() : big(BigInt(chance.int(64)));
  }
  const patches: Patch[] = [];
  if (!chance.once(4)) shape(chance, long, at, registers, patches);
  if (chance.once(30)) registers['rax'] = chance.wide();
  const cpu = {
    longMode: long,
    lma: chance.once(2),
    cpl: chance.once(12) ? chance.or(3) : 0,
    rip: chance.once(10) ? chance.wide() : '$n4660',
    instructionLength: chance.or(chance.pick([3, 3, 3, 0, 15])),
    registers,
  };
  return [cpu, at, patches.map(([offset, digits]) => [offset, digits])];
}

/** The registers of a call that is answered here, by the caller's mode. */
function shape(
  chance: Chance,
  long: boolean,
  at: number,
  registers: { [name: string]: Value },
  patches: Patch[],
): void {
  const names = long ? ['rdi', 'rsi', 'rdx'] : ['rbx', 'rcx', 'rdx'];
  const set = (...values: bigint[]): void => {
    values.forEach((value, i) => {
      registers[names[i] as string] = big(value);
    });
  };
  const pointer = chance.once(12) ? chance.pick([0n, 2n ** 33n, 2n ** 52n, 2n ** 64n - 4n, 0xffffffffn]) : BigInt(at);
  const number = Number(String(registers['rax']).slice(2));
  if (number === 32) {
    set(chance.once(8) ? BigInt(chance.int(12)) : 4n, pointer);
    patches.push([0, little(BigInt(chance.once(4) ? 2 ** 32 - 1 : 1 + chance.int(40)), 4)]);
  } else if (number === 29) {
    set(BigInt(chance.pick([0, 3, 3, 3, 3, 1, 2])), pointer);
    poll(chance, long, patches);
  } else if (number === 24) {
    set(BigInt(chance.pick([8, 8, 9, 0])), BigInt(chance.pick([0, 1, 5])), pointer);
    patches.push([0, little(deadline(chance), 8)], [8, little(BigInt(chance.int(2)), 4)]);
  } else if (number === 15) {
    const expires = deadline(chance);
    if (long) set(expires);
    else set(expires & 0xffffffffn, expires >> 32n);
  }
}

function deadline(chance: Chance): bigint {
  return chance.pick([0n, 1n, 1000n, 5_000_000n, 2n ** 50n, 2n ** 63n, 2n ** 64n - 1n, BigInt(chance.int(4_000_000))]);
}

function poll(chance: Chance, long: boolean, patches: Patch[]): void {
  const ports = Array.from({ length: chance.int(4) }, () =>
    chance.pick([1, 5, 9, 1023, 1024, 4095, 4096, 0, 2 ** 32 - 1]),
  );
  const count = chance.once(6) ? chance.pick([128, 129, 2 ** 32 - 1, 0]) : ports.length;
  const list = BigInt(chance.once(8) ? chance.pick([0, PAGES * 4096 - 4, 2 ** 32 - 4]) : PORT_LIST);
  patches.push([0, little(list, long ? 8 : 4)], [long ? 8 : 4, little(BigInt(count), 4)]);
  patches.push([long ? 16 : 8, little(chance.pick([0n, 0n, 1000n, 10_000_000n, 2n ** 63n, 2n ** 64n - 1n]), 8)]);
  ports.forEach((port, i) => {
    patches.push([512 + 4 * i, little(BigInt(port), 4)]);
  });
}

function setCpu(world: World, state: unknown): void {
  const { registers, ...rest } = as<{ registers: object }>(state);
  Object.assign(world.cpu, rest);
  for (const name of ['rax', ...REGISTERS]) Object.assign(world.cpu.registers, { [name]: 0n });
  Object.assign(world.cpu.registers, registers);
}

const cpuid = (base: number, limit: unknown) => (leaf: number) =>
  leaf === base ? { eax: as<number>(limit), ebx: 0x566e6558, ecx: 0x65584d4d, edx: 0x4d4d566e } : null;

export const GUEST: Operations = {
  poke: {
    weight: 25,
    args: (c) => [pokeAt(c), c.noise()],
    run: (w, [at, digits]) => poke(w, at, digits),
  },
  fillPage: {
    weight: 2,
    args: (c) => [c.int(PAGES), c.pick([0, 0, 255, 0x10])],
    run: (w, [page, byte]) => {
      for (let i = 0; i < 4096; i++) w.guestWrites(Number(page) * 4096 + i, Number(byte));
    },
  },
  hypercall: {
    weight: 30,
    args: (c) => [who(c), c.int(2), ...hypercall(c)],
    run: (w, [v, i, state, at, patches]) => {
      for (const [offset, digits] of as<[number, string][]>(patches)) poke(w, Number(at) + offset, digits);
      setCpu(w, state);
      return w.vcpu(v, i).hypercall(w.cpu);
    },
    tag: (args) => {
      const rax = (args[2] as { registers: { rax: Value } }).registers.rax;
      return NUMBERS.some((n) => rax === `$n${n}`) ? String(rax) : 'other';
    },
  },
  hypercallFaults: {
    weight: 2,
    args: (c) => [who(c), c.int(2), c.pick(NUMBERS), c.pick(['null', 'fail', 'zeros'])],
    run: (w, [v, i, number, what]) => {
      const registers = {
        rax: BigInt(as<number>(number)),
        rbx: 3n,
        rcx: 5n,
        rdx: 5n,
        rsi: 5n,
        rdi: number === 32 ? 4n : 3n,
        rbp: 0n,
        r8: 0n,
        r9: 0n,
        r10: 0n,
      };
      return w.vcpu(v, i).hypercall({
        longMode: true,
        lma: true,
        cpl: 0,
        rip: 0n,
        instructionLength: 3,
        registers,
        readVirtual: (_, length) => {
          if (what === 'fail') throw new HookError('the processor cannot read');
          return what === 'null' ? null : new Uint8Array(length);
        },
      });
    },
  },
  completeHypercall: {
    weight: 4,
    args: (c) => [who(c), c.int(2), c.wide(), c.once(4)],
    run: (w, [v, i, result, moved]) => {
      if (moved) w.cpu.rip = 1n;
      return w.vcpu(v, i).completeHypercall(w.cpu, as(result));
    },
  },
  writeMsr: {
    weight: 4,
    args: (c) => [
      who(c),
      c.int(2),
      c.once(8) ? c.u32() : MSR,
      c.once(3) ? c.wide() : big(BigInt(c.int(PAGES + 1)) * 4096n + BigInt(c.once(4) ? c.int(4) : 0)),
      c.once(8) ? 3 : 0,
      c.once(2),
    ],
    run: (w, [v, i, msr, value, cpl, lma]) => {
      [w.cpu.cpl, w.cpu.lma] = [as(cpl), as(lma)];
      return w.vcpu(v, i).writeMsr(w.cpu, as(msr), as(value));
    },
    writes: 'reachable',
  },
  beforeEntry: { weight: 20, args: (c) => [who(c), c.int(2)], run: (w, [v, i]) => w.vcpu(v, i).beforeEntry() },
  afterExit: { weight: 8, args: (c) => [who(c), c.int(2)], run: (w, [v, i]) => w.vcpu(v, i).afterExit() },
  looks: {
    weight: 4,
    args: (c) => [who(c), c.int(2), c.pick(['runnable', 'hasEvents', 'leaveRequested', 'lapicEnabled'])],
    run: (w, [v, i, what]) => w.vcpu(v, i)[as<'runnable'>(what)],
  },
  setLapic: {
    weight: 2,
    args: (c) => [who(c), c.int(2), c.flag()],
    run: (w, [v, i, on]) => w.vcpu(v, i).setLapicEnabled(as(on)),
  },
  setCpuid: {
    weight: 2,
    args: (c) => [
      who(c),
      c.int(2),
      c.pick([0x40000000, 0x40000100, 5]),
      c.pick([0, 3, 0x40000003, 0x40000105, 2 ** 32 - 1]),
    ],
    run: (w, [v, i, base, limit]) => w.vcpu(v, i).setCpuid(cpuid(as(base), limit)),
  },
  patchCpuid: {
    weight: 2,
    args: (c) => [who(c), c.int(2), c.pick([0x40000003, 0x40000103, 7]), c.index(3)],
    run: (w, [v, i, leaf, subleaf]) =>
      w.vcpu(v, i).patchCpuid(as(leaf), as(subleaf), { eax: 1, ebx: 2, ecx: 3, edx: 4 }),
  },
};
