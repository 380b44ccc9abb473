// A saved machine as bytes: v86's state and the domain's, one behind the other.
//
//   magic u32 | version u32 | bytes of v86's state u32 | bytes of the domain's u32 | v86's state | the domain's

import { EvtchnError } from '../errors.ts';

/** "v86X" */
const MAGIC = 0x58363876;
const VERSION = 1;
const HEADER = 16;

/** @internal */
export function packState(machine: Uint8Array, domain: Uint8Array): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(HEADER + machine.length + domain.length);
  const header = new DataView(bytes.buffer);
  for (const [i, field] of [MAGIC, VERSION, machine.length, domain.length].entries()) {
    header.setUint32(4 * i, field, true);
  }
  bytes.set(machine, HEADER);
  bytes.set(domain, HEADER + machine.length);
  return bytes;
}

/** Views of the two parts. Throws EINVAL for bytes that are no saved machine, cut off, or of another version. @internal */
export function unpackState(bytes: Uint8Array): { readonly machine: Uint8Array; readonly domain: Uint8Array } {
  if (bytes.length < HEADER) throw new EvtchnError('EINVAL', `a saved machine has more than ${bytes.length} bytes`);
  const header = new DataView(bytes.buffer, bytes.byteOffset, HEADER);
  const [magic, version, machine, domain] = [0, 4, 8, 12].map((at) => header.getUint32(at, true)) as [
    number,
    number,
    number,
    number,
  ];
  if (magic !== MAGIC) throw new EvtchnError('EINVAL', 'these bytes are no saved machine');
  if (version !== VERSION) {
    throw new EvtchnError('EINVAL', `the machine was saved in version ${version}, this one reads ${VERSION}`);
  }
  if (bytes.length !== HEADER + machine + domain) {
    throw new EvtchnError(
      'EINVAL',
      `the saved machine should have ${HEADER + machine + domain} bytes, not ${bytes.length}`,
    );
  }
  const end = HEADER + machine;
  return { machine: bytes.subarray(HEADER, end), domain: bytes.subarray(end) };
}
