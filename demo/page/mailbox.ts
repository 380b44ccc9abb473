// Worker: receives the same load as messages, and gives credit back.

import { PORTS_LONG } from '../../src/abi/shared_info.ts';
import type { Announcement } from './comparison.ts';
import { CREDIT } from './comparison.ts';

const taken = new Int32Array(PORTS_LONG);
let expected = 0;
let received = 0;
let answered = 0;

function receive(ports: ArrayLike<number>): void {
  for (let i = 0; i < ports.length; i++) taken[ports[i] as number] = (taken[ports[i] as number] as number) + 1;
  received += ports.length;
}

addEventListener(
  'message',
  ({ data: port }: MessageEvent<MessagePort>) => {
    port.onmessage = ({ data }: MessageEvent<number | Uint32Array | Announcement>) => {
      if (typeof data === 'number') {
        taken[data] = (taken[data] as number) + 1;
        received++;
      } else if (data instanceof Uint32Array) {
        receive(data);
      } else {
        expected = data.events;
        received = 0;
        answered = 0;
      }
      if (received - answered >= CREDIT || (received === expected && answered < received)) {
        answered = received;
        port.postMessage(received);
      }
    };
  },
  { once: true },
);
