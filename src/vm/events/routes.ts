// Interrupt routes: what each gsi raises; the table is replaced whole. [kvm-xen 10]

import { EAGAIN, EBADF, EINVAL } from '../../abi/errno.ts';
import {
  MAX_GSI,
  MAX_ROUTES,
  REGION_ROUTE_CAPACITY,
  REGION_ROUTE_TABLE,
  REGION_ROUTES,
  ROUTE_COUNT,
  ROUTE_FIRST,
  ROUTE_SIZE,
  VM_IRQCHIP,
} from '../../abi/region.ts';
import { EvtchnError } from '../../errors.ts';
import { routeCopy } from '../../memory/region.ts';
import type { Vm } from '../vm.ts';
import { raiseFast, reading } from './event.ts';
import { checkRoute, type IrqchipRoute, type IrqRoute, loadRoute, type MsiRoute, storeRoute } from './route_entry.ts';

/**
 * What the embedder's interrupt controller does with an interrupt that is routed to it, on the thread that raises it and outside
 * its brackets. A message comes with level 1 only.
 * @returns to how many vCPUs it went, 0 when it coalesced with one before, negative when it was not delivered
 */
export type InterruptHandler = (route: IrqchipRoute | MsiRoute, level: 0 | 1) => number;

/** What raising says of a gsi that nothing has taken. */
const NOBODY = -1;

/** The interrupt routes of a VM. */
export class Routes {
  readonly #vm: Vm;
  readonly #capacity: number;
  /** where the first copy is */
  readonly #tables: number;
  readonly #onInterrupt: InterruptHandler | undefined;
  /** what the table in force says, by gsi: read anew when its count has changed */
  #seen: number | null = null;
  #byGsi: ReadonlyMap<number, readonly IrqRoute[]> = new Map();

  /** @internal */
  constructor(vm: Vm, onInterrupt?: InterruptHandler) {
    const { words, base } = vm.region;
    this.#vm = vm;
    this.#capacity = words.load(base + REGION_ROUTE_CAPACITY);
    this.#tables = vm.region.part(REGION_ROUTES);
    this.#onInterrupt = onInterrupt;
  }

  /**
   * Replaces all routes at once; whoever raises an interrupt meanwhile goes by the old ones or by the new ones, and when this
   * returns nobody goes by the old ones any more (but for a handler of the embedder's that is running). Owner only. [KX-RTE-10..12]
   * Throws EINVAL without an irqchip, for more than 4096 entries, a gsi from 4096 on, a bad entry or a second one of a gsi (but for
   * pins of different chips); ENOMEM when they do not fit, EBUSY inside a bracket or when a reader does not leave. On any error
   * the old routes stay.
   */
  set(entries: readonly IrqRoute[]): void {
    this.#vm.checkOwner();
    this.#check(entries);
    const { changes, region } = this.#vm;
    changes.checkNoBracket();
    // Nobody reads the spare copy any more, also if the replacement before was given up.
    changes.awaitReaders();
    const word = region.base + REGION_ROUTE_TABLE;
    const table = region.words.load(word);
    this.#fill(table + 1, entries);
    region.words.store(word, (table + 1) | 0);
    try {
      changes.awaitReaders();
    } catch (error) {
      // The old copy, under a number that no reader has seen with other routes.
      region.words.store(word, (table + 2) | 0);
      throw error;
    }
  }

