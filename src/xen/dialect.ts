// Where Xen and QEMU answer a guest differently: one table, so that there is no silent third behaviour.

import { EBUSY, EEXIST, EINVAL, ENOENT } from '../abi/errno.ts';

/** Whose behaviour a domain shows. */
export type DialectName = 'xen' | 'qemu';

/** One column of the table. @internal */
export interface Dialect {
  readonly name: DialectName;
  /** bind_interdomain sets the local port pending [XE-OP-22] */
  readonly pendingOnBind: boolean;
  /** bind_vcpu raises a pending port on the new vCPU [XE-OP-91] */
  readonly raiseOnMove: boolean;
  /** only the handler binds a global VIRQ [XE-MOD-22] */
  readonly virqHandlers: boolean;
  /** bind_virq finds out that it is bound after it has allocated a port: a full table answers first [XE-OP-30, XE-TC-03] */
  readonly virqAllocatesFirst: boolean;
  /** what bind_pirq answers for a PIRQ that is bound [XE-OP-50] */
  readonly pirqBound: number;
  /** what close answers for a free port [XE-OP-60] */
  readonly closeFree: number;
  /** what unmask answers for a free port [XE-OP-100] */
  readonly unmaskFree: number;
  /** there is the host and the domain itself, no other; and nobody acts on another [XE-QE-01] */
  readonly twoDomains: boolean;
  /** bind_interdomain looks at the range of the remote port before it allocates [XE-OP-20] */
  readonly remoteRangeFirst: boolean;
  /** every port below the ABI's limit has a descriptor, from the start [XE-MOD-13, XE-QE-02] */
  readonly wholeTable: boolean;
  /** what send answers when the code at the host's end is gone [XE-OP-70] */
  readonly hostGone: number;
  /** there is a FIFO ABI [XE-OP-127] */
  readonly fifo: boolean;
  /** reset has no states in between [XE-OP-110] */
  readonly resetAtOnce: boolean;
}

/** @internal */
export const DIALECTS: Readonly<Record<DialectName, Dialect>> = {
  xen: {
    name: 'xen',
    pendingOnBind: true,
    raiseOnMove: false,
    virqHandlers: true,
    virqAllocatesFirst: false,
    pirqBound: -EEXIST,
    closeFree: -EINVAL,
    unmaskFree: 0,
    twoDomains: false,
    remoteRangeFirst: false,
    wholeTable: false,
    hostGone: 0,
    fifo: true,
    resetAtOnce: false,
  },
  qemu: {
    name: 'qemu',
    pendingOnBind: false,
    raiseOnMove: true,
    virqHandlers: false,
    virqAllocatesFirst: true,
    pirqBound: -EBUSY,
    closeFree: -ENOENT,
    unmaskFree: -EINVAL,
    twoDomains: true,
    remoteRangeFirst: true,
    wholeTable: true,
    hostGone: -ENOENT,
    fifo: false,
    resetAtOnce: true,
  },
};
