// Requirements that wait for a part of the engine that is not begun. A line goes when its part is built.

const PORTS = 'Xen’s port state machine, which allocates and closes ports, is not built yet.';
const FIFO = 'The FIFO ABI is not built yet.';

/** id: reason, a sentence. */
export const LATER: Readonly<Record<string, string>> = {
  'KF-21': PORTS,
  'KF-26': PORTS,
  'KF-38': PORTS,
  'KF-40': PORTS,
  'KF-42': PORTS,
  'KF-44': PORTS,
  'KF-46': PORTS,
  'KF-68': FIFO,
  'KF-69': FIFO,
  'KF-70': FIFO,
  'KF-71': FIFO,
  'KF-72': FIFO,
  'KF-73': FIFO,
  'KF-74': FIFO,
  'KF-75': FIFO,
};
