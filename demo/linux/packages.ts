// The guest's software: Debian's 32-bit kernel, busybox and SeaBIOS, fetched with apt from the machine's own sources into
// build/linux, without touching the system. Licences: GPL-2 and LGPL-3, so none of it is in the repository or the package.

import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

/** Files that a guest is made of. */
export interface GuestFiles {
  readonly kernel: string;
  readonly bios: string;
  readonly vgaBios: string;
  readonly busybox: string;
  /** where the kernel's modules lie, by name */
  readonly modules: string;
  /** names and versions of the packages */
  readonly packages: readonly string[];
}

/** In the order in which they have to be loaded. */
export const EVENT_MODULES: readonly string[] = ['xen-evtchn'];
export const DISK_MODULES: readonly string[] = ['xen-blkfront', 'crc16', 'crc32c_generic', 'mbcache', 'jbd2', 'ext4'];

/** The package that depends on the newest kernel of its kind; Debian 12 is the last release that has it. */
const KERNEL_PACKAGE = 'linux-image-686-pae';
const OTHER_PACKAGES = ['busybox-static', 'seabios'] as const;

/** What can be done without apt. */
const OTHERWISE =
  'the guest needs a Debian system with apt-get and a network, or files of your own: --kernel, --initrd and --bios';

/** Why the guest's software is not there. */
export class NoPackages extends Error {
  override readonly name = 'NoPackages';
}

/**
 * The files, fetched into `cache` unless they are there. Throws NoPackages, with one sentence, when they cannot be.
 */
export function fetchPackages(cache: string, log: (line: string) => void): GuestFiles {
  const folder = join(cache, 'guest');
  const list = join(folder, 'packages.json');
  if (!existsSync(list)) {
    log(`fetching ${KERNEL_PACKAGE}, ${OTHER_PACKAGES.join(' and ')} into ${folder} (some 55 MB, once)`);
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true });
    const packages = new Apt(resolve(folder, 'apt')).fetch(resolve(folder));
    rmSync(join(folder, 'apt'), { recursive: true, force: true });
    writeFileSync(list, JSON.stringify(packages, null, 2));
  }
  return {
    kernel: join(folder, 'vmlinuz'),
    bios: join(folder, 'bios.bin'),
    vgaBios: join(folder, 'vgabios-stdvga.bin'),
    busybox: join(folder, 'busybox'),
    modules: join(folder, 'modules'),
    packages: JSON.parse(readFileSync(list, 'utf8')),
  };
}

/** apt with lists and caches of its own, that takes the machine for a bare i386 one. */
class Apt {
  readonly #folder: string;
  readonly #options: readonly string[];

  constructor(folder: string) {
    this.#folder = folder;
    for (const part of ['state/lists/partial', 'cache/archives/partial', 'packages']) {
      mkdirSync(join(folder, part), { recursive: true });
    }
    writeFileSync(join(folder, 'status'), '');
    const settings = {
      'APT::Architecture': 'i386',
      'APT::Architectures::': 'i386',
      'APT::Sandbox::User': 'root',
      'Dir::State': join(folder, 'state'),
      'Dir::State::lists': join(folder, 'state/lists'),
      'Dir::State::status': join(folder, 'status'),
      'Dir::Cache': join(folder, 'cache'),
      'Acquire::Retries': '3',
    };
    this.#options = Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
  }

  /** Puts the files into `target`. @returns the packages with their versions */
  fetch(target: string): string[] {
    this.#run('apt-get', ['update', '-qq'], true);
    const kernel = this.#kernelPackage();
    const names = [kernel, ...OTHER_PACKAGES];
    this.#run('apt-get', ['download', '-qq', ...names]);
    const unpacked = join(this.#folder, 'unpacked');
    const archives = readdirSync(join(this.#folder, 'packages')).filter((name) => name.endsWith('.deb'));
    for (const archive of archives) this.#run('dpkg', ['-x', join(this.#folder, 'packages', archive), unpacked]);
    const version = kernel.replace(/^linux-image-/, '');
    const take = (from: string, to: string): void => copyFileSync(join(unpacked, from), join(target, to));
    take(`boot/vmlinuz-${version}`, 'vmlinuz');
    take('bin/busybox', 'busybox');
    take('usr/share/seabios/bios.bin', 'bios.bin');
    take('usr/share/seabios/vgabios-stdvga.bin', 'vgabios-stdvga.bin');
    this.#takeModules(join(unpacked, 'lib/modules', version, 'kernel'), join(target, 'modules'));
    return archives.map((name) => decodeURIComponent(name.replace(/_[^_]*\.deb$/, '').replace('_', ' ')));
  }

  #kernelPackage(): string {
    const found = this.#run('apt-cache', ['depends', KERNEL_PACKAGE], true).match(/Depends: (linux-image-\S+)/)?.[1];
    if (found) return found;
    throw new NoPackages(`this system's package sources have no ${KERNEL_PACKAGE}, which Debian 12 has; ${OTHERWISE}`);
  }

  #takeModules(from: string, to: string): void {
    mkdirSync(to, { recursive: true });
    const wanted = new Set([...EVENT_MODULES, ...DISK_MODULES].map((name) => `${name}.ko`));
    for (const path of readdirSync(from, { recursive: true, encoding: 'utf8' })) {
      const name = path.slice(path.lastIndexOf('/') + 1);
      if (!wanted.delete(name)) continue;
      copyFileSync(join(from, path), join(to, name));
    }
    if (wanted.size > 0) throw new NoPackages(`the kernel package lacks ${[...wanted].join(', ')}; ${OTHERWISE}`);
  }

  /** `lenient`: an update may complain about one index and still have what is needed. */
  #run(command: string, args: readonly string[], lenient = false): string {
    const all = command === 'dpkg' ? args : [...this.#options, ...args];
    try {
      return execFileSync(command, all, {
        cwd: join(this.#folder, 'packages'),
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'pipe'],
        env: { ...process.env, LC_ALL: 'C' },
      });
    } catch (error) {
      const { code, stdout, stderr } = error as { code?: string; stdout?: string; stderr?: string };
      if (lenient && code !== 'ENOENT') return String(stdout ?? '');
      const why =
        code === 'ENOENT'
          ? `there is no ${command}`
          : String(stderr ?? error)
              .trim()
              .split('\n')
              .at(-1);
      throw new NoPackages(`the guest's software could not be fetched (${why}); ${OTHERWISE}`);
    }
  }
}
