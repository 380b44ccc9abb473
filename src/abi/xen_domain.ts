// Domain ids: 16 bits; those from DOMID_FIRST_RESERVED up name no domain but a role. [XE-MOD-01]

export const DOMID_FIRST_RESERVED = 0x7ff0;
/** the caller itself */
export const DOMID_SELF = 0x7ff0;
export const DOMID_IO = 0x7ff1;
export const DOMID_XEN = 0x7ff2;
export const DOMID_COW = 0x7ff3;
export const DOMID_INVALID = 0x7ff4;
export const DOMID_ANY = 0x7ff5;
export const DOMID_IDLE = 0x7fff;
