// What a domain needs around it so that Linux finds a Xen host: XenStore, a console, a grant table, a disk. All of it stands on
// the engine's host end points; none of it touches an event channel otherwise.

import type { V86Processor } from '../../src/v86/index.ts';
import type { Domain, HostChannel } from '../../src/xen/index.ts';
import type { BlockCounts } from './block.ts';
import { Console } from './console.ts';
import { Disk } from './disk.ts';
import { GrantTable } from './grants.ts';
import { GuestRam, PAGE } from './guest_ram.ts';
import { PlatformDevice } from './platform_device.ts';
import type { Store } from './store.ts';
import { StoreRing } from './store_ring.ts';

/** Frames of the grant table: 64 pages of 512 entries. */
const GRANT_FRAMES = 64;
/** SeaBIOS reserves the last 16 MB of RAM; the shared pages lie in the middle. */
const SPECIAL_PAGES = 8 << 20;

/** HVM parameters. [XE-CB-08] */
const HVM_PARAM_STORE_PFN = 1;
const HVM_PARAM_STORE_EVTCHN = 2;
const HVM_PARAM_CONSOLE_PFN = 17;
const HVM_PARAM_CONSOLE_EVTCHN = 18;

export interface ToolStackParts {
  readonly domain: Domain;
  readonly cpu: V86Processor;
  readonly store: Store;
  readonly print: (text: string) => void;
  readonly disk: Uint8Array | null;
  /** What a guest was saved with; null: it boots. */
  readonly saved: ToolStackState | null;
}

/** The tool stack's part of a saved guest; JSON. */
export interface ToolStackState {
  readonly store: readonly (readonly [string, string])[];
  readonly watches: readonly (readonly [string, string])[];
  /** grant table, base64 */
  readonly grants: string;
  readonly placed: readonly (readonly [number, number])[];
  readonly diskConsumed: number | null;
}

/** The tool stack of one guest. */
export class ToolStack {
  readonly ram: GuestRam;
  readonly console: Console;
  readonly grants: GrantTable;
  readonly #store: Store;
  readonly #storeRing: StoreRing;
  readonly platform: PlatformDevice;
  readonly #disk: Disk | null;
  readonly #domain: Domain;

  constructor({ domain, cpu, store, print, disk, saved }: ToolStackParts) {
    this.#domain = domain;
    this.#store = store;
    this.ram = new GuestRam(domain.vm, cpu);
    this.grants = new GrantTable(this.ram, GRANT_FRAMES);
    this.platform = new PlatformDevice(cpu, this.grants);
    if (saved === null) this.#describe();
    else this.#restore(saved);
    const storePage = domain.vm.guestBytes - SPECIAL_PAGES;
    const consolePage = storePage + PAGE;
    this.#storeRing = new StoreRing(store, this.ram, storePage, domain.domid, saved !== null);
    for (const [path, token] of saved?.watches ?? []) this.#storeRing.restoreWatch(path, token);
    this.console = new Console(this.ram, consolePage, print, saved !== null);
    this.#storeRing.channel = this.#offer(HVM_PARAM_STORE_PFN, storePage, HVM_PARAM_STORE_EVTCHN, () =>
      this.#storeRing.serve(),
    );
    this.console.channel = this.#offer(HVM_PARAM_CONSOLE_PFN, consolePage, HVM_PARAM_CONSOLE_EVTCHN, () =>
      this.console.serve(),
    );
    this.#disk =
      disk === null
        ? null
        : new Disk({
            domain,
            store,
            ram: this.ram,
            grants: this.grants,
            bytes: disk,
            consumed: saved?.diskConsumed ?? null,
          });
  }

  get storeRequests(): number {
    return this.#storeRing.requests;
  }

  get diskCounts(): BlockCounts | null {
    return this.#disk?.counts ?? null;
  }

  /** Asks the guest to power off, as `xl shutdown` does. */
  shutDown(): void {
    this.#store.write(`/local/domain/${this.#domain.domid}/control/shutdown`, 'poweroff');
  }

  state(): ToolStackState {
    return {
      store: this.#store.entries(),
      watches: this.#storeRing.watches,
      grants: Buffer.from(this.grants.bytes).toString('base64'),
      placed: this.platform.placed,
      diskConsumed: this.#disk?.consumed ?? null,
    };
  }

  /** A page and a port of the host's, which a guest finds by two of its parameters. */
  #offer(pfnParam: number, page: number, portParam: number, serve: () => void): HostChannel {
    const { xen, domid, hvm } = this.#domain;
    const port = Number(hvm.getParam(portParam));
    // A guest that was saved has them.
    if (port !== 0) return xen.host.bind(domid, port, serve);
    const channel = xen.host.bindUnbound(domid, serve);
    hvm.setParam(portParam, BigInt(channel.port));
    hvm.setParam(pfnParam, BigInt(page / PAGE));
    return channel;
  }

  /** What Linux looks for in XenStore. */
  #describe(): void {
    const home = `/local/domain/${this.#domain.domid}`;
    const keys = {
      name: `guest${this.#domain.domid}`,
      domid: this.#domain.domid,
      'control/platform-feature-xs_reset_watches': 1,
      'control/platform-feature-multiprocessor-suspend': 1,
      'control/shutdown': '',
      device: '',
      data: '',
    };
    for (const [key, value] of Object.entries(keys)) this.#store.write(`${home}/${key}`, String(value));
  }

  #restore({ store, grants, placed }: ToolStackState): void {
    for (const [path, value] of store) this.#store.write(path, value);
    this.grants.bytes.set(Buffer.from(grants, 'base64'));
    for (const [gfn, index] of placed) this.platform.place(index, gfn);
  }
}
