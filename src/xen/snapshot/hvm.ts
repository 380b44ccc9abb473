// What the guest's hypercalls have set: from the region into a snapshot and back.

import {
  HVM_NR_GSIS,
  HVM_NR_PARAMS,
  HVM_NR_PIRQS,
  HVM_SHUT_DOWN,
  HVM_SHUTDOWN_CODE,
  HVM_VCPU_INFO_SET,
  HVM_VCPU_RUNSTATE_NEXT,
  HVM_VCPU_STATE,
  HVM_VIA,
  HVM_VIA_ASSERTED,
  HVM_VIA_GSI,
  PIRQ_UNMAPPED,
} from '../../abi/xen_hvm.ts';
import type { Hvm } from '../hvm.ts';
import { resumeRunstateArea } from '../vcpu_areas.ts';
import type { HvmState, HvmVcpuState } from './state.ts';

const numbers = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

/** @internal */
export function captureHvm({ record, watchdogs, lines, pirqMap, periodicTimers }: Hvm): HvmState {
  const { words, base, vm } = record;
  const word = (field: number): number => words.load(base + field);
  const vcpu = (index: number): HvmVcpuState => {
    const at = record.vcpu(index);
    return {
      state: words.load(at + HVM_VCPU_STATE),
      infoSet: words.load(at + HVM_VCPU_INFO_SET) !== 0,
      period: periodicTimers.period(index).toString(),
      lastTick: periodicTimers.lastTick(index).toString(),
      runstateNext: words.load64(at + HVM_VCPU_RUNSTATE_NEXT).toString(),
    };
  };
  return {
    params: numbers(HVM_NR_PARAMS).map((index) => words.load64(record.param(index)).toString()),
    via: word(HVM_VIA),
    viaGsi: word(HVM_VIA_GSI),
    viaAsserted: word(HVM_VIA_ASSERTED) !== 0,
    shutdownCode: word(HVM_SHUTDOWN_CODE) >>> 0,
    shutDown: word(HVM_SHUT_DOWN) !== 0,
    watchdogs: watchdogs.save(vm.clock.now()).map((left) => left?.toString() ?? null),
    lines: numbers(HVM_NR_GSIS).map((gsi) => lines.count(gsi)),
    pirqs: numbers(HVM_NR_PIRQS)
      .map((pirq) => ({ pirq, entry: pirqMap.entry(pirq) }))
      .filter(({ entry }) => entry !== PIRQ_UNMAPPED),
    vcpus: numbers(vm.vcpus).map(vcpu),
  };
}

/** After the VM's clock was restored. What was checked. @internal */
export function applyHvm({ record, watchdogs, lines, pirqMap, periodicTimers, callback }: Hvm, saved: HvmState): void {
  const { words, base, vm } = record;
  saved.params.forEach((value, index) => {
    words.store64(record.param(index), BigInt(value));
  });
  words.store(base + HVM_VIA, saved.via);
  words.store(base + HVM_VIA_GSI, saved.viaGsi);
  words.store(base + HVM_VIA_ASSERTED, saved.viaAsserted ? 1 : 0);
  words.store(base + HVM_SHUTDOWN_CODE, saved.shutdownCode | 0);
  words.store(base + HVM_SHUT_DOWN, saved.shutDown ? 1 : 0);
  const left = saved.watchdogs.map((ns) => (ns === null ? null : BigInt(ns)));
  watchdogs.restore(left, vm.clock.now());
  saved.lines.forEach((count, gsi) => {
    lines.restore(gsi, count);
  });
  const entries = new Map(saved.pirqs.map(({ pirq, entry }) => [pirq, entry]));
  for (const pirq of numbers(HVM_NR_PIRQS)) pirqMap.restore(pirq, entries.get(pirq) ?? PIRQ_UNMAPPED);
  saved.vcpus.forEach(({ state, infoSet, period, lastTick, runstateNext }, index) => {
    const at = record.vcpu(index);
    words.store(at + HVM_VCPU_STATE, state);
    words.store(at + HVM_VCPU_INFO_SET, infoSet ? 1 : 0);
    words.store64(at + HVM_VCPU_RUNSTATE_NEXT, BigInt(runstateNext));
    periodicTimers.restore(index, BigInt(period), BigInt(lastTick));
    resumeRunstateArea(record, vm.vcpu(index));
  });
  callback.resume();
}
