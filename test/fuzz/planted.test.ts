// The fuzzer finds what is wrong: faults are planted into the library, and each has to be found, made short and found again from what
// was printed. [R18]

import { afterEach, describe, expect, test, vi } from 'vitest';
import { AGENT_STATE } from '../../src/abi/region.ts';
import { EvtchnError } from '../../src/index.ts';
import { Changes } from '../../src/memory/changes.ts';
import { GpcSet } from '../../src/memory/gpc.ts';
import { Region } from '../../src/memory/region.ts';
import { Words } from '../../src/memory/words.ts';
import { Eventfds } from '../../src/vm/events/eventfds.ts';
import { Vcpu } from '../../src/vm/vcpu.ts';
import { Vm } from '../../src/vm/vm.ts';
import { fuzz } from './fuzz.ts';
import { replay, type Sequence } from './sequence.ts';
import type { Value } from './value.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

/** A fault, the kind of finding it leads to, and how to plant it. */
const FAULTS: readonly (readonly [name: string, kind: RegExp, plant: () => void])[] = [
  [
    'R9 an exception that is no EvtchnError',
    /^exception: send threw RangeError/,
    () => {
      const { send } = Vm.prototype;
      vi.spyOn(Vm.prototype, 'send').mockImplementation(function (this: Vm, port) {
        if (port === 4097) throw new RangeError('planted');
        return send.call(this, port);
      });
    },
  ],
  [
    'R9 a result that no documentation has',
    /^outcome: mask answered ENOENT/,
    () => {
      const { mask } = Vm.prototype;
      vi.spyOn(Vm.prototype, 'mask').mockImplementation(function (this: Vm, port) {
        return port === 40 ? -2 : mask.call(this, port);
      });
    },
  ],
  [
    'R9 KF-58 a structure that crosses the end of RAM',
    /^(guard|write|exception): /,
    () => vi.spyOn(GpcSet.prototype, 'checkFit').mockReturnValue(),
  ],
  [
    'R9 a write of one byte too many',
    /^(guard|write|exception): /,
    () => {
      const { write } = Words.prototype;
      vi.spyOn(Words.prototype, 'write').mockImplementation(function (this: Words, at, bytes) {
        write.call(this, at, bytes);
        write.call(this, at + bytes.length, Uint8Array.of(0x77));
      });
    },
  ],
  [
    'R3 KF-01 an invalidation that leaves a mapping in place',
    /^mapping: /,
    () => {
      const { invalidateStart } = Changes.prototype;
      vi.spyOn(Changes.prototype, 'invalidateStart').mockImplementation(function (this: Changes, first, last, options) {
        return invalidateStart.call(this, first === last ? first : last, last, options);
      });
    },
  ],
  [
    'R7 KF-28 a reference that is not dropped',
    /^ledger: /,
    () => vi.spyOn(Eventfds.prototype, 'drop').mockReturnValue(),
  ],
  ['R7 a reference that is not taken', /^ledger: /, () => vi.spyOn(Eventfds.prototype, 'hold').mockReturnValue()],
  [
    'R7 a place that is given back with its bracket open',
    /^ledger: /,
    () =>
      vi.spyOn(Region.prototype, 'releaseAgent').mockImplementation(function (this: Region, agent) {
        this.words.store(agent + AGENT_STATE, 0);
      }),
  ],
  [
    'R4 KF-10 a call that fails after it has changed something',
    /^state: bindVcpu failed/,
    () => {
      vi.spyOn(Vm.prototype, 'bindVcpu').mockImplementation(function (this: Vm, port, vcpu) {
        this.checkOwner();
        this.kernel.bindVcpu(this.vmBase, this.agent, port & 4095, vcpu & 1);
        if (port === 64) throw new EvtchnError('EINVAL', 'planted');
      });
    },
  ],
  [
    'R5 a loop that the guest keeps going',
    /^(steps|endless): /,
    () => {
      const { flushShadow } = vcpuPrototype();
      vi.spyOn(vcpuPrototype(), 'flushShadow').mockImplementation(function (this: { vm: Vm }) {
        for (let i = 0; i < 50_000; i++) this.vm.region.words.load(this.vm.vmBase);
        return flushShadow.call(this as never);
      });
    },
  ],
  [
    'R1 an event that goes to another vCPU than its port is bound to',
    /^delivery: /,
    () => {
      const { bindVcpu } = Vm.prototype;
      vi.spyOn(Vm.prototype, 'bindVcpu').mockImplementation(function (this: Vm, port, vcpu) {
        bindVcpu.call(this, port, vcpu === 1 ? 0 : vcpu);
      });
    },
  ],
];

function vcpuPrototype(): { flushShadow(): boolean } {
  return Vcpu.prototype;
}

describe('planted faults', () => {
  test.each(FAULTS)('R18 %s is found', (_, kind, plant) => {
    plant();
    const { findings, calls } = fuzz({ seed: 5, calls: 30_000, shrinks: false });
    expect(findings, `nothing found in ${calls} calls`).toHaveLength(1);
    expect(findings[0]?.message).toMatch(kind);
  });

  test('R18 what is found is made short, printed with its seed, and found again from what was printed', () => {
    const { send } = Vm.prototype;
    vi.spyOn(Vm.prototype, 'send').mockImplementation(function (this: Vm, port) {
      // Two calls have to come together, and one value has to be right.
      if (port === 4097 && this.region.words.load(this.vmBase + 56) !== 0) throw new RangeError('planted');
      return send.call(this, port);
    });
    const [finding] = fuzz({ seed: 6, calls: 30_000 }).findings;
    const [first, line] = finding?.message.split(/\nseed 6: /) ?? [];
    const sequence = JSON.parse(line ?? '') as Sequence;
    expect(first).toContain('RangeError: planted');
    expect(sequence.calls.length).toBeLessThan(4);
    expect(sequence.calls.at(-1)).toEqual(['send', 0, 4097] satisfies Value);
    for (let i = 0; i < 3; i++) expect(replay(sequence).finding?.message).toContain('RangeError: planted');
  });
});
