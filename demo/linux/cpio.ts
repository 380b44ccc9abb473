// A cpio archive of the kind that Linux unpacks as its first root file system ("newc").

/** What goes into an archive. */
export type Entry =
  | { readonly path: string; readonly kind: 'folder' }
  | { readonly path: string; readonly kind: 'file'; readonly bytes: Uint8Array; readonly executable?: boolean }
  | { readonly path: string; readonly kind: 'device'; readonly major: number; readonly minor: number };

const MAGIC = '070701';
const TRAILER = 'TRAILER!!!';
const FOLDER = 0o040755;
const FILE = 0o100644;
const PROGRAM = 0o100755;
const CHARACTER_DEVICE = 0o020600;

/** The archive's bytes. Folders come before what is in them. */
export function cpio(entries: readonly Entry[]): Uint8Array<ArrayBuffer> {
  const parts: Uint8Array[] = [];
  for (const [i, entry] of entries.entries()) parts.push(...record(i + 1, entry));
  parts.push(...record(0, { path: TRAILER, kind: 'file', bytes: new Uint8Array(0) }, 0));
  return new Uint8Array(Buffer.concat(parts));
}

function record(inode: number, entry: Entry, mode = modeOf(entry)): Uint8Array[] {
  const name = Buffer.from(`${entry.path}\0`);
  const bytes = entry.kind === 'file' ? entry.bytes : new Uint8Array(0);
  const [major, minor] = entry.kind === 'device' ? [entry.major, entry.minor] : [0, 0];
  //               inode  mode  uid gid links mtime size          device major minor, and of the node, name's size    checksum
  const fields = [inode, mode, 0, 0, 1, 0, bytes.length, 0, 0, major, minor, name.length, 0];
  const header = MAGIC + fields.map((field) => field.toString(16).padStart(8, '0')).join('');
  return [padded(Buffer.concat([Buffer.from(header), name])), padded(bytes)];
}

function modeOf(entry: Entry): number {
  if (entry.kind === 'folder') return FOLDER;
  if (entry.kind === 'device') return CHARACTER_DEVICE;
  return entry.executable ? PROGRAM : FILE;
}

function padded(bytes: Uint8Array): Uint8Array {
  const whole = new Uint8Array((bytes.length + 3) & -4);
  whole.set(bytes);
  return whole;
}
