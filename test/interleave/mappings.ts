// Pages that are taken away, move, or are mapped again while events are on their way.

import { EAGAIN, EFAULT } from '../../src/abi/errno.ts';
import { GPC_ADDRESS_LO, MEMSLOT_HVA, REGION_MEMSLOTS, REGION_SHARED_INFO } from '../../src/abi/region.ts';
import { PAGE_SIZE } from '../../src/abi/shared_info.ts';
import { gfn, gpa, hva, type Vm } from '../../src/index.ts';
import { pendingBit, ram, random, SHARED_INFO_GPA, VCPU_INFO_GPA } from '../support.ts';
import { once, PORT, PORTS, STRANGER, send } from './ports.ts';
import { type Actor, drain, type Scenario, type World } from './world.ts';

const OLD_VCPU_INFO = VCPU_INFO_GPA;
const NEW_VCPU_INFO = VCPU_INFO_GPA + 2048;

/** Unmaps a page's cache, waits for readers, and poisons the page if they have left. */
function takePageAway(gpcOf: (vm: Vm) => number, address: number, bytes: number): Actor {
  return (world) => {
    const { b } = world;
    b.kernel.gpcUnmap(b.vmBase, gpcOf(b));
    const left = b.kernel.awaitReaders(b.vmBase, b.agent, 0, 0) === b.region.agents;
    // Inside its bracket the reader may still touch the page: a real invalidator waits, here it can only leave it alone.
    if (left) {
      ram(b).fill(0xa5, address, address + bytes);
      world.payload = 1;
    }
  };
}

/** A page that was given away stays as it was poisoned. [R3] */
function untouched(address: number, bytes: number) {
  return ({ b, payload }: World): string | null =>
    payload === 0 ||
    ram(b)
      .subarray(address, address + bytes)
      .every((byte) => byte === 0xa5)
      ? null
      : 'a page was written after its invalidation had returned';
}

function moveVcpuInfo(world: World): void {
  world.a.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(NEW_VCPU_INFO) });
}

const sharedInfo = (vm: Vm): number => vm.vmBase + REGION_SHARED_INFO;
const vcpuInfo = (vm: Vm): number => vm.vcpu(0).line;

/** The fast halves of a refresh, without the control plane's own look at the cache between them. */
function refreshSharedInfo({ a }: World): void {
  const { kernel, vmBase, guestBase } = a;
  if (kernel.gpcBeginRefresh(vmBase, sharedInfo(a), 1) !== 0) return;
  kernel.gpcPublish(vmBase, sharedInfo(a), 1, guestBase + SHARED_INFO_GPA);
}

function invalidateAll({ kernel, vmBase }: Vm): void {
  kernel.invalidateStart(vmBase);
  kernel.unmapRange(vmBase, 0, 0xffffffff);
}

/** A send by B whose result is looked at. */
function keepResult(port: number): Actor {
  return (world) => {
    world.result = send(world.b, port);
    // Told that a change is under way, where a real thread would have waited for its end: that is once A is through.
    if (world.result === -EAGAIN) world.later = () => (world.result = send(world.b, port));
  };
}

function noError({ result }: World): string | null {
  return result === 1 ? null : `a sender got ${result}`;
}

// The page of shared_info and that of the vcpu_infos, and where they go.
const OLD_PAGES = SHARED_INFO_GPA;
const NEW_PAGES = SHARED_INFO_GPA + 8 * PAGE_SIZE;
const PAGES_LENGTH = 2 * PAGE_SIZE;
/** No two words alike: who takes this for pending and mask bits finds ports that nobody sent. */
const POISON = Uint8Array.from({ length: PAGES_LENGTH }, poisonByte());
function poisonByte(): () => number {
  const next = random(3);
  return () => next(256);
}

/** The old pages are somebody else's now: what they hold goes to the new ones if told so. */
function giveAway({ b }: World, length: number, copy: boolean): void {
  if (copy) ram(b).copyWithin(NEW_PAGES, OLD_PAGES, OLD_PAGES + length);
  ram(b).set(POISON.subarray(0, length), OLD_PAGES);
}

/** Whether the old pages are as they were given away, and each of `ports` was handled once at the new ones. */
function onceElsewhere(ports: readonly number[], length: number) {
  return ({ handled, b }: World): string | null => {
    const old = ram(b).subarray(OLD_PAGES, OLD_PAGES + length);
    if (!old.every((byte, i) => byte === POISON[i])) return 'the old page was written after it was given away';
    for (const port of ports) {
      const times = handled.filter((p) => p === port).length;
      if (times !== 1) return times ? `port ${port} was handled ${times} times` : `port ${port} was lost`;
      if (pendingBit(b, port, NEW_PAGES)) return `port ${port} stays pending`;
    }
    return handled.every((port) => PORTS.includes(port)) ? null : 'handled a port that nobody sent';
  };
}

