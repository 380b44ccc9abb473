// What a guest is told about the Xen it runs on: versions, strings, features.

import {
  CAPABILITIES_SIZE,
  CHANGESET_SIZE,
  COMPILE_INFO_BY,
  COMPILE_INFO_COMPILER,
  COMPILE_INFO_DATE,
  COMPILE_INFO_DOMAIN,
  COMPILE_INFO_SIZE,
  EXTRAVERSION_SIZE,
  GUEST_HANDLE_SIZE,
  XENFEAT_AUTO_TRANSLATED_PHYSMAP,
  XENFEAT_HVM_CALLBACK_VECTOR,
  XENFEAT_HVM_PIRQS,
  XENFEAT_HVM_SAFE_PVCLOCK,
  XENFEAT_WRITABLE_PAGE_TABLES,
} from '../abi/xen_hypercall.ts';
import { checkRange, EvtchnError } from '../errors.ts';

/** What may be said; what is left out is as the default says. Strings are ASCII and cut to the room that the interface has. */
export interface IdentityOptions {
  /** 4.17 by default; 0..65535 each */
  readonly major?: number;
  readonly minor?: number;
  /** '.0' by default */
  readonly extraVersion?: string;
  readonly compiler?: string;
  readonly compiledBy?: string;
  readonly compileDomain?: string;
  readonly compileDate?: string;
  readonly capabilities?: string;
  readonly changeset?: string;
  /** the domain's UUID, 16 bytes; zeros by default */
  readonly handle?: Uint8Array;
  /**
   * XENFEAT_ bits of submap 0. By default those that Linux needs: writable page tables, translated memory, callback vectors and a safe
   * pvclock (0x305); and PIRQs where the domain has some.
   */
  readonly features?: number;
}

/** @internal */
export class Identity {
  readonly major: number;
  readonly minor: number;
  readonly features: number;
  readonly extraVersion: Uint8Array;
  readonly compileInfo: Uint8Array;
  readonly capabilities: Uint8Array;
  readonly changeset: Uint8Array;
  readonly handle: Uint8Array;

  /** `pirqs`: the domain has PIRQs. Throws EINVAL for a value out of range. */
  constructor(options: IdentityOptions, pirqs: boolean) {
    const { major = 4, minor = 17, handle = new Uint8Array(GUEST_HANDLE_SIZE) } = options;
    checkRange('the major version', major, 0, 0xffff);
    checkRange('the minor version', minor, 0, 0xffff);
    if (handle.length !== GUEST_HANDLE_SIZE) {
      throw new EvtchnError(
        'EINVAL',
        `the handle of a domain has ${handle.length} bytes, it needs ${GUEST_HANDLE_SIZE}`,
      );
    }
    const features = options.features ?? FEATURES | (pirqs ? XENFEAT_HVM_PIRQS : 0);
    checkRange('the features', features, 0, 2 ** 32 - 1);
    this.major = major;
    this.minor = minor;
    this.features = features;
    this.handle = handle.slice();
    this.extraVersion = text(options.extraVersion ?? '.0', EXTRAVERSION_SIZE);
    this.capabilities = text(options.capabilities ?? CAPABILITIES, CAPABILITIES_SIZE);
    this.changeset = text(options.changeset ?? 'unavailable', CHANGESET_SIZE);
    this.compileInfo = new Uint8Array(COMPILE_INFO_SIZE);
    const set = (value: string | undefined, at: number, end: number): void => {
      this.compileInfo.set(text(value ?? '', end - at), at);
    };
    set(options.compiler, COMPILE_INFO_COMPILER, COMPILE_INFO_BY);
    set(options.compiledBy, COMPILE_INFO_BY, COMPILE_INFO_DOMAIN);
    set(options.compileDomain, COMPILE_INFO_DOMAIN, COMPILE_INFO_DATE);
    set(options.compileDate, COMPILE_INFO_DATE, COMPILE_INFO_SIZE);
  }
}

const FEATURES =
  XENFEAT_WRITABLE_PAGE_TABLES |
  XENFEAT_AUTO_TRANSLATED_PHYSMAP |
  XENFEAT_HVM_CALLBACK_VECTOR |
  XENFEAT_HVM_SAFE_PVCLOCK;

/** Interfaces that guests of this kind may use. */
const CAPABILITIES = 'hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 ';

/** A string that ends with a zero, in a field of `size` bytes. */
function text(value: string, size: number): Uint8Array {
  const field = new Uint8Array(size);
  field.set(new TextEncoder().encode(value).subarray(0, size - 1));
  return field;
}
