// Attributes and the configuration, by objects.

import type { Chance } from '../chance.ts';
import { as, type Operations, who } from '../operation.ts';
import { big, type Value } from '../value.ts';
import { IDS, MSR } from '../world.ts';

const STATES = ['running', 'runnable', 'blocked', 'offline'];
const VM_TYPES = [
  'long_mode',
  'shared_info',
  'shared_info_hva',
  'upcall_vector',
  'evtchn',
  'xen_version',
  'runstate_update_flag',
];
const VCPU_TYPES = [
  'vcpu_info',
  'vcpu_info_hva',
  'vcpu_time_info',
  'runstate_addr',
  'runstate_current',
  'runstate_data',
  'runstate_adjust',
  'vcpu_id',
  'timer',
  'upcall_vector',
];
const NO_TYPES: readonly Value[] = ['', 'x', '__proto__', 'constructor', 'toString', null, 5];

/** What a send port leads to. */
export function target(chance: Chance, port: Value): Value {
  if (chance.once(40)) return chance.pick([null, 5, {}]);
  if (chance.once(3)) return { eventfd: chance.or(chance.pick([3, 3, 3, 4, 4, 5, 6, 0])) };
  const to = { port: chance.once(3) ? port : chance.port(), vcpu: chance.or(chance.pick([...IDS, 77])) };
  return chance.once(6) ? { ...to, priority: chance.or(-1) } : to;
}

function sendPort(chance: Chance): { readonly [key: string]: Value } {
  const port = chance.port();
  return { sendPort: port, channel: chance.or(chance.pick(['ipi', 'interdomain'])), target: target(chance, port) };
}

function evtchn(chance: Chance): Value {
  const action = chance.or(
    chance.pick(['assign', 'assign', 'assign', 'update', 'deassign', 'deassign', 'reset', 'set']),
  );
  if (action !== 'set') return { type: 'evtchn', action, ...sendPort(chance) };
  return { type: 'evtchn', action, ports: Array.from({ length: chance.int(5) }, () => sendPort(chance)) };
}

function vmAttr(chance: Chance): Value {
  const type = chance.pick(chance.once(30) ? NO_TYPES : VM_TYPES);
  switch (type) {
    case 'shared_info':
      return { type, gfn: chance.once(12) ? null : chance.gfn() };
    case 'shared_info_hva':
      return { type, hva: chance.once(12) ? null : chance.once(3) ? chance.hva() : chance.hostPage() };
    case 'upcall_vector':
      return { type, vector: chance.or(chance.pick([0, 1, 15, 16, 0x20, 255, 256])) };
    case 'xen_version':
      return { type, version: chance.u32() };
    case 'evtchn':
      return evtchn(chance);
    default:
      return { type, enabled: chance.flag() };
  }
}

/** Times of a runstate, which add up more often than not. */
function times(chance: Chance): { readonly [key: string]: Value } {
  const parts = STATES.map(() => BigInt(chance.int(1000)));
  const sum = parts.reduce((a, b) => a + b, 0n);
  const values: { [state: string]: Value } = {};
  STATES.forEach((state, i) => {
    values[state] = chance.once(20) ? chance.wide() : big(parts[i] as bigint);
  });
  return { entryTime: chance.once(8) ? chance.wide() : big(sum), times: values };
}

function timer(chance: Chance): Value {
  const priority = chance.once(6) ? { priority: chance.or(-1) } : {};
  return { type: 'timer', port: chance.once(5) ? 0 : chance.port(), expires: chance.soon(), ...priority };
}

function vcpuAttr(chance: Chance): Value {
  const type = chance.pick(chance.once(30) ? NO_TYPES : VCPU_TYPES);
  switch (type) {
    case 'vcpu_info_hva':
      return { type, hva: chance.once(8) ? null : chance.hva() };
    case 'runstate_current':
      return { type, state: chance.or(chance.pick(STATES)) };
    case 'runstate_data':
    case 'runstate_adjust':
      return { type, state: chance.once(6) ? null : chance.or(chance.pick(STATES)), ...times(chance) };
    case 'vcpu_id':
      return { type, id: chance.or(chance.pick([0, 1, 5, 1023, 1024])) };
    case 'timer':
      return timer(chance);
    case 'upcall_vector':
      return { type, vector: chance.or(chance.pick([0, 1, 15, 16, 0x51, 255, 256])) };
    default:
      return { type, gpa: chance.once(8) ? null : chance.gpa() };
  }
}

function config(chance: Chance): Value {
  const blobs = chance.once(3)
    ? {
        blobCompat: chance.hva(),
        blobLong: chance.hva(),
        blobPagesCompat: chance.index(256),
        blobPagesLong: chance.index(256),
      }
    : {};
  const msr = chance.or(chance.pick([0, MSR, MSR, MSR, 0x3fffffff, 0x4fffffff, 0x50000000]));
  return {
    msr,
    interceptHypercalls: !chance.once(4),
    evtchnSend: !chance.once(3),
    tscUnstable: chance.once(3),
    ...blobs,
  };
}

const typeOf = (args: readonly Value[]): string => {
  const attr = args[args.length - 1];
  const { type, action } = (typeof attr === 'object' && attr !== null ? attr : { type: attr }) as {
    type?: Value;
    action?: Value;
  };
  return typeof action === 'string' ? `${String(type)}.${action}` : String(type);
};

export const ATTRIBUTES: Operations = {
  setVm: {
    weight: 20,
    args: (c) => [who(c), vmAttr(c)],
    run: (w, [v, attr]) => w.view(v).setAttr(as(attr)),
    tag: typeOf,
  },
  setPort: {
    weight: 16,
    args: (c) => [who(c), evtchn(c)],
    run: (w, [v, attr]) => w.view(v).setAttr(as(attr)),
    tag: typeOf,
  },
  setTimer: {
    weight: 10,
    args: (c) => [who(c), c.int(2), timer(c)],
    run: (w, [v, i, attr]) => w.vcpu(v, i).setAttr(as(attr)),
  },
  getVm: {
    weight: 5,
    args: (c) => [who(c), c.pick(c.once(20) ? NO_TYPES : VM_TYPES)],
    run: (w, [v, type]) => w.view(v).getAttr(as<'long_mode'>(type)),
    tag: typeOf,
  },
  setVcpu: {
    weight: 24,
    args: (c) => [who(c), c.int(2), vcpuAttr(c)],
    run: (w, [v, i, attr]) => w.vcpu(v, i).setAttr(as(attr)),
    tag: typeOf,
  },
  getVcpu: {
    weight: 5,
    args: (c) => [who(c), c.int(2), c.pick(c.once(20) ? NO_TYPES : VCPU_TYPES)],
    run: (w, [v, i, type]) => w.vcpu(v, i).getAttr(as<'vcpu_id'>(type)),
    tag: typeOf,
  },
  setConfig: { weight: 4, args: (c) => [who(c), config(c)], run: (w, [v, value]) => w.view(v).setConfig(as(value)) },
  getConfig: { weight: 1, args: (c) => [who(c)], run: (w, [v]) => w.view(v).getConfig() },
  capabilities: { weight: 1, args: (c) => [who(c)], run: (w, [v]) => w.view(v).capabilities > 0 },
};
