// Sends, batches, drains, masks, sleeps and binds that meet each other.

import { gpa, type Vm } from '../../src/index.ts';
import { pendingBit, VCPU_INFO_GPA } from '../support.ts';
import { APART, MANY, MOST, NEIGHBOUR, once, PORT, PORTS, STRANGER, send } from './ports.ts';
import { type Actor, drain, type Scenario, sleeping, type World } from './world.ts';

const NEW_VCPU_INFO = VCPU_INFO_GPA + 2048;

/** Each of `ports` was handled at least once, after the last payload was written. */
function seen(ports: readonly number[], payload: number) {
  return (world: World): string | null => {
    for (const port of ports) if (!world.handled.includes(port)) return `port ${port} was lost`;
    return world.seen === payload ? null : `the last handler saw payload ${world.seen} instead of ${payload}`;
  };
}

/** The sender writes what the event is about, then sends, inside a bracket: no other barrier stands between. */
function publish(payload: number, port: number): Actor {
  return (world) => {
    world.a.enter();
    world.buffered = payload;
    send(world.a, port);
    world.a.leave();
  };
}

function masked(world: World): void {
  for (const port of PORTS) world.a.mask(port);
}

function wakes(sleeper: 'a' | 'b') {
  return (world: World): string | null => {
    if (world.asleep && (sleeper === 'a' || sleeping(world)))
      return 'sleeps although an event is pending: a lost wake-up';
    return once([PORT])(world);
  };
}

/** A vCPU that goes to sleep: announces, looks, sleeps. */
function sleep(world: World): void {
  const { a } = world;
  if (a.kernel.sleepBegin(a.vmBase, a.agent, 0) !== 0) return;
  a.kernel.sleepOn(a.vmBase, 0, 1e9);
  a.kernel.sleepEnd(a.vmBase, a.agent, 0);
}

/** The same inside a step of the sender: it stays asleep until somebody clears its flag. */
function fallAsleep(world: World): void {
  const { b } = world;
  world.asleep = b.kernel.sleepBegin(b.vmBase, b.agent, 0) === 0;
}
const vcpuInfo = (vm: Vm): number => vm.vcpu(0).line;

