// Saving a VM and restoring it, while others may be sending. [KF-34, KF-79]
//
//   save:    timers whose expiry waits are delivered ─ senders held off ─ RAM and state copied ─ senders go on
//   restore: everything checked ─ senders held off ─ RAM and state written ─ senders go on ─ all vCPUs look again
//
// Senders are held off as for a change of every mapping: nobody uses a page, and nobody can map one. What a sender did before is
// complete, in RAM, selector and shadow; what it does meanwhile waits or says -EAGAIN, and happens after. So no event is in the
// state and not in the RAM, or the other way round.

import {
  HVA_END,
  KICK_LISTENER,
  REQUEST_MASTERCLOCK_UPDATE,
  VCPU_KICK,
  VCPU_SHADOW_HI,
  VCPU_SHADOW_LO,
  VCPU_TIMER_CALLBACK,
  VCPU_TIMER_PENDING,
} from '../../abi/region.ts';
import { PAGE_SIZE } from '../../abi/shared_info.ts';
import { EvtchnError } from '../../errors.ts';
import { hva } from '../../memory/address.ts';
import { lookUp } from '../../memory/host_pages.ts';
import { hostAddressOf } from '../../memory/slot_table.ts';
import { announceDeadline } from '../time/deadline_watch.ts';
import { clocksChanged } from '../time/guest_clock.ts';
import { checkTime, type Nanoseconds } from '../time/nanoseconds.ts';
import { awaitCallback, injectTimer, leaveCallback } from '../time/timer.ts';
import type { Vcpu } from '../vcpu.ts';
import type { Vm } from '../vm.ts';
import { apply, type RestoreMoment } from './apply.ts';
import { capture, counterAt } from './capture.ts';
import { checkFits } from './check.ts';
import { assemble, checkObject, decode, type RamRun, type Snapshot, seal } from './format.ts';
import type { VmState } from './state.ts';

/** How a snapshot is taken or restored. */
export interface HeldOptions {
  /**
   * Called while no sender is on its way and no page is in use: the moment to copy the guest's RAM out or in. Nothing of this
   * VM may be changed in it (EINVAL or EBADF when it ends the hold or the view). Sends of this thread say -EAGAIN; those of other threads wait, and say so after some 200 ms. What it
   * throws comes through, and nothing is restored then.
   */
  readonly during?: () => void;
}

export interface SnapshotOptions extends HeldOptions {
  /** Puts the guest-RAM window into the snapshot; false by default: RAM is the embedder's to save. */
  readonly ram?: boolean;
}

export interface RestoreOptions extends HeldOptions {
  /**
   * How long the threads that will run the vCPUs have waited for a core so far, ns, when that count does not go on from where it
   * was, as on another host. What was waited and not accounted yet counts either way. [KX-RUN-02]
   */
  readonly runDelay?: Nanoseconds;
}

/** @internal */
export function snapshot(vm: Vm, { ram = false, during }: SnapshotOptions): Uint8Array<ArrayBuffer> {
  // The checksum when senders go on.
  return seal(save(vm, during, () => assemble({ state: capture(vm), ram: ram ? ramOf(vm) : null })));
}

/** @internal */
export function snapshotState(vm: Vm, { during }: HeldOptions): VmState {
  return save(vm, during, () => capture(vm));
}

/** The readable object of a snapshot's bytes. Throws EINVAL unless they are one, whole and of a version that is known. */
export function readSnapshot(bytes: Uint8Array): VmState {
  return decode(bytes).state;
}

function save<T>(vm: Vm, during: (() => void) | undefined, take: () => T): T {
  checkQuiet(vm);
  checkNoDelivery(vm);
  momentOf(vm);
  deliverTimers(vm);
  // Timers first: who delivers one may wait for a mapping, and an expiry must not be saved beside its event.
  return withoutTimers(vm, () =>
    heldOff(vm, () => {
      call(vm, during);
      return take();
    }),
  );
}

/** @internal */
export function restore(vm: Vm, saved: Uint8Array | VmState, { during, runDelay }: RestoreOptions): void {
  checkQuiet(vm);
  if (runDelay !== undefined) checkTime('runDelay', runDelay);
  const { state, ram } = open(saved);
  checkFits(vm, state);
  const moment = { ...momentOf(vm), runDelay: runDelay === undefined ? null : BigInt(runDelay) };
  withoutTimers(vm, () =>
    heldOff(vm, () => {
      call(vm, during);
      apply(vm, state, moment);
      if (ram !== null) writeRam(vm, ram);
    }),
  );
  goOn(vm);
}

function open(saved: Uint8Array | VmState): Snapshot {
  if (saved instanceof Uint8Array) return decode(saved);
  checkObject(saved);
  return { state: saved, ram: null };
}

/** Calls the embedder, who may not be asynchronous: senders are held off only until he returns. And who may not end that himself. */
function call(vm: Vm, during: (() => unknown) | undefined): void {
  const result = during?.();
  if (typeof (result as PromiseLike<unknown> | undefined)?.then === 'function') {
    throw new EvtchnError('EINVAL', '`during` returned a promise: what it does has to be done when it returns');
  }
  vm.checkOpen();
  if (!vm.changes.invalidating) {
    throw new EvtchnError(
      'EINVAL',
      '`during` has called invalidateEnd(): what holds senders off is not its own to end',
    );
  }
}

// ── before ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Throws EPERM on other threads than the owner's, EBUSY where this thread is in the middle of something. */
function checkQuiet(vm: Vm): void {
  vm.checkOwner();
  vm.changes.checkNoBracket();
  vm.changes.checkNoInvalidation();
  if (vm.handling === 0) return;
  // Their pending bits are cleared already: a snapshot would not have them.
  throw new EvtchnError('EBUSY', 'a handler of a drain is running, whose ports are taken and not all handled');
}

