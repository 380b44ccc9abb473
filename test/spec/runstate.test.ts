// Runstate: sums, steal, the guest's copy at any byte and across a page edge, all or nothing, the update marker. [kvm-xen 7]

import { describe, expect, test } from 'vitest';
import { VCPU_RUNSTATE_VERSION } from '../../src/abi/region.ts';
import { attachVm, type RunstateName, type Vm } from '../../src/index.ts';
import { KINDS, makeVm, random } from '../support.ts';
import { refuses } from './evidence.ts';
import { EDGE, guestCopy, hostCopy, runstateAddr, STATES, sum } from './runstate_record.ts';

describe.each(KINDS)('$layout layout, shared memory: $shared', ({ longMode, shared }) => {
  const make = (options = {}): Vm => makeVm({ longMode, shared, guestPages: 9, ...options });

  test('KX-GEN-02 a new vCPU has run for no time', () => {
    const vm = make();
    expect(vm.vcpu(0).runstate()).toEqual({
      state: 'running',
      entryTime: 0n,
      times: { running: 0n, runnable: 0n, blocked: 0n, offline: 0n },
    });
  });

  test('KX-RUN-02 the time before the first transition counts as offline', () => {
    const vm = make();
    vm.vcpu(0).enterRunstate('running', 1000n, 77n);
    expect(vm.vcpu(0).runstate()).toEqual({
      state: 'running',
      entryTime: 1000n,
      times: { running: 0n, runnable: 0n, blocked: 0n, offline: 1000n },
    });
  });

  test('KX-RUN-02 S-11 each state collects its own time', () => {
    const vm = make();
    let now = 5n;
    for (const [i, state] of STATES.entries()) {
      vm.vcpu(0).enterRunstate(state, now);
      now += BigInt(10 ** i);
    }
    vm.vcpu(0).enterRunstate('running', now);
    expect(hostCopy(vm.vcpu(0).runstate())).toEqual({ state: 0, entryTime: now, times: [1n, 10n, 100n, 1005n] });
  });

  test('KX-RUN-02 KX-RUN-04 S-16 waiting for a core is stolen from running, and from nothing else', () => {
    const vm = make();
    const vcpu = vm.vcpu(0);
    vcpu.enterRunstate('running', 100n, 50n);
    vcpu.enterRunstate('running', 200n, 80n);
    expect(vcpu.runstate().times).toEqual({ running: 70n, runnable: 30n, blocked: 0n, offline: 100n });
    vcpu.enterRunstate('blocked', 300n, 80n);
    vcpu.enterRunstate('offline', 400n, 500n);
    vcpu.enterRunstate('runnable', 500n, 700n);
    vcpu.enterRunstate('running', 600n, 900n);
    expect(vcpu.runstate().times).toEqual({ running: 170n, runnable: 130n, blocked: 100n, offline: 200n });
    // The base moved along all the time: only what came after is stolen.
    vcpu.enterRunstate('running', 700n, 901n);
    expect(vcpu.runstate().times.runnable).toBe(131n);
  });

  test('KX-RUN-05 more steal than time wraps running, and the sum still holds', () => {
    const vm = make();
    const vcpu = vm.vcpu(0);
    vcpu.enterRunstate('running', 100n, 0n);
    vcpu.enterRunstate('blocked', 110n, 1000n);
    const { times, entryTime } = vcpu.runstate();
    expect(times.running).toBe(2n ** 64n - 990n);
    expect(times.runnable).toBe(1000n);
    expect(sum(Object.values(times))).toBe(entryTime);
  });

  test('KX-RUN-03 R11 after every random transition host and guest agree and add up', () => {
    const vm = make();
    const vcpu = vm.vcpu(0);
    const at = EDGE - 20;
    runstateAddr(vm, at);
    const next = random(17);
    const model = { state: 0, entryTime: 0n, times: [0n, 0n, 0n, 0n], steal: 0n };
    for (let now = 0n, delay = 0n, i = 0; i < 300; i++) {
      now += BigInt(next(5) === 0 ? 2 ** 40 : next(1000));
      delay += BigInt(next(3) === 0 ? next(2000) : 0);
      const to = next(4);
      if (i % 50 === 25) vm.setAttr({ type: 'runstate_update_flag', enabled: next(2) === 1 });
      vcpu.enterRunstate(STATES[to] as RunstateName, now, delay);
      const from = model.entryTime === 0n ? 3 : model.state;
      let delta = now - model.entryTime;
      if (from === 0) {
        delta -= delay - model.steal;
        model.times[1] = (model.times[1] as bigint) + delay - model.steal;
      }
      model.times[from] = BigInt.asUintN(64, (model.times[from] as bigint) + delta);
      Object.assign(model, { state: to, entryTime: now, steal: delay });
      const host = hostCopy(vcpu.runstate());
      expect(host).toEqual({ state: model.state, entryTime: model.entryTime, times: model.times });
      expect(guestCopy(vm, at)).toEqual(host);
      expect(sum(host.times)).toBe(host.entryTime);
    }
  });

  test('KX-RUN-03 times up to the end of 64 bits', () => {
    const vm = make();
    runstateAddr(vm, EDGE);
    vm.vcpu(0).enterRunstate('running', 2n ** 63n + 1n);
    vm.vcpu(0).enterRunstate('blocked', 2n ** 64n - 1n);
    const host = hostCopy(vm.vcpu(0).runstate());
    expect(host).toEqual({ state: 2, entryTime: 2n ** 64n - 1n, times: [2n ** 63n - 2n, 0n, 0n, 2n ** 63n + 1n] });
    expect(guestCopy(vm, EDGE)).toEqual(host);
  });

  test('numbers and bigints say the same time', () => {
    const [a, b] = [make(), make()];
    a.vcpu(0).enterRunstate('running', 2 ** 52 + 1, 2 ** 33);
    b.vcpu(0).enterRunstate('running', 2n ** 52n + 1n, 2n ** 33n);
    a.vcpu(0).enterRunstate('blocked', 2 ** 53 - 1, 2 ** 33 + 5);
    b.vcpu(0).enterRunstate('blocked', 2n ** 53n - 1n, 2n ** 33n + 5n);
    expect(a.vcpu(0).runstate()).toEqual(b.vcpu(0).runstate());
  });

  test('each vCPU has its own record', () => {
    const vm = make({ vcpus: 3 });
    vm.vcpu(1).enterRunstate('blocked', 10n);
    expect(vm.vcpu(0).runstate().entryTime).toBe(0n);
    expect(vm.vcpu(2).runstate().entryTime).toBe(0n);
    expect(vm.vcpu(1).runstate().entryTime).toBe(10n);
  });

  test('R5 a record whose writer does not finish: EAGAIN for the reader, and the next writer repairs it', () => {
    const vm = make();
    vm.vcpu(0).enterRunstate('running', 10n);
    const version = vm.vcpu(0).record + VCPU_RUNSTATE_VERSION;
    vm.region.words.or(version, 1);
    refuses(vm, () => vm.vcpu(0).runstate(), 'EAGAIN', 'vCPU 0');
    vm.vcpu(0).enterRunstate('blocked', 20n);
    expect(vm.vcpu(0).runstate()).toMatchObject({ state: 'blocked', entryTime: 20n });
  });
});

test('KX-RUN-03 another thread reads the same runstate', () => {
  const vm = makeVm();
  const other = attachVm(vm.handle());
  vm.vcpu(0).enterRunstate('blocked', 10n);
  expect(other.vcpu(0).runstate()).toEqual(vm.vcpu(0).runstate());
  other.vcpu(0).enterRunstate('running', 25n);
  expect(vm.vcpu(0).runstate().times.blocked).toBe(15n);
});
