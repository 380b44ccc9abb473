// CPUID: where the Xen leaves are found, and which registers the guest's clock replaces in them. [KX-CLK-14]

import { describe, expect, test } from 'vitest';
import {
  XEN_CPUID_EBX,
  XEN_CPUID_ECX,
  XEN_CPUID_EDX,
  XEN_CPUID_FIRST,
  XEN_CPUID_LAST,
  XEN_CPUID_STEP,
  XEN_CPUID_TIME,
} from '../../src/abi/cpuid.ts';
import { PVCLOCK_MUL, PVCLOCK_SHIFT } from '../../src/abi/pvclock.ts';
import { REQUEST_CLOCK_UPDATE, VCPU_REQUESTS } from '../../src/abi/region.ts';
import { VCPU_INFO_TIME } from '../../src/abi/vcpu_info.ts';
import { attachVm, type Cpuid, type CpuidRegisters, VirtualClock, type Vm } from '../../src/index.ts';
import { timeScale } from '../../src/vm/time/tsc_scale.ts';
import { fields, makeVm, VCPU_INFO_GPA } from '../support.ts';
import { refuses } from './evidence.ts';

const HZ = 2_893_300_123;
/** What the embedder has in every leaf about time. */
const OWN: CpuidRegisters = { eax: 1, ebx: 2, ecx: 3, edx: 4 };

/** A CPUID with Xen's signature at `base`, whose last leaf is `limit`; Hyper-V's before it. */
function xenAt(base: number, limit = base + 5): Cpuid {
  const hyperv = { eax: 0x40000006, ebx: 0x7263694d, ecx: 0x666f736f, edx: 0x76482074 };
  const xen = { eax: limit, ebx: XEN_CPUID_EBX, ecx: XEN_CPUID_ECX, edx: XEN_CPUID_EDX };
  return (leaf) => (leaf === base ? xen : leaf === XEN_CPUID_FIRST ? hyperv : null);
}

test('KX-CLK-14 the signature is XenVMMXenVMM', () => {
  const bytes = new Uint8Array(new Uint32Array([XEN_CPUID_EBX, XEN_CPUID_ECX, XEN_CPUID_EDX]).buffer);
  expect(new TextDecoder().decode(bytes)).toBe('XenVMMXenVMM');
});

