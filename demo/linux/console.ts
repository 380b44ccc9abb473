// Xen's console, which Linux calls hvc0: two byte rings in a page. [XE-XS-11]

import type { HostChannel } from '../../src/xen/index.ts';
import { type GuestRam, PAGE } from './guest_ram.ts';
import { ByteRing } from './ring.ts';

const IN = { data: 0, bytes: 1024, consumer: 0xc00, producer: 0xc04 };
const OUT = { data: 0x400, bytes: 2048, consumer: 0xc08, producer: 0xc0c };

/** The host's end of a console. */
export class Console {
  readonly #in: ByteRing;
  readonly #out: ByteRing;
  readonly #print: (text: string) => void;
  #channel: HostChannel | null = null;
  #waiting = Buffer.alloc(0);

  /** `page` is the guest-physical address of the rings' page, which is zeroed unless it is in use. */
  constructor(ram: GuestRam, page: number, print: (text: string) => void, inUse: boolean) {
    if (!inUse) ram.zero(page, PAGE);
    this.#in = new ByteRing(ram, page, IN);
    this.#out = new ByteRing(ram, page, OUT);
    this.#print = print;
  }

  set channel(channel: HostChannel) {
    this.#channel = channel;
  }

  /** The guest has sent: it has printed, or has read what was typed. */
  serve(): void {
    const printed = this.#out.take();
    if (printed.length > 0) {
      this.#print(Buffer.from(printed).toString('latin1'));
      // It may wait for room.
      this.#channel?.notify();
    }
    this.#flush();
  }

  /** Types a text. */
  type(text: string): void {
    this.#waiting = Buffer.concat([this.#waiting, Buffer.from(text)]);
    this.#flush();
  }

  #flush(): void {
    const put = this.#in.put(this.#waiting);
    this.#waiting = this.#waiting.subarray(put);
    if (put > 0) this.#channel?.notify();
  }
}
