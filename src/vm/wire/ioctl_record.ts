// Recording the calls of a VMM, and making them again on another VM to see whether it answers the same.

import { errnoName } from '../../errors.ts';
import { argumentBytes } from './ioctl.ts';
import { describeIoctl } from './ioctl_describe.ts';

/** What takes calls: a VM or a vCPU, or what stands for it. */
export interface IoctlTarget {
  ioctl(request: number, argument?: Uint8Array | number): number;
}

/** A VM as a VMM sees it: `Vm` itself, or a recorder before it. */
export interface IoctlVm extends IoctlTarget {
  vcpu(index: number): IoctlTarget;
}

/** One call that was made. structuredClone keeps it; JSON does not keep its bytes. */
export interface IoctlEntry {
  /** the VM, or a vCPU by its index */
  readonly target: 'vm' | number;
  readonly request: number;
  /** its argument before the call; a number as the 4 bytes of a u32 */
  readonly bytes: Uint8Array;
  readonly result: number;
  /** its argument after the call */
  readonly out: Uint8Array;
}

/** A call that was answered differently. */
export interface IoctlMismatch {
  /** which of the entries */
  readonly index: number;
  readonly entry: IoctlEntry;
  readonly result: number;
  readonly out: Uint8Array;
}

/** A VM that passes its calls on to `vm` and tells `sink` each of them, in their order. */
export function recordIoctls(vm: IoctlVm, sink: (entry: IoctlEntry) => void): IoctlVm {
  const record = (target: IoctlEntry['target'], to: IoctlTarget): IoctlTarget => ({
    ioctl: (request, argument) => {
      const entry = made(to, target, request, argument);
      sink(entry);
      return entry.result;
    },
  });
  return { ...record('vm', vm), vcpu: (index) => record(index, vm.vcpu(index)) };
}

/**
 * Makes the calls of a recording on `vm` and compares what they answer and what they write. It goes on after a difference. Answers that
 * tell the time differ unless both clocks stand at the same moment.
 * Throws EINVAL when the recording needs a vCPU that `vm` does not have.
 * @returns the calls that were answered differently; none: they behave the same
 */
export function replayIoctls(vm: IoctlVm, entries: Iterable<IoctlEntry>): IoctlMismatch[] {
  const mismatches: IoctlMismatch[] = [];
  let index = 0;
  for (const entry of entries) {
    const { target, request, bytes } = entry;
    const { result, out } = made(target === 'vm' ? vm : vm.vcpu(target), target, request, bytes.slice());
    if (result !== entry.result || !equal(out, entry.out)) mismatches.push({ index, entry, result, out });
    index++;
  }
  return mismatches;
}

/** An entry in one line: who was called, how, and the answer with the name of an error. */
export function describeEntry({ target, request, bytes, result }: IoctlEntry): string {
  const who = target === 'vm' ? 'vm' : `vcpu ${target}`;
  const name = errnoName(result);
  return `${who}: ${describeIoctl(request, bytes)} = ${result}${name ? ` (${name})` : ''}`;
}

function made(
  to: IoctlTarget,
  target: IoctlEntry['target'],
  request: number,
  argument?: Uint8Array | number,
): IoctlEntry {
  const bytes = argumentBytes(argument).slice();
  const result = to.ioctl(request, argument);
  return {
    target,
    request,
    bytes,
    result,
    out: typeof argument === 'number' ? bytes : argumentBytes(argument).slice(),
  };
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
