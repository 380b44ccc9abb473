// The timer under several hands: an expiry at every point of a call that sets it, and the other way round; threads that die in
// between; and in memory of a single thread the guest that answers before the delivery has returned. [KF-53, KF-55, KF-89]

import { afterEach, describe, expect, test, vi } from 'vitest';
import { VCPU_TIMER_CALLBACK, VCPU_TIMER_DEADLINE } from '../../src/abi/region.ts';
import { attachVm, type Vcpu, VirtualClock, type Vm } from '../../src/index.ts';
import type { KernelHooks } from '../../src/kernel.ts';
import { injectTimer, startTimer, stopTimer } from '../../src/vm/time/timer.ts';
import { drained, errorOf, KINDS, LAYOUTS, makeVm, pendingBit, SHARED_INFO_GPA } from '../support.ts';
import { invalidate, refusal, refuses, traceOf } from './evidence.ts';
import { BOOT, holdTimer, IDLE, MS, makeTimed, PORT, SECOND, setTimer, startIn, timerState } from './timers.ts';

const { wait } = Atomics;
afterEach(() => {
  vi.restoreAllMocks();
  Atomics.wait = wait;
});

/** Sleeps that would let time pass in vain return at once. They are so many that a mock, which notes each, takes seconds. */
function noNaps(): void {
  Atomics.wait = () => 'timed-out';
}

/** The port that the timer is moved to. */
const OTHER = 14;

/** Thrown in place of an access by a thread that dies there. */
class Death extends Error {}

/** An agent whose shared accesses, its kernel's and its own, are counted, and may be its last. */
class Stepper {
  readonly vm: Vm;
  #onStep: ((step: number) => void) | null = null;
  #steps = 0;
  #dead = false;

