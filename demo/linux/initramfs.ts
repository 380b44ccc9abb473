// The guest's root file system: busybox, the modules, our program, and an init that runs what the host sends it, line by line.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { cpio, type Entry } from './cpio.ts';
import { DISK_MODULES, EVENT_MODULES, type GuestFiles } from './packages.ts';
import { channelsProgram } from './program.ts';

/** What init prints when it waits for a command, and behind each: the command's status. */
export const READY = '#ready';
export const DONE = '#done';

/**
 * Commands come over the console: hvc0, Xen's, or without Xen the serial line. Both are opened by name, for the kernel's own
 * console is the serial line in any case.
 */
const INIT = `#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
case "$(cat /proc/cmdline)" in
  *xen_nopv*) console=ttyS0 ;;
  *) console=hvc0 ;;
esac
exec setsid sh -c 'exec </dev/$1 >/dev/$1 2>&1; exec sh /commands' sh $console
`;

const COMMANDS = `stty -echo
for module in ${EVENT_MODULES.join(' ')}; do insmod /modules/$module.ko; done
echo '${READY}'
while read -r line; do
  eval "$line"
  echo "${DONE} $?"
done
`;

/** The archive, as `initrd`. */
export function initramfs(files: GuestFiles, disk: boolean): Uint8Array<ArrayBuffer> {
  const text = (path: string, content: string): Entry => ({
    path,
    kind: 'file',
    bytes: Buffer.from(content),
    executable: true,
  });
  const modules = disk ? [...EVENT_MODULES, ...DISK_MODULES] : EVENT_MODULES;
  return cpio([
    ...['bin', 'sbin', 'dev', 'proc', 'sys', 'modules', 'mnt'].map((path): Entry => ({ path, kind: 'folder' })),
    // Before devtmpfs is mounted, init's own.
    { path: 'dev/console', kind: 'device', major: 5, minor: 1 },
    { path: 'bin/busybox', kind: 'file', bytes: readFileSync(files.busybox), executable: true },
    { path: 'bin/channels', kind: 'file', bytes: channelsProgram(), executable: true },
    ...modules.map(
      (name): Entry => ({
        path: `modules/${name}.ko`,
        kind: 'file',
        bytes: readFileSync(join(files.modules, `${name}.ko`)),
      }),
    ),
    text('init', INIT),
    // What the kernel starts when the host asks for power-off.
    text('sbin/poweroff', '#!/bin/busybox sh\nexec /bin/busybox poweroff -f\n'),
    text('commands', COMMANDS),
  ]);
}
