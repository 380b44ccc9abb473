// Slots, host pages, invalidations, dirty logs, guest RAM, and the cache of Linux 5.17.

import { type Chance, HIGH, PAGES } from '../chance.ts';
import { as, type Operations, who } from '../operation.ts';
import { fromGuest, type Value } from '../value.ts';
import type { World } from '../world.ts';

const PAGE = 4096;

function slot(chance: Chance): Value {
  const pages = chance.once(3) ? PAGES : 1 + chance.int(4);
  const whole = chance.once(3) ? { gpa: 0, hva: fromGuest(0), bytes: PAGES * PAGE } : null;
  return {
    id: chance.or(chance.int(5)),
    ...(chance.once(8) ? { addressSpace: chance.or(1) } : {}),
    gpa: chance.once(20) ? chance.gpa() : chance.pageAddress(),
    bytes: chance.once(5) ? 0 : chance.once(30) ? chance.pick([1, 2 ** 43, -PAGE, 2 ** 52]) : chance.or(pages * PAGE),
    hva: chance.hostPage(),
    ...whole,
    ...(chance.once(3) ? { logDirty: chance.flag() } : {}),
    ...(chance.once(6) ? { readonly: chance.flag() } : {}),
  };
}

/** A range of host pages. */
function hostRange(chance: Chance): Value[] {
  return [chance.hostPage(), chance.or(chance.once(4) ? chance.pick([0, 72, 73, PAGES]) : 1 + chance.int(3))];
}

function cacheOf(world: World, n: unknown) {
  return world.caches[Number(n) % Math.max(world.caches.length, 1)];
}

export const MEMORY: Operations = {
  slotSet: { weight: 10, args: (c) => [who(c), slot(c)], run: (w, [v, value]) => w.view(v).memslots.set(as(value)) },
  slotDelete: {
    weight: 2,
    args: (c) => [who(c), c.index(5), c.once(6) ? c.index(2) : 0],
    run: (w, [v, id, space]) => w.view(v).memslots.delete(as(id), as(space)),
  },
  slotList: { weight: 1, args: (c) => [who(c)], run: (w, [v]) => w.view(v).memslots.list() },
  slotGeneration: {
    weight: 1,
    args: (c) => [who(c), c.index(2)],
    run: (w, [v, space]) => w.view(v).memslots.generation(as(space)),
  },
  slotHva: {
    weight: 2,
    args: (c) => [who(c), c.gpa(), c.flag()],
    run: (w, [v, at, writable]) => w.view(v).memslots.hvaOf(as(at), as(writable)),
  },
  pageMap: {
    weight: 6,
    args: (c) => [who(c), ...hostRange(c), c.hostPage(), c.once(4) ? { writable: c.once(2) } : '$undefined'],
    run: (w, [v, first, pages, frame, options]) =>
      w.view(v).hostPages.map(as(first), as(pages), as(frame), as(options)),
  },
  pageUnmap: {
    weight: 4,
    args: (c) => [who(c), ...hostRange(c)],
    run: (w, [v, first, pages]) => w.view(v).hostPages.unmap(as(first), as(pages)),
  },
  pageMove: {
    weight: 4,
    args: (c) => [who(c), ...hostRange(c), c.hostPage()],
    run: (w, [v, first, pages, frame]) => w.view(v).hostPages.move(as(first), as(pages), as(frame)),
    writes: 'all',
  },
  pageLookup: { weight: 1, args: (c) => [who(c), c.hva()], run: (w, [v, at]) => w.view(v).hostPages.lookup(as(at)) },
  invalidateStart: {
    weight: 6,
    args: (c) =>
      c.once(3)
        ? [who(c), fromGuest(0), fromGuest(PAGES * PAGE - 1)]
        : [who(c), c.hva(), c.hva(), { mayBlock: c.once(2) }],
    run: (w, [v, first, last, options]) => w.view(v).invalidateStart(as(first), as(last), as(options)) >= 0,
  },
  invalidateEnd: { weight: 12, args: (c) => [who(c)], run: (w, [v]) => w.view(v).invalidateEnd() },
  dirtyTake: {
    weight: 3,
    args: (c) => [who(c), c.index(5), c.once(6) ? c.index(2) : 0],
    run: (w, [v, id, space]) => w.view(v).dirtyLog.take(as(id), as(space)),
  },
  dirtyCollect: {
    weight: 3,
    args: (c) => [who(c), c.index(2)],
    run: (w, [v, vcpu]) => w.view(v).dirtyLog.collect(as(vcpu)),
  },
  dirtyReset: { weight: 2, args: (c) => [who(c)], run: (w, [v]) => w.view(v).dirtyLog.reset() >= 0 },
  ramRead: {
    weight: 3,
    args: (c) => [who(c), c.gpa(), c.or(c.pick([0, 1, 64, 4096, 9000]))],
    run: (w, [v, at, length]) => w.view(v).guestMemory.read(as(at), as(length)),
  },
  ramWrite: {
    weight: 3,
    args: (c) => [
      who(c),
      c.gpa(),
      c.structure(c.pick([0, 1, 64, 4096, 9000]), []),
      c.once(3) ? c.index(2) : '$undefined',
    ],
    run: (w, [v, at, data, vcpu]) => w.view(v).guestMemory.write(as(at), as(data), as(vcpu)),
    writes: 'reachable',
  },
  cacheNew: {
    weight: 1,
    args: (c) => [who(c), { vcpu: c.or(c.int(2)), guestUsesPa: c.once(2), kernelMap: c.flag() }],
    run: (w, [v, options]) => {
      const cache = w.view(v).historicCache({ ...as<object>(options), onWarning: () => {} });
      w.caches.push(cache);
      if (w.caches.length > 3) w.caches.shift()?.destroy();
    },
  },
  cacheInit: {
    weight: 2,
    args: (c) => [c.int(3), c.once(3) ? HIGH : c.gpa(), c.or(c.pick([1, 8, 64, 4096])), c.flag()],
    run: (w, [n, at, length, dirty]) => cacheOf(w, n)?.init(as(at), as(length), as(dirty)),
  },
  cacheUse: {
    weight: 3,
    args: (c) => [c.int(3), c.pick(['check', 'refresh', 'unmap', 'destroy', 'khva']), c.gpa(), c.or(8), c.flag()],
    run: (w, [n, what, at, length, dirty]) => {
      const cache = cacheOf(w, n);
      if (cache === undefined) return;
      if (what === 'check') return cache.check(as(at), as(length));
      if (what === 'refresh') return cache.refresh(as(at), as(length), as(dirty));
      if (what === 'khva') return cache.khva;
      return what === 'unmap' ? cache.unmap() : cache.destroy();
    },
    tag: (args) => String(args[1]),
  },
};
