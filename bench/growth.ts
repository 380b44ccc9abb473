// How a single send grows with the number of ports in use and of vCPUs.

import { type Guest, makeGuests } from './guest.ts';
import { Native, targetOf } from './native.ts';
import { shuffled } from './ports.ts';
import { type Claim, type Report, rowsOf, type Setting } from './report.ts';
import { type Figures, FULL, fresh, measureRounds, QUICK, type Variant } from './rounds.ts';
import { inBracket, sendLoop } from './send.ts';

const PORTS = [256, 1024, 4096];
const VCPUS = [1, 4, 16, 64, 256, 1024];

const ports = (n: number): string => `${n} ports`;
const vcpus = (n: number): string => `${n} vCPU${n > 1 ? 's' : ''}`;
const native = (name: string): string => `${name}, native C`;
const self = (name: string): string => `${name}, without a bracket`;

/** The engine and its native peer on one guest and one list of ports. */
function variants(name: string, guest: Guest, list: Int32Array, peers: Native): Variant[] {
  const { vm, reset } = guest;
  const events = list.length;
  const sizes: Variant[] = [
    { name, events, reset, run: inBracket(vm, fresh(events, sendLoop, vm, list)) },
    { name: self(name), events, reset, run: fresh(events, sendLoop, vm, list) },
    ...peers.variant(native(name), 'naive', [targetOf(guest)], list, events, reset),
  ];
  // Each delivers all of its ports, but not all have as many.
  return sizes.map((variant) => ({ ...variant, alone: true }));
}

export function measure(setting: Setting): Report {
  const effort = setting.quick ? QUICK : FULL;
  const peers = new Native(setting.native);
  const guests = makeGuests(true, ...VCPUS);
  const first = guests[0] as Guest;
  const byPorts = measureRounds(
    PORTS.flatMap((n) => variants(ports(n), first, shuffled(n - 1), peers)),
    { ...effort, measureMs: 2 * effort.measureMs },
  );
  const all = shuffled();
  for (const { vm } of guests) for (const port of all) vm.bindVcpu(port, port % vm.vcpus);
  const byVcpus = measureRounds(
    guests.flatMap((guest) => variants(vcpus(guest.vm.vcpus), guest, all, peers)),
    { ...effort, measureMs: 2 * effort.measureMs },
  );
  return {
    rows: [
      ...rowsOf('growth', 'ports in use, all fresh', byPorts, ports(256)),
      ...rowsOf('growth', '4095 ports bound to vCPUs in turn', byVcpus, vcpus(1)),
    ],
    claims: [
      claim('from 256 to 4096 ports in use', byPorts, ports(256), ports(4096), 1.1),
      claim('from 1 to 1024 vCPUs', byVcpus, vcpus(1), vcpus(1024), 1.9),
    ],
  };
}

function claim(name: string, figures: Figures, from: string, to: string, goal: number): Claim {
  return {
    name,
    value: figures.ratio(to, from),
    goal,
    why: 'native C grows by {}',
    figures: [figures.ratio(native(to), native(from))],
  };
}