/** As the owner moves shared_info to another page: what it held goes with it. [KX-VMA-10] */
function* moveSharedInfo(world: World): Generator<void> {
  const { b } = world;
  const { kernel, vmBase, region } = b;
  kernel.invalidateStart(vmBase);
  kernel.gpcUnmap(vmBase, sharedInfo(b));
  yield;
  giveAway(world, PAGE_SIZE, true);
  region.words.storeWide(sharedInfo(b) + GPC_ADDRESS_LO, NEW_PAGES);
  kernel.invalidateEnd(vmBase);
}

/** The move itself, once A is outside its brackets: nothing of the old page goes with it. */
function* moveAsAWhole(world: World): Generator<void> {
  const { b } = world;
  yield;
  b.gpcs.activate(sharedInfo(b), 'shared_info', { gpa: gpa(NEW_PAGES) }, PAGE_SIZE);
  world.payload = pendingBit(b, PORT) ? 1 : 0;
  giveAway(world, PAGE_SIZE, false);
}

/** As the owner moves memory slot 0, in which all is, to other host pages. [KX-MEM-12] */
function* moveSlot(world: World): Generator<void> {
  const { kernel, vmBase, region } = world.b;
  kernel.invalidateStart(vmBase);
  kernel.unmapSlots(vmBase);
  yield;
  giveAway(world, PAGES_LENGTH, true);
  const slot = region.part(REGION_MEMSLOTS);
  region.words.storeWide(slot + MEMSLOT_HVA, region.guestBase + NEW_PAGES - OLD_PAGES);
  kernel.invalidateEnd(vmBase);
}

/** A memory slot that nothing goes through comes and goes. */
function otherSlot({ a }: World): void {
  a.memslots.set({ id: 1, gpa: gpa(0x100000), bytes: PAGE_SIZE, hva: hva(a.guestBase) });
  a.memslots.delete(1);
}

/** Memory slot 0 is deleted, and made again with other host pages. [KX-MEM-16] */
function slotElsewhere(world: World): void {
  const { memslots, guestBase } = world.a;
  memslots.delete(0);
  giveAway(world, PAGES_LENGTH, true);
  memslots.set({ id: 0, gpa: gpa(0), bytes: 8 * PAGE_SIZE, hva: hva(guestBase + NEW_PAGES - OLD_PAGES) });
}

function byHost({ a }: World): void {
  a.setAttr({ type: 'shared_info_hva', hva: hva(a.guestBase + SHARED_INFO_GPA) });
  a.vcpu(0).setAttr({ type: 'vcpu_info_hva', hva: hva(a.guestBase + OLD_VCPU_INFO) });
}

function unmapped(otherwise: string) {
  return ({ b }: World): string | null => (b.kernel.send(b.vmBase, b.agent, PORT) === -EAGAIN ? null : otherwise);
}