  /** All routes, in the order they were given. */
  list(): IrqRoute[] {
    this.#vm.checkOpen();
    let routes: IrqRoute[] = [];
    reading(this.#vm, () => {
      routes = this.#load(this.#table());
      return 0;
    });
    return routes;
  }

  /**
   * Changes the level of an interrupt, 0 or 1, as kvm_set_irq does. Any thread. Does not throw. A port is raised by level 1 only.
   * [KX-RTE-20, KX-EVT-30..34]
   * @returns the sum of what its routes say that is not negative (a port: 1 raised, 0 pending already); -1 when none took it,
   *   nor is there any; -EBADF (-9) when this view is detached
   */
  raise(gsi: number, level: number): number {
    const result = this.raiseWhile(gsi, level, () => true);
    return result === -EAGAIN ? NOBODY : result;
  }

  /**
   * As `raise` where nothing may sleep. In a bracket. [KX-RTE-21, 22]
   * @returns what the route says: 1, 0, -ENOTCONN masked, -EINVAL no such port or vCPU, -1 for level 0; -EAGAIN when it takes
   *   `raise`: shared_info is not mapped, or the gsi has not exactly one route and that to a port @internal
   */
  raiseFast(gsi: number, level: number): number {
    const routes = this.#routesOf(gsi);
    const route = routes[0];
    if (routes.length !== 1 || route?.type !== 'xen_evtchn') return -EAGAIN;
    if (level === 0) return NOBODY;
    const vcpu = this.#vm.indexOf(route.vcpu);
    return vcpu < 0 ? -EINVAL : raiseFast(this.#vm, route.port, vcpu);
  }

  /**
   * As `raise`, as long as `stands` says so: it is asked together with each look at the routes.
   * @returns also -EAGAIN: shared_info could not be mapped in time, nothing was raised @internal
   */
  raiseWhile(gsi: number, level: number, stands: () => boolean): number {
    const vm = this.#vm;
    let elsewhere: readonly (IrqchipRoute | MsiRoute)[] = [];
    // Looked up again at each try: a route that is gone by then is not used.
    const result = vm.retry(() =>
      reading(vm, () => {
        if (!stands()) return NOBODY;
        const routes = this.#routesOf(gsi);
        elsewhere = routes.filter((route) => route.type !== 'xen_evtchn');
        return routes.length === 0 || elsewhere.length > 0 ? NOBODY : this.#fastOrLow(gsi, level);
      }),
    );
    if (elsewhere.length > 0) return this.#handOver(elsewhere, level);
    return result >= 0 || result === -EBADF || result === -EAGAIN ? result : NOBODY;
  }

  /** A port has no level: 0 is refused before it is looked at. [KX-RTE-20] */
  #fastOrLow(gsi: number, level: number): number {
    return level === 0 ? NOBODY : this.raiseFast(gsi, level);
  }

  #handOver(routes: readonly (IrqchipRoute | MsiRoute)[], level: number): number {
    let sum = NOBODY;
    for (const route of routes) {
      const result = this.#ask(route, level === 0 ? 0 : 1);
      if (result >= 0) sum = result + Math.max(sum, 0);
    }
    return sum;
  }

  #ask(route: IrqchipRoute | MsiRoute, level: 0 | 1): number {
    if (this.#onInterrupt === undefined || (route.type === 'msi' && level === 0)) return NOBODY;
    try {
      return this.#onInterrupt(route, level);
    } catch (error) {
      // Who raises is in the middle of a call: it must not see a stranger's exception.
      queueMicrotask(() => {
        throw error;
      });
      return NOBODY;
    }
  }

  // ── the table ────────────────────────────────────────────────────────────────────────────────────────────────────

  #check(entries: readonly IrqRoute[]): void {
    if (!this.#vm.region.has(VM_IRQCHIP)) {
      throw new EvtchnError('EINVAL', 'this VM has no interrupts: it was made with irqchip: false');
    }
    if (entries.length > MAX_ROUTES) {
      throw new EvtchnError('EINVAL', `there are ${entries.length} routes, allowed are up to ${MAX_ROUTES}`);
    }
    for (const { gsi } of entries) {
      if (Number.isInteger(gsi) && gsi >= 0 && gsi < MAX_GSI) continue;
      throw new EvtchnError(
        'EINVAL',
        `the gsi of a route is ${String(gsi)}, allowed are integers from 0 to ${MAX_GSI - 1}`,
      );
    }
    if (entries.length > this.#capacity) {
      throw new EvtchnError(
        'ENOMEM',
        `there is room for ${this.#capacity} routes, not for ${entries.length}; createVm({ routes }) sets how many`,
      );
    }
    const taken = new Map<number, IrqRoute[]>();
    for (const route of entries) {
      checkRoute(route);
      const others = taken.get(route.gsi) ?? [];
      for (const other of others) checkBeside(route, other);
      taken.set(route.gsi, [...others, route]);
    }
  }

  #fill(table: number, entries: readonly IrqRoute[]): void {
    const { words } = this.#vm.region;
    const copy = this.#copy(table);
    words.store(copy + ROUTE_COUNT, entries.length);
    entries.forEach((route, i) => {
      const at = copy + ROUTE_FIRST + i * ROUTE_SIZE;
      storeRoute(route, (offset, value) => words.store(at + offset, value));
    });
  }

  /** In a bracket. */
  #routesOf(gsi: number): readonly IrqRoute[] {
    const table = this.#table();
    if (table !== this.#seen) {
      const byGsi = new Map<number, IrqRoute[]>();
      for (const route of this.#load(table)) byGsi.set(route.gsi, [...(byGsi.get(route.gsi) ?? []), route]);
      this.#byGsi = byGsi;
      this.#seen = table;
    }
    return this.#byGsi.get(gsi) ?? [];
  }

  #load(table: number): IrqRoute[] {
    const { words } = this.#vm.region;
    const copy = this.#copy(table);
    return Array.from({ length: words.load(copy + ROUTE_COUNT) }, (_, i) => {
      const at = copy + ROUTE_FIRST + i * ROUTE_SIZE;
      return loadRoute((offset) => words.load(at + offset) >>> 0);
    });
  }

  #table(): number {
    const { words, base } = this.#vm.region;
    return words.load(base + REGION_ROUTE_TABLE);
  }

  #copy(table: number): number {
    return this.#tables + (table & 1) * routeCopy(this.#capacity);
  }
}

/** A gsi has one route, or pins of different chips. [KX-RTE-03] */
function checkBeside(route: IrqRoute, other: IrqRoute): void {
  if (route.type === 'irqchip' && other.type === 'irqchip' && route.irqchip !== other.irqchip) return;
  throw new EvtchnError(
    'EINVAL',
    `gsi ${route.gsi} has two routes, ${other.type} and ${route.type}: only pins of different chips may share one`,
  );
}
