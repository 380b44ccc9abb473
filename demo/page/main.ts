// The page: starts the machine in the way this browser allows, and draws it once per frame. Nothing here ever waits.

import { ChosenPort } from './chosen_port.ts';
import { Controls } from './controls.ts';
import { Counters } from './counters.ts';
import { Machine } from './machine.ts';
import { guestOrder } from './order.ts';
import { control, shown, write } from './page.ts';
import { Picture } from './picture.ts';
import type { Report } from './report.ts';
import { startSingleAgent } from './single_agent.ts';
import { startTwoWorkers } from './two_workers.ts';
import { Books, Rounds } from './verdicts.ts';

const TWO_WORKERS = 'Two workers over one shared memory: one sends, the other sleeps until a send wakes it.';
const ONE_THREAD =
  'This page is not cross-origin isolated, so the browser shares no memory between workers: sender and receiver take turns on this one thread.';
const UNLIKE = ' The messages go to a worker, the events stay on this thread.';
/** Numbers change this often, ms; faster than that nobody can read them. */
const READABLE = 250;

const books = new Books();
const rounds = new Rounds(crossOriginIsolated ? '' : UNLIKE);

function report(what: Report): void {
  if (what.kind === 'audit') books.show(what.result);
  else if (what.kind === 'round') rounds.show(what.result);
  else fail(what.reason);
}

function fail(reason: unknown): void {
  shown('failure').hidden = false;
  write('failure', `The demo has stopped: ${String(reason)}`);
}

function start(): void {
  const rig = crossOriginIsolated ? startTwoWorkers(report) : startSingleAgent(report);
  write('mode', crossOriginIsolated ? TWO_WORKERS : ONE_THREAD);
  document.documentElement.dataset['mode'] = crossOriginIsolated ? 'workers' : 'single';

  const { vm, ledger } = rig;
  const canvas = control('picture', HTMLCanvasElement);
  const machine = new Machine(vm);
  const picture = new Picture(canvas);
  const counters = new Counters(vm, ledger);
  const chosen = new ChosenPort(vm, picture, canvas, guestOrder().busiest[0] as number);
  new Controls(ledger);

  let sleeps = 0;
  let nextNumbers = 0;
  const frame = (now: number): void => {
    rig.frame(now);
    machine.copy();
    picture.draw(machine, ledger, now);
    counters.count();
    lamp('upcall-pending', machine.upcallPending);
    lamp('upcall-mask', machine.upcallMask);
    chosen.show(machine, ledger);
    sleeps += ((machine.sleeping ? 1 : 0) - sleeps) / 30;
    if (now >= nextNumbers) {
      nextNumbers = now + READABLE;
      counters.show(now);
      write('sleeping', vm.shared ? `asleep ${Math.round(sleeps * 100)} %` : 'this thread');
    }
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
}

function lamp(name: string, value: number): void {
  write(name, String(value));
  shown(name).classList.toggle('on', value !== 0);
}

try {
  start();
} catch (error) {
  fail(error);
  throw error;
}
