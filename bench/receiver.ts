// The other core: a worker that does what the words of a control block tell it, and says when it is done.

import { parentPort, workerData } from 'node:worker_threads';
import { attachVm, type VmHandle } from '../src/index.ts';

/** Words of the control block. */
export const COMMAND = 0;
export const DONE = 16;
export const PING = 32;
export const PONG = 48;
/** arguments: events to take, known when all are sent; loop steps to let pass after a drain that found some */
export const TOTAL = 64;
export const BACK_OFF = 65;
/** events taken */
export const TAKEN = 66;
export const CONTROL_WORDS = 80;

/** The total while it is not known. */
export const NOT_YET = -1;

export const IDLE = 0;
export const ECHO = 1;
export const TAKE = 2;
export const COUNT_MESSAGES = 3;
export const STOP = 4;

export interface ReceiverData {
  readonly handle: VmHandle;
  readonly control: Int32Array<SharedArrayBuffer>;
}

/** Answers each value in PING by the same in PONG until a negative one. */
function echo(control: Int32Array): void {
  for (let seen = 0; seen >= 0; ) {
    const next = Atomics.load(control, PING);
    if (next === seen) continue;
    seen = next;
    Atomics.store(control, PONG, seen);
  }
}

/** Drains vCPU 0 until it has taken all: looks without a pause while there is nothing, lets time pass after it found some. */
function take(vm: ReturnType<typeof attachVm>, control: Int32Array): void {
  const vcpu = vm.vcpu(0);
  const backOff = Atomics.load(control, BACK_OFF);
  let taken = 0;
  for (;;) {
    if (!vcpu.upcallPending) {
      if (taken === Atomics.load(control, TOTAL)) break;
      continue;
    }
    taken += vcpu.drain();
    for (let i = 0; i < backOff; i++) Atomics.load(control, TAKEN);
  }
  Atomics.store(control, TAKEN, taken);
}

function finish(control: Int32Array): void {
  Atomics.store(control, COMMAND, IDLE);
  Atomics.store(control, DONE, 1);
  Atomics.notify(control, DONE);
}

/** Takes commands until it has to count messages, which needs the event loop. */
function obey(data: ReceiverData, vm: ReturnType<typeof attachVm>): void {
  const { control } = data;
  for (;;) {
    Atomics.wait(control, COMMAND, IDLE);
    const command = Atomics.load(control, COMMAND);
    if (command === ECHO) echo(control);
    else if (command === TAKE) take(vm, control);
    else if (command === COUNT_MESSAGES) return;
    else if (command === STOP) process.exit(0);
    finish(control);
  }
}

if (parentPort) {
  const data = workerData as ReceiverData;
  const vm = attachVm(data.handle);
  let left = 0;
  parentPort.on('message', () => {
    left = left === 0 ? Atomics.load(data.control, TOTAL) - 1 : left - 1;
    if (left > 0) return;
    finish(data.control);
    obey(data, vm);
  });
  obey(data, vm);
}
