// console_io: the hypervisor's own console, which a guest has only where the embedder gives it one.

import { EFAULT, EPERM } from '../../abi/errno.ts';
import { CONSOLEIO_READ, CONSOLEIO_WRITE } from '../../abi/xen_hypercall.ts';
import { type Call, commands, copyIn, copyOut, type Handler, uint } from './call.ts';

/** A write is taken in pieces of so many bytes, and a read gives no more at once. */
const PIECE = 128;
/** No write is longer: what is behind is left out, so that no call takes for ever. */
const LONGEST = 65536;

/** @internal */
export const consoleIo: Handler = commands({ [CONSOLEIO_WRITE]: write, [CONSOLEIO_READ]: read });

function write(call: Call): number {
  const { onConsole } = call.domain.hvm.hooks;
  if (!onConsole) return -EPERM;
  const length = Math.min(uint(call.params[1]), LONGEST);
  for (let at = 0; at < length; at += PIECE) {
    const bytes = copyIn(call, call.params[2] + BigInt(at), Math.min(PIECE, length - at));
    if (bytes === null) return -EFAULT;
    onConsole(new Uint8Array(bytes.buffer));
  }
  return 0;
}

/** @returns how many bytes there were */
function read(call: Call): number {
  const { onConsoleRead } = call.domain.hvm.hooks;
  if (!onConsoleRead) return -EPERM;
  const room = Math.min(uint(call.params[1]), PIECE);
  const bytes = onConsoleRead(room).subarray(0, room);
  return copyOut(call, call.params[2], bytes) || bytes.length;
}
