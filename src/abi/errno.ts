// Linux errno values, which Xen's guest ABI shares. The fast half returns them negated; the slow half names them.
// Source: shared numbering of Linux and Xen public headers ([spec kvm-xen 0.1]).

export const EPERM = 1;
export const ENOENT = 2;
export const ESRCH = 3;
export const EINTR = 4;
export const EIO = 5;
export const ENXIO = 6;
export const E2BIG = 7;
export const EBADF = 9;
/** The same number as EWOULDBLOCK: "not usable here, the half that may sleep has to try". */
export const EAGAIN = 11;
export const ENOMEM = 12;
export const EACCES = 13;
export const EFAULT = 14;
export const EBUSY = 16;
export const EEXIST = 17;
export const ENODEV = 19;
export const EINVAL = 22;
export const ENOTTY = 25;
export const ENOSPC = 28;
export const ERANGE = 34;
export const ENOSYS = 38;
export const ETIME = 62;
/** a long operation was interrupted: the caller continues it */
export const ERESTART = 85;
export const EOPNOTSUPP = 95;
export const ENOTCONN = 107;