  constructor(make: (hooks: KernelHooks) => Vm) {
    this.vm = make({ onStep: () => this.#step() });
    const { words } = this.vm.region;
    for (const name of [
      'load',
      'store',
      'or',
      'and',
      'add',
      'exchange',
      'compareExchange',
      'load64',
      'store64',
      'exchange64',
      'compareExchange64',
    ] as const) {
      const access = words[name].bind(words) as (...args: unknown[]) => unknown;
      Object.defineProperty(words, name, {
        value: (...args: unknown[]) => {
          this.#step();
          // A dead thread does not clean up.
          return this.#dead ? (name.endsWith('64') ? 0n : 0) : access(...args);
        },
      });
    }
  }

  #step(): void {
    if (this.#dead) return;
    this.#onStep?.(this.#steps++);
  }

  /** Runs `body` with `onStep` before each of its accesses. @returns how many there were */
  run(body: () => void, onStep: (step: number) => void = () => {}): number {
    this.#steps = 0;
    this.#onStep = onStep;
    try {
      body();
    } finally {
      this.#onStep = null;
    }
    return this.#steps;
  }

  /** Runs `body` until the access `step`, before which this thread dies. */
  die(body: () => void, step: number): void {
    try {
      this.run(body, (now) => {
        if (now !== step) return;
        this.#dead = true;
        throw new Death();
      });
    } catch (error) {
      if (!(error instanceof Death)) throw error;
    }
  }
}

interface Race {
  readonly owner: Vm;
  readonly clock: VirtualClock;
  /** the agent that is interrupted: the owner or another one */
  readonly outer: Stepper;
  readonly inner: Vm;
  readonly old: bigint;
}

/** Two agents; a timer on vCPU 0 that is due, for PORT. `stepped` is whose accesses are counted. */
function makeRace(longMode: boolean, stepped: 'owner' | 'other', vcpus = 1): Race {
  const clock = new VirtualClock(BOOT);
  const make = (hooks: KernelHooks): Vm => makeVm({ longMode, clock, vcpus, trace: traceOf(true, hooks) });
  const attach = (to: Vm, hooks: KernelHooks): Vm => attachVm(to.handle(), { clock, trace: traceOf(true, hooks) });
  let outer: Stepper;
  let owner: Vm;
  if (stepped === 'owner') {
    outer = new Stepper(make);
    owner = outer.vm;
  } else {
    owner = make({});
    outer = new Stepper((hooks) => attach(owner, hooks));
  }
  const inner = stepped === 'owner' ? attach(owner, {}) : owner;
  setTimer(owner.vcpu(0), 0n);
  clock.advance(SECOND);
  const old = startIn(owner.vcpu(0), MS);
  clock.advance(MS);
  return { owner, clock, outer, inner, old };
}

/** Events of the two ports that are pending; takes them. */
function events(vm: Vm): { old: number; other: number } {
  const ports = drained(vm);
  return { old: ports.filter((p) => p === PORT).length, other: ports.filter((p) => p === OTHER).length };
}

describe.each(LAYOUTS)('$layout layout, an expiry against a call', ({ longMode }) => {
  /** Runs `inner` before every access of `outer`, and after the last. */
  function everywhere(
    stepped: 'owner' | 'other',
    play: { outer: (race: Race) => void; inner: (race: Race) => void; judge: (race: Race, step: number) => void },
  ): number {
    noNaps();
    const measure = makeRace(longMode, stepped);
    const steps = measure.outer.run(() => play.outer(measure));
    for (let at = 0; at <= steps; at++) {
      const race = makeRace(longMode, stepped);
      race.outer.run(
        () => play.outer(race),
        (step) => {
          if (step === at) play.inner(race);
        },
      );
      if (at === steps) play.inner(race);
      expect(timerState(race.owner.vcpu(0)).callback, `step ${at}`).toBe(0);
      play.judge(race, at);
    }
    return steps;
  }

  const NEW = 10n * SECOND;

  /** The new timer comes for its own port, at its time, once. */
  function newComes({ owner, clock }: Race, step: number, port = OTHER): void {
    const vcpu = owner.vcpu(0);
    expect(vcpu.getAttr('timer'), `step ${step}`).toEqual({ type: 'timer', port, priority: -1, expires: NEW });
    clock.advance(NEW - SECOND - MS - 1n);
    expect([owner.tick(), drained(owner)], `step ${step}`).toEqual([0, []]);
    clock.advance(1n);
    expect([owner.tick(), drained(owner)], `step ${step}`).toEqual([1, [port]]);
    expect(timerState(vcpu), `step ${step}`).toEqual(IDLE);
  }

  test('KF-53 KX-TMR-02 the attribute set at every point of an expiry: the old one never reaches the new port', () => {
    let [before, during, after] = [0, 0, 0];
    const steps = everywhere('other', {
      outer: ({ outer }) => outer.vm.tick(),
      inner: ({ owner }) => {
        // Somebody else is delivering, and cannot go on while this test runs inside of it.
        const refused = refusal(() => setTimer(owner.vcpu(0), NEW, OTHER));
        expect([undefined, 'EBUSY']).toContain(refused);
        if (refused === 'EBUSY') during++;
      },
      judge: (race, step) => {
        const vcpu = race.owner.vcpu(0);
        const found = events(race.owner);
        expect(found.other, `step ${step}`).toBe(0);
        if (timerState(vcpu).expires === 0n) {
          // Refused: all is as if nobody had asked.
          expect([found.old, vcpu.getAttr('timer').port], `step ${step}`).toEqual([1, PORT]);
          return;
        }
        if (found.old === 0) before++;
        else after++;
        newComes(race, step);
      },
    });
    // Each of the three was met.
    expect([before > 0, during > 0, after > 0, before + during + after]).toEqual([true, true, true, steps + 1]);
  }, 60_000);

  test('KF-53 KX-TMR-02 an expiry at every point of setting the attribute: never the old one on the new port', () => {
    let [fired, missed] = [0, 0];
    everywhere('owner', {
      outer: ({ owner }) => setTimer(owner.vcpu(0), NEW, OTHER),
      inner: ({ inner }) => inner.tick(),
      judge: (race, step) => {
        const found = events(race.owner);
        expect(found.other, `step ${step}`).toBe(0);
        if (found.old === 1) fired++;
        else missed++;
        newComes(race, step);
      },
    });
    expect([fired > 0, missed > 0]).toEqual([true, true]);
  });

  test('KF-53 KF-32 as well when the new timer is in the past: one event of it, from the call itself', () => {
    everywhere('owner', {
      outer: ({ owner }) => setTimer(owner.vcpu(0), 1n, OTHER),
      inner: ({ inner }) => inner.tick(),
      judge: ({ owner }, step) => {
        const found = events(owner);
        expect(found.other, `step ${step}`).toBe(1);
        expect(found.old, `step ${step}`).toBeLessThanOrEqual(1);
        expect([timerState(owner.vcpu(0)), owner.tick(), drained(owner)], `step ${step}`).toEqual([IDLE, 0, []]);
      },
    });
  });

  test.each(['owner', 'other'] as const)(
    'KX-TMR-03 KX-TMR-10 started anew by the %s at every point of an expiry, and the other way round: each comes once',
    (stepped) => {
      const start = (vm: Vm): boolean => startTimer(vm.vcpu(0), NEW, false);
      const plays = [
        { outer: ({ outer }: Race) => outer.vm.tick(), inner: ({ inner }: Race) => refusal(() => start(inner)) },
        { outer: ({ outer }: Race) => start(outer.vm), inner: ({ inner }: Race) => inner.tick() },
      ];
      for (const play of plays) {
        everywhere(stepped, {
          ...play,
          judge: (race, step) => {
            expect(events(race.owner).old, `step ${step}`).toBeLessThanOrEqual(1);
            if (timerState(race.owner.vcpu(0)).expires !== 0n) newComes(race, step, PORT);
          },
        });
      }
    },
    60_000,
  );

  test('KX-TMR-04 stopped at every point of an expiry, and the other way round: stopped, or an event, never both or neither', () => {
    const stopped: (boolean | 'EBUSY')[] = [];
    const stop = (vm: Vm): void => {
      const refused = refusal(() => stopped.push(stopTimer(vm.vcpu(0))));
      if (refused === 'EBUSY') stopped.push(refused);
    };
    const judge = ({ owner }: Race, step: number): void => {
      expect(events(owner).old, `step ${step}, stopped: ${stopped.at(-1)}`).toBe(stopped.at(-1) === true ? 0 : 1);
      expect([timerState(owner.vcpu(0)), owner.tick()], `step ${step}`).toEqual([IDLE, 0]);
    };
    everywhere('other', { outer: ({ outer }) => outer.vm.tick(), inner: ({ inner }) => stop(inner), judge });
    expect(new Set(stopped)).toEqual(new Set([true, false, 'EBUSY']));
    everywhere('owner', { outer: ({ outer }) => stop(outer.vm), inner: ({ inner }) => inner.tick(), judge });
  }, 60_000);

  test('KX-TMR-25 read at every point of an expiry, and the other way round: reported, or visible', () => {
    const read = ({ owner }: Race, vm: Vm): void => {
      try {
        const { expires } = vm.vcpu(0).getAttr('timer');
        expect(expires !== 0n || pendingBit(owner, PORT)).toBe(true);
      } catch (error) {
        expect(error).toMatchObject({ code: 'EBUSY' });
      }
    };
    const judge = ({ owner }: Race, step: number): void => {
      // A tick that met the reader has left it to the next one.
      owner.tick();
      expect([events(owner).old, timerState(owner.vcpu(0))], `step ${step}`).toEqual([1, IDLE]);
    };
    everywhere('other', { outer: ({ outer }) => outer.vm.tick(), inner: (race) => read(race, race.inner), judge });
    everywhere('owner', { outer: (race) => read(race, race.owner), inner: ({ inner }) => inner.tick(), judge });
  }, 60_000);

  test('KX-TMR-10 two timekeepers: an expiry is one event, counted by one of them', () => {
    let [outerCount, innerCount] = [0, 0];
    everywhere('other', {
      outer: ({ outer }) => {
        outerCount = outer.vm.tick();
      },
      inner: ({ inner }) => {
        innerCount = inner.tick();
      },
      judge: ({ owner }, step) => {
        expect(outerCount + innerCount, `step ${step}`).toBe(1);
        expect([events(owner).old, timerState(owner.vcpu(0))], `step ${step}`).toEqual([1, IDLE]);
      },
    });
  });

  test('R8 KX-TMR-10 two timekeepers find what a dead thread has left: one event; one finds it, the other stops it: one or none', () => {
    const abandon = ({ owner }: Race): void =>
      owner.region.words.store64(owner.vcpu(0).record + VCPU_TIMER_DEADLINE, 0n);
    const outer = (race: Race): void => {
      if (timerState(race.owner.vcpu(0)).deadline !== 0n) abandon(race);
      race.outer.vm.tick();
    };
    // The guest takes what there is at once, so that a second event is not hidden by the first.
    let taken = 0;
    everywhere('other', {
      outer,
      inner: ({ inner }) => {
        inner.tick();
        taken = drained(inner).length;
      },
      judge: ({ owner }, step) => {
        expect(taken + events(owner).old, `step ${step}`).toBe(1);
        expect([timerState(owner.vcpu(0)), owner.nextDeadline()], `step ${step}`).toEqual([IDLE, null]);
      },
    });
    let stopped = false;
    everywhere('other', {
      outer,
      inner: ({ inner }) => {
        const waits = timerState(inner.vcpu(0)).expires !== 0n && !pendingBit(inner, PORT);
        stopped = refusal(() => stopTimer(inner.vcpu(0))) === undefined && waits;
      },
      judge: ({ owner }, step) => {
        expect(events(owner).old, `step ${step}`).toBe(stopped ? 0 : 1);
        expect([timerState(owner.vcpu(0)), owner.nextDeadline()], `step ${step}`).toEqual([IDLE, null]);
      },
    });
  });

  test('KF-55 KX-TMR-20 injected while the timekeeper looks, and set meanwhile: one event of each at most, and nothing stuck', () => {
    const deferred = (race: Race): void => {
      invalidate(race.owner, SHARED_INFO_GPA);
      race.owner.tick();
      race.owner.invalidateEnd();
    };
    for (const what of ['tick', 'start', 'stop', 'get'] as const) {
      everywhere('other', {
        outer: (race) => {
          if (timerState(race.owner.vcpu(0)).pending === 0) deferred(race);
          injectTimer(race.outer.vm.vcpu(0));
        },
        inner: ({ inner }) => {
          const vcpu = inner.vcpu(0);
          refusal(() => {
            if (what === 'tick') inner.tick();
            else if (what === 'start') startTimer(vcpu, NEW, false);
            else if (what === 'stop') stopTimer(vcpu);
            else vcpu.getAttr('timer');
          });
        },
        judge: (race, step) => {
          expect(events(race.owner).old, `${what}, step ${step}`).toBeLessThanOrEqual(1);
          if (timerState(race.owner.vcpu(0)).expires !== 0n) newComes(race, step, PORT);
        },
      });
    }
  }, 60_000);

  // ── threads that die ───────────────────────────────────────────────────────────────────────────────────────────

  test.each([
    ['delivers an expiry', (vm: Vm) => vm.tick()],
    ['starts it', (vm: Vm) => startTimer(vm.vcpu(0), NEW, false)],
    ['starts it in the past', (vm: Vm) => startTimer(vm.vcpu(0), 1n, false)],
    ['reads it', (vm: Vm) => vm.vcpu(0).getAttr('timer')],
  ])(
    'R8 KF-89 a thread that dies at any point while it %s: once it is detached, an event comes, and the timer works',
    (_name, call) => {
      const measure = makeRace(longMode, 'other');
      const steps = measure.outer.run(() => call(measure.outer.vm));
      expect(steps).toBeGreaterThan(5);
      for (let at = 0; at < steps; at++) {
        const { owner, outer, clock } = makeRace(longMode, 'other');
        const vcpu = owner.vcpu(0);
        outer.die(() => call(outer.vm), at);
        owner.detachAgent(outer.vm.agentNumber);
        expect(timerState(vcpu).callback, `step ${at}`).toBe(0);
        let events = 0;
        // The old timer or the new one: the guest cannot tell which. Twice is harmless, never is not.
        for (let look = 0; look < 4; look++) {
          expect(owner.tick(), `step ${at}`).toBeLessThanOrEqual(1);
          events += drained(owner).length;
          const next = owner.nextDeadline();
          if (next !== null && next > clock.now()) clock.advance(next - clock.now());
        }
        expect(events, `step ${at}`).toBeGreaterThanOrEqual(1);
        expect(events, `step ${at}`).toBeLessThanOrEqual(2);
        expect([timerState(vcpu), owner.nextDeadline()], `step ${at}`).toEqual([IDLE, null]);
        setTimer(vcpu, 1n);
        expect(drained(owner), `step ${at}`).toEqual([PORT]);
      }
    },
  );

  test('R8 KF-89 the same for a port that is bound to another vCPU: that one gets the upcall', () => {
    const prepare = (): Race => {
      const race = makeRace(longMode, 'other', 2);
      race.owner.bindVcpu(PORT, 1);
      return race;
    };
    const measure = prepare();
    const steps = measure.outer.run(() => measure.outer.vm.tick());
    for (let at = 0; at < steps; at++) {
      const { owner, outer } = prepare();
      outer.die(() => outer.vm.tick(), at);
      owner.detachAgent(outer.vm.agentNumber);
      owner.tick();
      expect([drained(owner, 1), timerState(owner.vcpu(0))], `step ${at}`).toEqual([[PORT], IDLE]);
    }
  });

  test('R8 a thread that dies at any point while it stops the timer: stopped, or it comes', () => {
    const measure = makeRace(longMode, 'other');
    const steps = measure.outer.run(() => stopTimer(measure.outer.vm.vcpu(0)));
    for (let at = 0; at < steps; at++) {
      const { owner, outer } = makeRace(longMode, 'other');
      outer.die(() => stopTimer(outer.vm.vcpu(0)), at);
      owner.detachAgent(outer.vm.agentNumber);
      expect(
        [owner.tick() === drained(owner).length, timerState(owner.vcpu(0)), owner.nextDeadline()],
        `step ${at}`,
      ).toEqual([true, IDLE, null]);
    }
  });

  test('R8 KX-TMR-20 a thread that dies while it injects: the expiry comes all the same', () => {
    const prepare = (): Race => {
      const race = makeRace(longMode, 'other');
      invalidate(race.owner, SHARED_INFO_GPA);
      race.owner.tick();
      race.owner.invalidateEnd();
      return race;
    };
    const measure = prepare();
    const steps = measure.outer.run(() => injectTimer(measure.outer.vm.vcpu(0)));
    for (let at = 0; at < steps; at++) {
      const { owner, outer } = prepare();
      outer.die(() => injectTimer(outer.vm.vcpu(0)), at);
      owner.detachAgent(outer.vm.agentNumber);
      let events = 0;
      for (let look = 0; look < 3; look++) {
        owner.tick();
        injectTimer(owner.vcpu(0));
        events += drained(owner).length;
      }
      expect(events, `step ${at}`).toBeGreaterThanOrEqual(1);
      expect(timerState(owner.vcpu(0)), `step ${at}`).toEqual(IDLE);
    }
  });

  // ── waiting ────────────────────────────────────────────────────────────────────────────────────────────────────

  const calls: [string, (vcpu: Vcpu) => unknown][] = [
    ['start', (vcpu) => startTimer(vcpu, NEW, false)],
    ['start in the past', (vcpu) => startTimer(vcpu, 1n, false)],
    ['stop', (vcpu) => stopTimer(vcpu)],
    ['TIMER SET', (vcpu) => setTimer(vcpu, NEW, OTHER)],
    ['TIMER GET', (vcpu) => vcpu.getAttr('timer')],
  ];

  test.each(calls)(
    'KX-TMR-03 %s while another thread delivers: EBUSY with its number, and nothing has changed',
    (_name, call) => {
      noNaps();
      const { owner, inner, outer } = makeRace(longMode, 'other');
      expect(inner).toBe(owner);
      holdTimer(owner.vcpu(0), outer.vm.agent);
      refuses(
        owner,
        () => call(owner.vcpu(0)),
        'EBUSY',
        `agent ${outer.vm.agentNumber}`,
        'vCPU 0',
        2000,
        'detachAgent',
      );
      expect([owner.tick(), drained(owner)]).toEqual([0, []]);
      holdTimer(owner.vcpu(0), 0);
      expect([owner.tick(), drained(owner)]).toEqual([1, [PORT]]);
    },
  );

  test.each(calls)('KX-TMR-03 KX-TMR-26 %s waits for a delivery that ends', (_name, call) => {
    const { owner, outer } = makeRace(longMode, 'other');
    const vcpu = owner.vcpu(0);
    holdTimer(vcpu, outer.vm.agent);
    let naps = 0;
    vi.spyOn(Atomics, 'wait').mockImplementation((_view, at) => {
      expect(at).toBe((vcpu.record + VCPU_TIMER_CALLBACK) >>> 2);
      if (++naps === 3) holdTimer(vcpu, 0);
      return 'timed-out';
    });
    call(vcpu);
    expect([naps, timerState(vcpu).callback]).toEqual([3, 0]);
  });

  test('KX-TMR-03 on a thread that may not sleep it looks more often instead, and gives up as well', () => {
    const { owner, outer } = makeRace(longMode, 'other');
    const vcpu = owner.vcpu(0);
    let naps = 0;
    vi.spyOn(Atomics, 'wait').mockImplementation(() => {
      if (++naps === 5) holdTimer(vcpu, 0);
      throw new TypeError('Atomics.wait cannot be called in this context');
    });
    holdTimer(vcpu, outer.vm.agent);
    expect(stopTimer(vcpu)).toBe(true);
    expect(naps).toBe(5);
  });

  test('KX-TMR-03 on a thread that may not sleep a delivery may take as long as elsewhere', () => {
    const { owner, outer } = makeRace(longMode, 'other');
    const vcpu = owner.vcpu(0);
    Atomics.wait = () => {
      throw new TypeError('Atomics.wait cannot be called in this context');
    };
    holdTimer(vcpu, outer.vm.agent);
    const { words } = owner.region;
    const load = words.load.bind(words);
    let looks = 0;
    words.load = (at) => {
      if (++looks === 100_000) holdTimer(vcpu, 0);
      return load(at);
    };
    expect(stopTimer(vcpu)).toBe(true);
  });

  test('KX-TMR-03 a thread that was taken for dead in its delivery does not let go of what is another’s now', () => {
    const { owner, outer } = makeRace(longMode, 'other');
    outer.run(
      () => outer.vm.tick(),
      () => {
        if (timerState(owner.vcpu(0)).callback === 0) return;
        holdTimer(owner.vcpu(0), owner.agent);
      },
    );
    expect(timerState(owner.vcpu(0)).callback).toBe(owner.agent);
  });

  test('R8 KF-89 a dead thread that held the timer: detached, and the timer can be set', () => {
    noNaps();
    const { owner, outer } = makeRace(longMode, 'other');
    holdTimer(owner.vcpu(0), outer.vm.agent);
    expect(errorOf(() => stopTimer(owner.vcpu(0))).code).toBe('EBUSY');
    owner.detachAgent(outer.vm.agentNumber);
    expect(stopTimer(owner.vcpu(0))).toBe(true);
  });
});

describe.each(LAYOUTS)(
  '$layout layout, memory of a single thread: the guest answers inside the delivery',
  ({ longMode }) => {
    /** The guest's handler runs as the upcall comes: it drains, then does `then`. */
    function make(then: (vcpu: Vcpu) => void) {
      const timed = makeTimed({ longMode, shared: false });
      const seen: number[] = [];
      timed.vcpu.onUpcall((vcpu) => {
        seen.push(...drained(vcpu.vm));
        then(vcpu);
      });
      return { ...timed, seen };
    }

    test('KF-32 KX-TMR-10 it sets the timer anew: that one stays, and comes', () => {
      const { vm, vcpu, clock, seen } = make((v) => startIn(v, MS));
      startIn(vcpu, MS);
      for (let i = 1; i <= 5; i++) {
        clock.advance(MS);
        expect([vm.tick(), seen.length]).toEqual([1, i]);
        expect(timerState(vcpu)).toEqual({ ...IDLE, expires: vm.kvmclock.now() + MS, deadline: clock.now() + MS });
      }
    });

    test('KF-32 KX-TMR-20 the same from an injection, and from a start in the past', () => {
      let left = 2;
      const { vm, vcpu, clock, seen } = make((v) => left-- > 0 && startIn(v, MS));
      startIn(vcpu, MS);
      clock.advance(MS);
      invalidate(vm, SHARED_INFO_GPA);
      vm.tick();
      vm.invalidateEnd();
      injectTimer(vcpu);
      expect([seen, timerState(vcpu).deadline]).toEqual([[PORT], clock.now() + MS]);
      startTimer(vcpu, 1n, false);
      expect([seen, timerState(vcpu).deadline]).toEqual([[PORT, PORT], clock.now() + MS]);
    });

    test.each([
      ['stops it', (v: Vcpu) => expect(stopTimer(v)).toBe(false)],
      ['reads it', (v: Vcpu) => v.getAttr('timer')],
      ['ticks', (v: Vcpu) => expect([v.vm.tick(), v.vm.nextDeadline()]).toEqual([0, null])],
      ['injects', (v: Vcpu) => injectTimer(v)],
      ['takes its port away', (v: Vcpu) => setTimer(v, 0n, 0)],
    ])('KF-32 KX-TMR-10 it %s: one event, and the timer is over', (_name, then) => {
      const { vm, vcpu, clock, seen } = make(then);
      startIn(vcpu, MS);
      clock.advance(MS);
      expect([vm.tick(), seen, timerState(vcpu)]).toEqual([1, [PORT], IDLE]);
      expect([vm.tick(), vm.nextDeadline()]).toEqual([0, null]);
    });

    test('KF-32 it sets the timer in the past, some times: an event each, and the last is the end', () => {
      let left = 10;
      const { vm, vcpu, clock, seen } = make((v) => left-- > 0 && startTimer(v, 1n, false));
      startIn(vcpu, MS);
      clock.advance(MS);
      expect([vm.tick(), seen.length, timerState(vcpu)]).toEqual([1, 11, IDLE]);
    });

    test('KF-55 it lets the next timer expire by a tick of its own: the outer delivery goes on undisturbed', () => {
      let left = 3;
      const { vm, vcpu, clock, seen } = make((v) => {
        if (left-- === 0) return;
        startIn(v, MS);
        clock.advance(MS);
        expect(vm.tick()).toBe(1);
        expect(timerState(v).callback).not.toBe(0);
      });
      startIn(vcpu, MS);
      clock.advance(MS);
      expect([vm.tick(), seen.length, timerState(vcpu)]).toEqual([1, 4, IDLE]);
    });

    test('it detaches its view: no trap, and what else is due is left to others', () => {
      const clock = new VirtualClock(BOOT);
      const vm = makeVm({ longMode, shared: false, clock, vcpus: 2 });
      for (const i of [0, 1]) setTimer(vm.vcpu(i), MS + BigInt(i), PORT + i);
      const other = attachVm(vm.handle(), { clock });
      clock.advance(SECOND);
      other.vcpu(0).onUpcall(() => other.detach());
      expect(other.tick()).toBe(1);
      expect(timerState(vm.vcpu(1)).expires).toBe(MS + 1n);
      expect([vm.tick(), pendingBit(vm, PORT), pendingBit(vm, PORT + 1)]).toEqual([1, true, true]);
      expect([timerState(vm.vcpu(0)), timerState(vm.vcpu(1))]).toEqual([IDLE, IDLE]);
    });

    test('KX-TMR-03 another view of this thread sets it: no waiting for itself', () => {
      const { vm, vcpu, clock, seen } = make(() => startIn(other.vcpu(0), MS));
      const other = attachVm(vm.handle(), { clock });
      startIn(vcpu, MS);
      clock.advance(MS);
      expect([vm.tick(), seen, timerState(vcpu).deadline]).toEqual([1, [PORT], clock.now() + MS]);
    });
  },
);

test.each(KINDS)(
  '$layout, shared: $shared: KX-HCL-50 KX-HCL-52 any attached thread starts, stops and ticks',
  ({ longMode, shared }) => {
    const { vm, clock } = makeTimed({ longMode, shared });
    const other = attachVm(vm.handle(), { clock });
    startIn(other.vcpu(0), MS);
    expect(vm.nextDeadline()).toBe(clock.now() + MS);
    clock.advance(MS);
    expect([other.tick(), drained(vm)]).toEqual([1, [PORT]]);
    startIn(vm.vcpu(0), MS);
    expect(stopTimer(other.vcpu(0))).toBe(true);
    expect(vm.nextDeadline()).toBe(null);
  },
);
