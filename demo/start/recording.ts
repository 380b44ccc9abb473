// The recorded run: all that crossed the border between a Linux guest and its host, one record a line.

import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';

/** A port as the header describes it. */
export interface RecordedPort {
  readonly port: number;
  /** 'interdomain', 'virq', 'ipi', 'reserved' */
  readonly t: string;
  readonly name?: string;
  readonly virq?: number;
}

/** The guest called the host; structures it passed are hexadecimal, in the 32-bit layout. */
export interface HypercallRecord {
  readonly k: 'hc';
  /** when, ns on the guest's clock */
  readonly t?: number;
  readonly op: string;
  /** number of the hypercall, and the registers of its first parameters */
  readonly nr: number;
  readonly regs: readonly [number, number, number];
  readonly in?: string;
  readonly out?: string;
  readonly ret: number;
}

/** The host raised a port: for a virtual interrupt, or because the other end of the channel rang. */
export interface RaiseRecord {
  readonly k: 'virq' | 'remote';
  readonly t?: number;
  readonly port: number;
}

/** The guest's handler was invoked. */
export interface UpcallRecord {
  readonly k: 'upcall';
  readonly t?: number;
  readonly vector: number;
}

export type TraceRecord = HypercallRecord | RaiseRecord | UpcallRecord;

export interface Recording {
  /** the guest's kernel package */
  readonly guest: string;
  readonly ports: readonly RecordedPort[];
  readonly records: readonly TraceRecord[];
}

const NAME = 'linux-boot-2l.jsonl.gz';
const FORMAT = 'evtchn-trace/1';

/** Beside this file, or beside its source when this is the built one in dist/. */
function fixture(): string {
  const places = [NAME, `../../../demo/start/${NAME}`].map((path) => fileURLToPath(new URL(path, import.meta.url)));
  const found = places.find((path) => existsSync(path));
  if (found === undefined) throw new Error(`the recording ${NAME} is not there; looked at ${places.join(' and ')}`);
  return found;
}

/** Reads the recording that comes with the project. Throws when it is missing or of another format. */
export function readRecording(): Recording {
  const [header, ...records] = gunzipSync(readFileSync(fixture())).toString('utf8').trimEnd().split('\n');
  const { format, guest, ports } = JSON.parse(header ?? '{}');
  if (format !== FORMAT) throw new Error(`the recording is of format ${String(format)}, this program reads ${FORMAT}`);
  return { guest, ports, records: records.map((line) => JSON.parse(line)) };
}

/** The little-endian fields of a recorded structure, one after another, by their widths in bytes. */
export function fields(hex: string | undefined, ...widths: readonly number[]): number[] {
  const bytes = Buffer.from(hex ?? '', 'hex');
  let at = 0;
  return widths.map((width) => {
    if (at + width > bytes.length) throw new Error(`a recorded structure has ${bytes.length} bytes, expected are more`);
    let value = 0;
    for (let i = width - 1; i >= 0; i--) value = value * 256 + (bytes[at + i] ?? 0);
    at += width;
    return value;
  });
}