export const EVENTS: readonly Scenario[] = [
  // ── KX-EVT-66: the sender's order against the receiver's ────────────────────────────────────────────────────────
  { name: 'KX-EVT-66 send, a drain inside', a: (w) => send(w.a, PORT), b: (w) => drain(w, w.b), judge: once([PORT]) },
  { name: 'KX-EVT-66 drain, a send inside', a: (w) => drain(w, w.a), b: (w) => send(w.b, PORT), judge: once([PORT]) },
  {
    name: 'KX-EVT-66 drain of one port, a send of its neighbour inside',
    setup: (w) => send(w.a, PORT),
    a: (w) => drain(w, w.a),
    b: (w) => send(w.b, NEIGHBOUR),
    judge: once([PORT, NEIGHBOUR]),
  },
  {
    name: 'KX-EVT-66 drain, a drain by another agent inside',
    setup: (w) => w.a.sendMany(PORTS),
    a: (w) => drain(w, w.a),
    b: (w) => drain(w, w.b),
    judge: once(PORTS),
  },
  {
    name: 'KX-EVT-17 send, a send of its neighbour inside',
    a: (w) => send(w.a, PORT),
    b: (w) => send(w.b, NEIGHBOUR),
    judge: once([PORT, NEIGHBOUR]),
  },
  {
    name: 'KX-EVT-13 send, a send of the same port and a drain inside',
    a: (w) => send(w.a, PORT),
    b: (w) => {
      send(w.b, PORT);
      drain(w, w.b);
    },
    judge: (w) =>
      w.handled.length >= 1 && w.handled.length <= 2 && !pendingBit(w.b, PORT) ? null : 'lost or invented',
  },
  // ── KX-EVT-65: the barrier between what the caller wrote and the test ───────────────────────────────────────────
  {
    name: 'KX-EVT-65 send of a pending port, a drain inside: the handler sees the last payload',
    setup: (w) => {
      w.payload = 1;
      send(w.a, PORT);
    },
    a: publish(2, PORT),
    b: (w) => drain(w, w.b),
    judge: seen([PORT], 2),
  },
  {
    name: 'KX-EVT-65 batch of pending ports, a drain inside: the handler sees the last payload',
    setup: (w) => {
      w.payload = 1;
      w.a.sendMany(PORTS);
    },
    a: (w) => {
      w.a.enter();
      w.buffered = 2;
      w.a.sendMany(PORTS);
      w.a.leave();
    },
    b: (w) => drain(w, w.b),
    judge: seen(PORTS, 2),
  },
  // ── unmask ──────────────────────────────────────────────────────────────────────────────────────────────────────
  {
    name: 'KX-EVT-65 send of a masked port, its unmask inside',
    setup: masked,
    a: (w) => send(w.a, PORT),
    b: (w) => w.b.unmask(PORT),
    judge: once([PORT]),
  },
  {
    name: 'KF-23 unmask, a send inside',
    setup: masked,
    a: (w) => w.a.unmask(PORT),
    b: (w) => send(w.b, PORT),
    judge: once([PORT]),
  },
  {
    name: 'KF-23 unmask of a pending port, a drain inside',
    setup: (w) => {
      masked(w);
      send(w.a, PORT);
    },
    a: (w) => w.a.unmask(PORT),
    b: (w) => drain(w, w.b),
    judge: once([PORT]),
  },
  {
    name: 'KF-23 drain, an unmask of a pending port inside',
    setup: (w) => {
      w.a.mask(PORT);
      w.a.sendMany([PORT, NEIGHBOUR]);
    },
    a: (w) => drain(w, w.a),
    b: (w) => w.b.unmask(PORT),
    judge: once([PORT, NEIGHBOUR]),
  },
  {
    name: 'KX-EVT-65 batch of masked ports, their unmask inside',
    setup: masked,
    a: (w) => w.a.sendMany(PORTS),
    b: (w) => {
      for (const port of PORTS) w.b.unmask(port);
    },
    judge: once(PORTS),
  },
  // ── batches ─────────────────────────────────────────────────────────────────────────────────────────────────────
  {
    name: 'batch by runs, a drain inside',
    a: (w) => w.a.sendMany(PORTS),
    b: (w) => drain(w, w.b),
    judge: once(PORTS),
  },
  {
    name: 'batch by combining, a drain inside',
    a: (w) => w.a.sendMany(MANY),
    b: (w) => drain(w, w.b),
    judge: once(PORTS),
  },
  {
    name: 'batch by combining, a send of one of its ports inside',
    a: (w) => w.a.sendMany(MANY),
    b: (w) => send(w.b, NEIGHBOUR),
    judge: once(PORTS),
  },
  {
    name: 'batch port by port, a drain inside',
    a: (w) => w.a.sendMany(APART),
    b: (w) => drain(w, w.b),
    judge: once(PORTS),
  },
  {
    name: 'KX-EVT-65 batch port by port of masked ports, their unmask inside',
    setup: masked,
    a: (w) => w.a.sendMany(APART),
    b: (w) => {
      for (const port of PORTS) w.b.unmask(port);
    },
    judge: once(PORTS),
  },
  {
    name: 'KX-EVT-65 batch port by port of pending ports, a drain inside: the handler sees the last payload',
    setup: (w) => {
      w.payload = 1;
      w.a.sendMany(PORTS);
    },
    a: (w) => {
      w.a.enter();
      w.buffered = 2;
      w.a.sendMany(APART);
      w.a.leave();
    },
    b: (w) => drain(w, w.b),
    judge: seen(PORTS, 2),
  },
  {
    name: 'KF-22 batch port by port, a bind of one to another vCPU inside',
    vcpus: 2,
    a: (w) => w.a.sendMany(APART),
    b: (w) => w.b.kernel.bindVcpu(w.b.vmBase, w.b.agent, NEIGHBOUR, 1),
    judge: once(PORTS),
  },
  {
    name: 'KF-22 batch by combining, a bind of one port to another vCPU and drains of both inside',
    vcpus: 2,
    a: (w) => w.a.sendMany(MANY),
    b: (w) => {
      w.b.kernel.bindVcpu(w.b.vmBase, w.b.agent, NEIGHBOUR, 1);
      drain(w, w.b, 0);
      drain(w, w.b, 1);
    },
    judge: once(PORTS),
  },
  {
    name: 'batch in bytes, a drain inside',
    a: (w) => w.a.sendMany(MOST),
    b: (w) => drain(w, w.b),
    judge: once(PORTS),
  },
  // ── KF-16: sleep and wake ───────────────────────────────────────────────────────────────────────────────────────
  { name: 'KF-16 sleep, a send inside', a: sleep, b: (w) => send(w.b, PORT), judge: wakes('a') },
  { name: 'KF-16 sleep, a batch inside', a: sleep, b: (w) => w.b.sendMany([PORT]), judge: wakes('a') },
  { name: 'KF-16 send, a sleeper inside', a: (w) => send(w.a, PORT), b: fallAsleep, judge: wakes('b') },
  { name: 'KF-16 batch, a sleeper inside', a: (w) => w.a.sendMany([PORT]), b: fallAsleep, judge: wakes('b') },
  {
    name: 'KF-16 sleep, an unmask of a pending port inside',
    setup: (w) => {
      w.a.mask(PORT);
      send(w.a, PORT);
    },
    a: sleep,
    b: (w) => w.b.unmask(PORT),
    judge: wakes('a'),
  },
  {
    name: 'KX-EVT-61 sleep, a kick inside',
    a: sleep,
    b: (w) => w.b.vcpu(0).kick(),
    judge: (w) => (w.asleep ? 'sleeps although it was kicked' : null),
  },
  {
    name: 'KX-EVT-61 kick, a sleeper inside',
    a: (w) => w.a.vcpu(0).kick(),
    b: fallAsleep,
    judge: (w) => (w.asleep && sleeping(w) ? 'sleeps although it was kicked' : null),
  },
  // ── KX-EVT-40: poll ─────────────────────────────────────────────────────────────────────────────────────────────
  {
    name: 'KX-HCL-33 poll of a masked port, a send inside',
    setup: masked,
    a: (w) => {
      w.a.outbox[0] = PORT;
      const begun = w.a.kernel.pollBegin(w.a.vmBase, w.a.agent, 0, w.a.region.outbox(w.a.agent), 1);
      if (begun === 0) sleep(w);
      w.a.kernel.pollEnd(w.a.vmBase, 0);
    },
    b: (w) => send(w.b, PORT),
    judge: (w) => (w.asleep ? 'sleeps although the polled port is pending' : null),
  },
  // ── KX-EVT-16, 55: vcpu_info away ───────────────────────────────────────────────────────────────────────────────
  {
    name: 'KX-EVT-55 flush of the shadow, a send inside',
    setup: (w) => {
      w.a.vcpu(0).setAttr({ type: 'vcpu_info', gpa: null });
      send(w.a, STRANGER);
      w.a.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(NEW_VCPU_INFO) });
    },
    a: (w) => w.a.vcpu(0).flushShadow(),
    b: (w) => send(w.b, PORT),
    judge: once([PORT, STRANGER]),
  },
  {
    name: 'KX-EVT-55 flush of the shadow, a drain inside',
    setup: (w) => {
      w.a.vcpu(0).setAttr({ type: 'vcpu_info', gpa: null });
      w.a.sendMany(PORTS);
      w.a.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(NEW_VCPU_INFO) });
    },
    a: (w) => w.a.vcpu(0).flushShadow(),
    b: (w) => drain(w, w.b),
    judge: once(PORTS),
  },
  {
    name: 'KX-EVT-55 flush of the shadow, vcpu_info unmapped and a send inside',
    setup: (w) => {
      w.a.vcpu(0).setAttr({ type: 'vcpu_info', gpa: null });
      send(w.a, STRANGER);
      w.a.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(NEW_VCPU_INFO) });
    },
    a: (w) => w.a.kernel.flushShadow(w.a.vmBase, w.a.agent, 0),
    b: (w) => {
      w.b.kernel.gpcUnmap(w.b.vmBase, vcpuInfo(w.b));
      send(w.b, PORT);
    },
    judge: once([PORT, STRANGER]),
  },
  // ── bind_vcpu ───────────────────────────────────────────────────────────────────────────────────────────────────
  {
    name: 'KF-22 bind to another vCPU, a send inside',
    vcpus: 2,
    a: (w) => w.a.bindVcpu(PORT, 1),
    b: (w) => send(w.b, PORT),
    judge: once([PORT]),
  },
  {
    name: 'KF-22 bind to another vCPU, a send and a drain of the old one inside',
    vcpus: 2,
    a: (w) => w.a.bindVcpu(PORT, 1),
    b: (w) => {
      send(w.b, PORT);
      drain(w, w.b, 0);
    },
    judge: once([PORT]),
  },
  {
    name: 'KF-22 send, a bind to another vCPU inside',
    vcpus: 2,
    a: (w) => send(w.a, PORT),
    // The table is plain memory to the kernel: any agent may change it here, the owner rule is the control plane's.
    b: (w) => w.b.kernel.bindVcpu(w.b.vmBase, w.b.agent, PORT, 1),
    judge: once([PORT]),
  },
  {
    name: 'KF-22 send, a bind to another vCPU and drains of both inside',
    vcpus: 2,
    a: (w) => send(w.a, PORT),
    b: (w) => {
      w.b.kernel.bindVcpu(w.b.vmBase, w.b.agent, PORT, 1);
      drain(w, w.b, 0);
      drain(w, w.b, 1);
    },
    judge: once([PORT]),
  },
  {
    name: 'KF-19 batch over ports of two vCPUs, a drain of one inside',
    vcpus: 2,
    setup: (w) => w.a.bindVcpu(NEIGHBOUR, 1),
    a: (w) => w.a.sendMany(MANY),
    b: (w) => drain(w, w.b, 0),
    judge: once(PORTS),
  },
  {
    name: 'KF-19 batch over a port that is bound and some that are not, a drain of the other vCPU inside',
    vcpus: 2,
    setup: (w) => w.a.bindVcpu(NEIGHBOUR, 1),
    a: (w) => w.a.sendMany(MANY),
    b: (w) => drain(w, w.b, 1),
    judge: once(PORTS),
  },
  {
    name: 'KF-19 drains of two vCPUs that may both take a port which is not bound',
    vcpus: 2,
    setup: (w) => {
      w.a.bindVcpu(NEIGHBOUR, 1);
      w.a.sendMany(PORTS);
    },
    a: (w) => drain(w, w.a, 0),
    b: (w) => drain(w, w.b, 1),
    judge: once(PORTS),
  },
  {
    name: 'KF-22 bind from one vCPU to another, a send and drains of both inside',
    vcpus: 2,
    setup: (w) => w.a.bindVcpu(PORT, 0),
    a: (w) => w.a.bindVcpu(PORT, 1),
    b: (w) => {
      send(w.b, PORT);
      drain(w, w.b, 0);
      drain(w, w.b, 1);
    },
    judge: once([PORT]),
  },
  {
    name: 'KX-EVT-10 an event that names one vCPU, a bind to another and drains of both inside',
    vcpus: 2,
    a: (w) => w.a.kernel.sendTo(w.a.vmBase, w.a.agent, PORT, 1),
    b: (w) => {
      w.b.kernel.bindVcpu(w.b.vmBase, w.b.agent, PORT, 0);
      drain(w, w.b, 1);
      drain(w, w.b, 0);
    },
    judge: once([PORT]),
  },
  {
    name: 'KX-EVT-10 an event that names another vCPU than its port is bound to, a drain of the one it names inside',
    vcpus: 2,
    setup: (w) => w.a.bindVcpu(PORT, 1),
    a: (w) => w.a.kernel.sendTo(w.a.vmBase, w.a.agent, PORT, 0),
    b: (w) => drain(w, w.b, 0),
    judge: once([PORT]),
  },
];