/** An expiry that this very thread delivers stands beside its event still. */
function checkNoDelivery(vm: Vm): void {
  for (let i = 0; i < vm.vcpus; i++) {
    if (vm.region.words.load(vm.vcpu(i).record + VCPU_TIMER_CALLBACK) !== (vm.agent | 0)) continue;
    throw new EvtchnError('EBUSY', `this thread is delivering the timer of vCPU ${i}, which would be saved twice`);
  }
}

/**
 * Expiries that could not be delivered where they came up. Where shared_info cannot be reached they stay what they are: timers
 * that are set, and expire again after a restore. [KX-TMR-25]
 */
function deliverTimers(vm: Vm): void {
  for (let i = 0; i < vm.vcpus; i++) {
    const vcpu = vm.vcpu(i);
    const waits = vm.region.words.load(vcpu.record + VCPU_TIMER_PENDING) !== 0;
    if (waits && vm.gpcs.refresh(vm.region.sharedInfo) === 0) injectTimer(vcpu);
  }
}

/** The host's clocks now. Throws EOPNOTSUPP where the guest's TSC cannot be told. */
function momentOf(vm: Vm): Omit<RestoreMoment, 'runDelay'> {
  const sample = vm.kvmclock.sample();
  return { sample, counter: counterAt(vm, sample) };
}

// ── holding off ────────────────────────────────────────────────────────────────────────────────────────────────────

/** Calls `body` while no page of the guest is in use; afterwards what was mapped is mapped again, and sleepers look again. */
function heldOff<T>(vm: Vm, body: () => T): T {
  const mapped = [...vm.region.gpcs()].filter((gpc) => vm.gpcs.isMapped(gpc));
  vm.changes.invalidateStart(hva(0), hva(HVA_END - 1));
  try {
    return body();
  } finally {
    if (!vm.detached) {
      if (vm.changes.invalidating) vm.changes.invalidateEnd();
      for (const gpc of mapped) remap(vm, gpc);
      // One that went to sleep meanwhile could not see its vcpu_info.
      vm.region.wakeSleepers();
    }
  }
}

/** Maps a cache whose page is there. The embedder is asked for no page: who needs one asks for it. */
function remap(vm: Vm, gpc: number): void {
  const base = vm.gpcs.baseOf(gpc);
  if (base === null) return;
  const host = 'hva' in base ? base.hva : hostAddressOf(vm.region, base.gpa, true);
  if (host !== null && lookUp(vm.region, host)?.writable) vm.gpcs.refresh(gpc);
}

/** Calls `body` while no other thread sets or delivers a timer; see timer.ts. Throws EBUSY when one does for too long. */
function withoutTimers<T>(vm: Vm, body: () => T): T {
  const taken: Vcpu[] = [];
  try {
    for (let i = 0; i < vm.vcpus; i++) if (awaitCallback(vm.vcpu(i)) === 'entered') taken.push(vm.vcpu(i));
    return body();
  } finally {
    for (const vcpu of taken) leaveCallback(vcpu);
  }
}

// ── after a restore ────────────────────────────────────────────────────────────────────────────────────────────────

function goOn(vm: Vm): void {
  for (const gpc of vm.region.gpcs()) remap(vm, gpc);
  sampleClock(vm);
  // What the guest's clock records say is of another host: every vCPU writes them before it goes on.
  clocksChanged(vm);
  announceDeadline(vm);
  vm.region.wakeSleepers();
  for (let i = 0; i < vm.vcpus; i++) callListener(vm, i);
}

/** Lets the host's TSC be the clock if it can be. */
function sampleClock(vm: Vm): void {
  try {
    vm.kvmclock.resample();
  } catch (error) {
    // Another thread does not end its change of the clock: the next vCPU that enters the guest sees to it.
    if (!(error instanceof EvtchnError)) throw error;
    vm.requestAll(REQUEST_MASTERCLOCK_UPDATE);
  }
}

/** A listener whose vCPU is asked for an upcall hears of it: one upcall too many is harmless, one too few is not. */
function callListener(vm: Vm, index: number): void {
  const { words } = vm.region;
  const line = vm.region.vcpuLine(index);
  if (!(words.load(line + VCPU_KICK) & KICK_LISTENER)) return;
  const shadow = words.load(line + VCPU_SHADOW_LO) | words.load(line + VCPU_SHADOW_HI);
  if (shadow !== 0 || vm.kernel.upcallPending(vm.vmBase, vm.agent, index) === 1) vm.listeners.kick(vm.vmBase, index);
}

// ── guest RAM ──────────────────────────────────────────────────────────────────────────────────────────────────────

/** The pages that are not all 0, as views. */
function ramOf({ region }: Vm): RamRun[] {
  const { guestBase, guestBytes, words } = region;
  const window = words.bytes.subarray(guestBase, guestBase + guestBytes);
  const runs: RamRun[] = [];
  let from = 0;
  for (let at = 0; at <= guestBytes; at += PAGE_SIZE) {
    if (at < guestBytes && !isZero(window.subarray(at, at + PAGE_SIZE))) continue;
    if (at > from) runs.push({ at: from, bytes: window.subarray(from, at) });
    from = at + PAGE_SIZE;
  }
  return runs;
}

function isZero(page: Uint8Array): boolean {
  return new Int32Array(page.buffer, page.byteOffset, page.length / 4).every((word) => word === 0);
}

function writeRam({ region }: Vm, runs: readonly RamRun[]): void {
  const { guestBase, guestBytes, words } = region;
  words.zero(guestBase, guestBytes);
  for (const { at, bytes } of runs) words.write(guestBase + at, bytes);
}