export const MAPPINGS: readonly Scenario[] = [
  // ── KF-13: vcpu_info moves ──────────────────────────────────────────────────────────────────────────────────────
  {
    name: 'KF-13 vcpu_info moves with an event in the old place, a send inside',
    setup: (w) => send(w.a, STRANGER),
    a: moveVcpuInfo,
    b: keepResult(PORT),
    slowHalf: true,
    judge: (w) => noError(w) ?? once([PORT, STRANGER])(w),
  },
  {
    name: 'KF-13 vcpu_info moves with an event in the old place, a drain inside',
    setup: (w) => w.a.sendMany(PORTS),
    a: moveVcpuInfo,
    // It stays registered all the time: a drain that finds it away takes nothing, and does not fail.
    b: (w) => drain(w, w.b),
    slowHalf: true,
    judge: once(PORTS),
  },
  // ── R3: after invalidation the old page is nobody's ─────────────────────────────────────────────────────────────
  {
    name: 'R3 send, shared_info taken away inside',
    unattended: true,
    a: (w) => w.a.kernel.send(w.a.vmBase, w.a.agent, PORT),
    b: takePageAway(sharedInfo, SHARED_INFO_GPA, 4096),
    judge: untouched(SHARED_INFO_GPA, 4096),
  },
  {
    name: 'R3 send, vcpu_info taken away inside',
    unattended: true,
    a: (w) => w.a.kernel.send(w.a.vmBase, w.a.agent, PORT),
    b: takePageAway(vcpuInfo, OLD_VCPU_INFO, 64),
    judge: untouched(OLD_VCPU_INFO, 64),
  },
  {
    name: 'R3 drain, shared_info taken away inside',
    unattended: true,
    setup: (w) => w.a.sendMany(PORTS),
    a: (w) => w.a.kernel.drain(w.a.vmBase, w.a.agent, 0, w.a.region.inbox(w.a.agent)),
    b: takePageAway(sharedInfo, SHARED_INFO_GPA, 4096),
    judge: untouched(SHARED_INFO_GPA, 4096),
  },
  {
    name: 'R3 batch, vcpu_info taken away inside',
    unattended: true,
    a: (w) =>
      w.a.kernel.sendMany(w.a.vmBase, w.a.agent, w.a.region.outbox(w.a.agent), w.a.outbox.set(PORTS) ?? PORTS.length),
    b: takePageAway(vcpuInfo, OLD_VCPU_INFO, 64),
    judge: untouched(OLD_VCPU_INFO, 64),
  },
  // ── KX-GPC-30..32: refresh against invalidation ─────────────────────────────────────────────────────────────────
  {
    name: 'KF-01 refresh, a whole invalidation that gives the page away inside',
    setup: (w) => w.a.kernel.gpcUnmap(w.a.vmBase, sharedInfo(w.a)),
    a: (w) => {
      // Translation happens between begin and publish: what it found is what the page was when the token went in.
      const { kernel, vmBase } = w.a;
      const given = w.payload;
      if (kernel.gpcBeginRefresh(vmBase, sharedInfo(w.a), 1) !== 0) return;
      const translated = w.payload;
      if (kernel.gpcPublish(vmBase, sharedInfo(w.a), 1, w.a.guestBase + SHARED_INFO_GPA) !== 0) return;
      if (given !== w.payload && translated !== w.payload)
        w.faults.push('published a page that an invalidation had taken away');
    },
    b: (w) => {
      invalidateAll(w.b);
      w.payload = 1;
      w.b.kernel.invalidateEnd(w.b.vmBase);
    },
    judge: () => null,
  },
  {
    name: 'KX-GPC-32 refresh, the start of an invalidation inside: nothing is mapped before its end',
    setup: (w) => w.a.kernel.gpcUnmap(w.a.vmBase, sharedInfo(w.a)),
    a: refreshSharedInfo,
    b: (w) => invalidateAll(w.b),
    unattended: true,
    judge: unmapped('mapped while an invalidation is open'),
  },
  {
    name: 'KF-03 refresh, a whole deactivation inside: nothing is mapped afterwards',
    setup: (w) => w.a.kernel.gpcUnmap(w.a.vmBase, sharedInfo(w.a)),
    a: refreshSharedInfo,
    b: (w) => w.b.gpcs.deactivate(sharedInfo(w.b)),
    unattended: true,
    judge: unmapped('an inactive cache is mapped'),
  },
  // ── KX-VMA-10: shared_info moves while events are on their way ──────────────────────────────────────────────────
  {
    name: 'KX-VMA-10 send, a move of shared_info to another page inside',
    a: (w) => {
      w.result = send(w.a, PORT);
    },
    b: moveSharedInfo,
    slowHalf: true,
    judge: (w) => noError(w) ?? onceElsewhere([PORT], PAGE_SIZE)(w),
  },
  {
    name: 'KX-VMA-10 batch, a move of shared_info to another page inside',
    a: (w) => {
      w.result = w.a.sendMany(PORTS) === 3 ? 1 : -1;
    },
    b: moveSharedInfo,
    slowHalf: true,
    judge: (w) => noError(w) ?? onceElsewhere(PORTS, PAGE_SIZE)(w),
  },
  {
    name: 'KX-VMA-10 KF-02 refresh of shared_info and a send, a whole move to another page inside',
    setup: (w) => w.a.kernel.gpcUnmap(w.a.vmBase, sharedInfo(w.a)),
    a: (w) => {
      w.result = send(w.a, PORT);
    },
    b: moveAsAWhole,
    slowHalf: true,
    // Before the move it is in the old page, which nobody looks at any more.
    judge: (w) => noError(w) ?? onceElsewhere(w.payload ? [] : [PORT], PAGE_SIZE)(w),
  },
  {
    name: 'KX-VMA-10 drain, a move of shared_info to another page inside',
    setup: (w) => w.a.sendMany(PORTS),
    a: (w) => drain(w, w.a),
    b: moveSharedInfo,
    slowHalf: true,
    judge: onceElsewhere(PORTS, PAGE_SIZE),
  },
  {
    name: 'KX-VMA-10 shared_info moves to another page, a send inside',
    a: (w) => {
      w.a.setAttr({ type: 'shared_info', gfn: gfn(NEW_PAGES / PAGE_SIZE) });
      w.payload = pendingBit(w.a, PORT) ? 1 : 0;
      giveAway(w, PAGE_SIZE, false);
    },
    b: keepResult(PORT),
    slowHalf: true,
    judge: (w) => noError(w) ?? onceElsewhere(w.payload ? [] : [PORT], PAGE_SIZE)(w),
  },
  {
    name: 'KX-VMA-10 shared_info moves from a guest address to a host one, a send inside',
    a: (w) => {
      w.a.setAttr({ type: 'shared_info_hva', hva: hva(w.a.guestBase + NEW_PAGES) });
      w.payload = pendingBit(w.a, PORT) ? 1 : 0;
      giveAway(w, PAGE_SIZE, false);
    },
    b: keepResult(PORT),
    slowHalf: true,
    judge: (w) => noError(w) ?? onceElsewhere(w.payload ? [] : [PORT], PAGE_SIZE)(w),
  },
  {
    name: 'KX-VMA-10 shared_info moves to another page, a drain inside',
    setup: (w) => send(w.a, PORT),
    a: (w) => {
      w.a.setAttr({ type: 'shared_info', gfn: gfn(NEW_PAGES / PAGE_SIZE) });
      w.payload = pendingBit(w.a, PORT) ? 1 : 0;
      giveAway(w, PAGE_SIZE, false);
    },
    b: (w) => drain(w, w.b),
    slowHalf: true,
    judge: (w) => onceElsewhere(w.payload ? [] : [PORT], PAGE_SIZE)(w),
  },
  // ── KX-MEM-12: memory slots change while events are on their way ────────────────────────────────────────────────
  {
    name: 'KX-MEM-12 send, a change of the memory slot inside',
    a: (w) => {
      w.result = send(w.a, PORT);
    },
    b: moveSlot,
    slowHalf: true,
    judge: (w) => noError(w) ?? onceElsewhere([PORT], PAGES_LENGTH)(w),
  },
  {
    name: 'KX-MEM-12 batch, a change of the memory slot inside',
    a: (w) => {
      w.result = w.a.sendMany(PORTS) === 3 ? 1 : -1;
    },
    b: moveSlot,
    slowHalf: true,
    judge: (w) => noError(w) ?? onceElsewhere(PORTS, PAGES_LENGTH)(w),
  },
  {
    name: 'KX-MEM-12 drain, a change of the memory slot inside',
    setup: (w) => w.a.sendMany(PORTS),
    a: (w) => drain(w, w.a),
    b: moveSlot,
    slowHalf: true,
    judge: onceElsewhere(PORTS, PAGES_LENGTH),
  },
  {
    name: 'KX-MEM-12 KF-01 refresh of shared_info and a send, a change of the memory slot inside',
    setup: (w) => w.a.kernel.gpcUnmap(w.a.vmBase, sharedInfo(w.a)),
    a: (w) => {
      w.result = send(w.a, PORT);
    },
    b: moveSlot,
    slowHalf: true,
    judge: (w) => noError(w) ?? onceElsewhere([PORT], PAGES_LENGTH)(w),
  },
  {
    name: 'KX-MEM-15 another memory slot comes and goes, a send inside',
    a: otherSlot,
    b: keepResult(PORT),
    slowHalf: true,
    judge: (w) => noError(w) ?? once([PORT])(w),
  },
  {
    name: 'KX-MEM-15 another memory slot comes and goes, a drain inside',
    setup: (w) => w.a.sendMany(PORTS),
    a: otherSlot,
    b: (w) => drain(w, w.b),
    slowHalf: true,
    judge: once(PORTS),
  },
  {
    name: 'KX-MEM-16 the memory slot of shared_info goes and comes back elsewhere, a send inside',
    a: slotElsewhere,
    b: (w) => {
      keepResult(PORT)(w);
      // There is no slot at this instant: the sender is told so, and the event was not sent.
      if (w.result === -EFAULT) w.later = () => (w.result = send(w.b, PORT));
    },
    slowHalf: true,
    judge: (w) => noError(w) ?? onceElsewhere([PORT], PAGES_LENGTH)(w),
  },
  {
    name: 'KX-VMA-11 all by host address, a memory slot comes and goes, the fast half of a send inside',
    setup: byHost,
    a: otherSlot,
    b: (w) => {
      w.result = w.b.kernel.send(w.b.vmBase, w.b.agent, PORT);
    },
    slowHalf: true,
    judge: (w) => noError(w) ?? once([PORT])(w),
  },
  {
    name: 'KX-VMA-11 all by host address, a memory slot comes and goes, the fast half of a drain inside',
    setup: (w) => {
      byHost(w);
      send(w.a, PORT);
    },
    a: otherSlot,
    b: (w) => {
      w.result = w.b.kernel.drain(w.b.vmBase, w.b.agent, 0, w.b.region.inbox(w.b.agent));
    },
    slowHalf: true,
    judge: ({ result }) => (result === 1 ? null : `the drain gave ${result}`),
  },
];