describe.each([true, false])('shared memory: %s', (shared) => {
  const make = (options = {}): { vm: Vm; clock: VirtualClock } => {
    const clock = new VirtualClock(0n, 0n, { tscHz: HZ });
    const vm = makeVm({ shared, clock, ...options });
    vm.setConfig({ msr: 0x40000000 });
    return { vm, clock };
  };
  const BASE = 0x40000100;
  const TIME = BASE + XEN_CPUID_TIME;

  test.each([0x40000000, 0x40000100, 0x40001200, 0x4000ff00])('KX-CLK-14 the Xen leaves at %i are found', (base) => {
    const { vm } = make();
    expect(vm.vcpu(0).setCpuid(xenAt(base))).toBe(base);
    expect(vm.vcpu(0).patchCpuid(base + 3, 1, OWN)).not.toEqual(OWN);
  });

  test('KX-CLK-14 they are looked for from 0x40000000 to 0x4000ff00, every 0x100, and the first is taken', () => {
    const { vm } = make();
    const looked: number[] = [];
    const none = vm.vcpu(0).setCpuid((leaf) => {
      looked.push(leaf);
      return null;
    });
    expect(none).toBe(null);
    expect(looked).toEqual(Array.from({ length: 256 }, (_, i) => XEN_CPUID_FIRST + i * XEN_CPUID_STEP));
    expect(looked.at(-1)).toBe(XEN_CPUID_LAST);
    expect(vm.vcpu(0).setCpuid((leaf) => xenAt(leaf >= 0x40000300 ? leaf : 0)(leaf))).toBe(0x40000300);
  });

  test.each(['ebx', 'ecx', 'edx'] as const)('KX-CLK-14 a signature that differs in %s is not Xen', (register) => {
    const { vm } = make();
    const almost: Cpuid = (leaf) => {
      const found = xenAt(BASE)(leaf);
      return found && leaf === BASE ? { ...found, [register]: found[register] + 1 } : found;
    };
    expect(vm.vcpu(0).setCpuid(almost)).toBe(null);
    expect(vm.vcpu(0).patchCpuid(TIME, 1, OWN)).toEqual(OWN);
  });

  test('KX-CLK-14 registers as signed numbers are the same', () => {
    const { vm } = make();
    const signed: Cpuid = (leaf) => {
      const found = xenAt(BASE, 0x40000105)(leaf);
      return found && { eax: found.eax | 0, ebx: found.ebx | 0, ecx: found.ecx | 0, edx: found.edx | 0 };
    };
    expect(vm.vcpu(0).setCpuid(signed)).toBe(BASE);
    expect(vm.vcpu(0).patchCpuid(TIME, 2, OWN).eax).toBe(2_893_300);
  });

  test('KX-CLK-14 subleaf 1 has mul in ecx and shift in edx, as the clock record has them', () => {
    for (const hz of [HZ, 1_000_000, 1_000_000_000]) {
      const { vm } = make();
      vm.vcpu(0).setCpuid(xenAt(BASE));
      vm.vcpu(0).setTsc({ hz });
      const { mul, shift } = timeScale(hz);
      expect(vm.vcpu(0).patchCpuid(TIME, 1, OWN)).toEqual({ ...OWN, ecx: mul, edx: shift >>> 0 });
      vm.vcpu(0).beforeEntry();
      const at = VCPU_INFO_GPA + VCPU_INFO_TIME;
      expect(fields(vm).getUint32(at + PVCLOCK_MUL, true)).toBe(mul);
      expect(fields(vm).getInt8(at + PVCLOCK_SHIFT)).toBe(shift);
    }
    expect(timeScale(HZ).shift).toBe(-1);
  });

  test('KX-CLK-14 subleaf 2 has the kHz of the guest TSC in eax, in whole ones', () => {
    const { vm } = make();
    vm.vcpu(0).setCpuid(xenAt(BASE));
    expect(vm.vcpu(0).patchCpuid(TIME, 2, OWN)).toEqual({ ...OWN, eax: 2_893_300 });
    vm.vcpu(0).setTsc({ hz: 2_500_000_000 });
    expect(vm.vcpu(0).patchCpuid(TIME, 2, OWN)).toEqual({ ...OWN, eax: 2_500_000 });
  });

  test('KX-CLK-14 every other subleaf and leaf is the embedder’s, and so is all of it beyond the limit', () => {
    const { vm } = make();
    vm.vcpu(0).setCpuid(xenAt(BASE, TIME));
    for (const subleaf of [0, 3, 4, 2 ** 32 - 1]) expect(vm.vcpu(0).patchCpuid(TIME, subleaf, OWN)).toBe(OWN);
    for (const leaf of [0, 1, 3, BASE, BASE + 1, BASE + 2, BASE + 4, XEN_CPUID_FIRST + 3, TIME + 0x100]) {
      for (const subleaf of [1, 2]) expect(vm.vcpu(0).patchCpuid(leaf, subleaf, OWN)).toBe(OWN);
    }
    expect(vm.vcpu(0).patchCpuid(TIME, 1, OWN)).not.toEqual(OWN);
    vm.vcpu(0).setCpuid(xenAt(BASE, TIME - 1));
    expect(vm.vcpu(0).patchCpuid(TIME, 1, OWN)).toBe(OWN);
  });

  test('KX-CLK-14 a limit of 0xffffffff is a large one', () => {
    const { vm } = make();
    vm.vcpu(0).setCpuid(xenAt(BASE, 0xffffffff));
    expect(vm.vcpu(0).patchCpuid(TIME, 1, OWN)).not.toEqual(OWN);
  });

  test('KX-CLK-14 KX-GEN-05 without the gate, and before CPUID is set, all is the embedder’s', () => {
    const { vm } = make();
    expect(vm.vcpu(0).patchCpuid(TIME, 1, OWN)).toBe(OWN);
    vm.vcpu(0).setCpuid(xenAt(BASE));
    vm.setConfig({ msr: 0 });
    expect(vm.vcpu(0).patchCpuid(TIME, 1, OWN)).toBe(OWN);
    vm.setConfig({ msr: 0x40000000 });
    expect(vm.vcpu(0).patchCpuid(TIME, 1, OWN)).not.toEqual(OWN);
  });

  test('KX-CLK-14 a clock update that is due is done first', () => {
    const { vm } = make();
    vm.vcpu(0).setCpuid(xenAt(BASE));
    vm.vcpu(0).beforeEntry();
    vm.vcpu(0).afterExit();
    vm.vcpu(0).setTsc({ hz: 1_000_000_000 });
    const version = (): number => fields(vm).getUint32(VCPU_INFO_GPA + VCPU_INFO_TIME, true);
    const before = version();
    expect(vm.vcpu(0).patchCpuid(TIME, 1, OWN).ecx).toBe(2 ** 31);
    expect(version()).toBe(before + 2);
    expect(vm.region.words.load(vm.vcpu(0).line + VCPU_REQUESTS) & REQUEST_CLOCK_UPDATE).toBe(0);
    vm.vcpu(0).patchCpuid(TIME, 1, OWN);
    expect(version()).toBe(before + 2);
  });

  test('KX-CLK-14 each vCPU has its own leaves and TSC; any thread that runs it asks', () => {
    const { vm } = make({ vcpus: 2 });
    vm.vcpu(0).setCpuid(xenAt(BASE));
    vm.vcpu(1).setCpuid(xenAt(0x40000000));
    vm.vcpu(1).setTsc({ hz: 1_000_000_000 });
    const other = attachVm(vm.handle(), { clock: vm.clock });
    expect(other.vcpu(0).patchCpuid(TIME, 2, OWN).eax).toBe(2_893_300);
    expect(other.vcpu(1).patchCpuid(0x40000003, 2, OWN).eax).toBe(1_000_000);
    expect(other.vcpu(1).patchCpuid(TIME, 2, OWN)).toBe(OWN);
    refuses(vm, () => other.vcpu(0).setCpuid(xenAt(BASE)), 'EPERM', 'owner');
  });

  test('KX-CLK-14 while the frequency is not known there is no scale, and 0 kHz', () => {
    const { vm } = make();
    vm.vcpu(0).setCpuid(xenAt(BASE));
    vm.vcpu(0).setTsc({ hz: 0 });
    expect(vm.vcpu(0).patchCpuid(TIME, 1, OWN)).toEqual({ ...OWN, ecx: 0, edx: 0 });
    expect(vm.vcpu(0).patchCpuid(TIME, 2, OWN)).toEqual({ ...OWN, eax: 0 });
  });
});
