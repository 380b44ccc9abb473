// A thread that sends each of its ports once, to a VM that is saved and restored elsewhere again and again, and goes along with it.

import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { attachVm, type Vm, type VmHandle } from '../../src/index.ts';
import { ARRIVED, DONE, LIFE, type MovePart, type MoveTally } from './move_part.ts';

/** Sends between naps, and the nap, ms. */
const BURST = 4;
const NAP = 0.1;

const { handle, control, first, step, last } = workerData as MovePart;
const words = new Int32Array(control);
const tally: MoveTally = { again: 0, strange: 0 };
let vm = attachVm(handle);
let life = Atomics.load(words, LIFE);
Atomics.add(words, ARRIVED, 1);

/** Leaves the VM that was, and waits for where it is now. */
function follow(): Vm {
  vm.detach();
  for (;;) {
    const mail = parentPort ? receiveMessageOnPort(parentPort) : undefined;
    if (mail) {
      life++;
      const next = attachVm(mail.message as VmHandle);
      Atomics.add(words, ARRIVED, 1);
      return next;
    }
    Atomics.wait(words, ARRIVED, Atomics.load(words, ARRIVED), 1);
  }
}

/** One that ends in another life than it began in may be in the snapshot or not: it is made again. */
function send(port: number): void {
  for (;;) {
    const result = vm.send(port);
    if (Atomics.load(words, LIFE) === life) {
      if (result === 1 || result === 0) return;
      if (result !== -11) tally.strange++;
    } else {
      tally.again++;
      vm = follow();
    }
  }
}

for (let port = first, i = 1; port <= last; port += step, i++) {
  send(port);
  if (i % BURST === 0) Atomics.wait(words, LIFE, life, NAP);
}
Atomics.add(words, DONE, 1);
// Until it is over it goes along: the others are waited for.
while (Atomics.load(words, LIFE) >= 0) {
  if (Atomics.load(words, LIFE) !== life) vm = follow();
  else Atomics.wait(words, LIFE, life, 1);
}
vm.detach();
parentPort?.postMessage(tally);
