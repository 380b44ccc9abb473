// "Why did nothing happen?" One answer for a port, and what it was found by. Nothing is changed, mapped or waited for.
//
// The causes are gone through in the order in which an event meets them: the port, shared_info, pending, mask, selector or
// shadow, upcall byte, and what the vCPU's thread does about it. The first one that stands is the verdict.

import { PORT_TABLE_PORTS, REGION_CLOSED, REGION_STATE } from '../../abi/region.ts';
import { PORTS_COMPAT } from '../../abi/shared_info.ts';
import type { Vm } from '../vm.ts';
import { type ExplanationFact, factsOf, pollText } from './facts.ts';
import { explainFifo, type FifoCause } from './fifo.ts';
import { type Look, lookAt, type Place, type Source, type VcpuLook } from './look.ts';

/** What an explanation ends at, for programs. */
export type ExplanationCause =
  | 'detached'
  | 'closed'
  | 'not-a-port'
  | 'out-of-mode'
  | 'no-shared-info'
  | 'invalidation-waits'
  | 'invalidation-open'
  | 'shared-info-unreachable'
  | 'unknown-vcpu'
  | 'timer-waits'
  | 'timer-due'
  | 'timer-armed'
  | 'not-pending'
  | 'polled-by-another'
  | 'masked'
  | 'selected-elsewhere'
  | 'not-selected'
  | 'no-vcpu-info'
  | 'vcpu-info-unreachable'
  | 'gate-closed'
  | 'shadow-waits'
  | 'upcall-taken'
  | 'polling'
  | 'asleep'
  | 'no-irqchip'
  | 'lapic-off'
  | 'upcall-masked'
  | 'vector-due'
  | 'no-vector'
  | 'waits-for-entry'
  | 'vector-taken'
  | FifoCause;

/** Why a port's event did not arrive. `toString` gives all of it as text. */
export interface Explanation {
  /** as it was asked for */
  readonly port: number;
  readonly cause: ExplanationCause;
  /** one sentence */
  readonly verdict: string;
  readonly facts: readonly ExplanationFact[];
  /** what to do about it */
  readonly advice: string;
  toString(): string;
}

interface Finding {
  readonly cause: ExplanationCause;
  readonly verdict: string;
  readonly advice: string;
}

/** @internal */
export function explain(vm: Vm, port: number): Explanation {
  if (vm.detached) {
    return answer(port, [], {
      cause: 'detached',
      verdict: 'this view of the VM is detached, and its sends answer -EBADF',
      advice: 'attach again, or ask on a thread that is attached',
    });
  }
  if (vm.region.words.load(vm.vmBase + REGION_STATE) === REGION_CLOSED) {
    return answer(port, [], {
      cause: 'closed',
      verdict: 'the VM was closed by its owner',
      advice: 'detach from it',
    });
  }
  if (!Number.isInteger(port) || port < 1 || port >= (vm.region.fifoActive ? vm.maxPorts : PORT_TABLE_PORTS)) {
    return answer(port, [], {
      cause: 'not-a-port',
      verdict: `${String(port)} is no port: there are 1 to ${vm.maxPorts - 1}`,
      advice: 'look where the number comes from; sends answer -EINVAL for it',
    });
  }
  if (vm.region.fifoActive) {
    const { facts, finding } = explainFifo(vm, port);
    return answer(port, facts, finding);
  }
  const look = lookAt(vm, port);
  const finding = RULES.reduce<Finding | null>((found, rule) => found ?? rule(look), null) ?? notPending(look);
  return answer(port, factsOf(look), finding);
}

function answer(port: number, facts: readonly ExplanationFact[], { cause, verdict, advice }: Finding): Explanation {
  const width = (pick: (fact: ExplanationFact) => string): number =>
    Math.max(0, ...facts.map((fact) => pick(fact).length));
  const [what, value] = [width((fact) => fact.what), width((fact) => String(fact.value))];
  const lines = facts.map((fact) => `  ${fact.what.padEnd(what)}  ${String(fact.value).padEnd(value)}  ${fact.means}`);
  const text = [`port ${String(port)}: ${verdict}`, ...lines, `  do: ${advice}`].join('\n');
  return { port, cause, verdict, facts, advice, toString: () => text };
}

// ── the causes ─────────────────────────────────────────────────────────────────────────────────────────────────────

const RULES: readonly ((look: Look) => Finding | null)[] = [
  outOfMode,
  sharedInfoAway,
  maskedPort,
  unselected,
  shadowed,
  byteCleared,
  sleeping,
  interrupt,
];

function outOfMode({ port, longMode }: Look): Finding | null {
  if (longMode || port < PORTS_COMPAT) return null;
  return {
    cause: 'out-of-mode',
    verdict: `a 32-bit guest has the ports 1 to ${PORTS_COMPAT - 1} only, and this one is in 32-bit mode`,
    advice: 'if the guest is a 64-bit one, set the attribute long_mode; else use a lower port',
  };
}

function sharedInfoAway(look: Look): Finding | null {
  const { sharedInfo } = look;
  if (!sharedInfo.registered) {
    return {
      cause: 'no-shared-info',
      verdict: 'shared_info is not registered, so there is nowhere to set a pending bit',
      advice: 'set the attribute shared_info; sends answer -EINVAL until then',
    };
  }
  const held = invalidated(look, 'shared_info', sharedInfo);
  if (held !== null) return held;
  if (sharedInfo.unreachable === null) return null;
  const advice = `${adviceFor(sharedInfo)}; sends answer -EFAULT until then`;
  return { cause: 'shared-info-unreachable', verdict: `shared_info ${unreachable(sharedInfo)}`, advice };
}

/** A mapping is gone and cannot come back before whoever changes something has done so. [KX-GPC-32] */
function invalidated({ invalidations, brackets }: Look, what: string, { mapped }: Place): Finding | null {
  if (invalidations === 0 || mapped) return null;
  const [agent] = brackets;
  if (agent !== undefined) {
    return {
      cause: 'invalidation-waits',
      verdict: `${what} is not mapped: a change of the mappings waits for the bracket of agent ${agent}, and all else for that change`,
      advice: `let agent ${agent} call leave(), or detachAgent(${agent}) if its thread is dead`,
    };
  }
  return {
    cause: 'invalidation-open',
    verdict: `${what} is not mapped, and cannot be while ${invalidations} invalidation${invalidations > 1 ? 's are' : ' is'} open`,
    advice: 'call invalidateEnd() once for each invalidateStart(); sends answer -EAGAIN until then',
  };
}

function maskedPort(look: Look): Finding | null {
  const { port, pending, masked, vcpus, target } = look;
  if (!pending) return notPending(look);
  if (!masked) return null;
  const poller = vcpus.find(({ index, polls }) => index !== target && (polls === port || polls === 'several'));
  if (poller !== undefined) {
    return {
      cause: 'polled-by-another',
      verdict: `it is pending and masked, and vCPU ${poller.index} polls, but only vCPU ${target} is told of a masked port`,
      advice: `bindVcpu(${port}, ${poller.index}), or poll on vCPU ${target}`,
    };
  }
  return {
    cause: 'masked',
    verdict: 'it is pending, but the guest has masked it',
    advice: `unmask it: vm.unmask(${port}), or the guest clears the mask bit and raises what is pending`,
  };
}

function notPending(look: Look): Finding {
  return (
    strangerNamed(look.sources) ??
    ofTimers(look) ?? {
      cause: 'not-pending',
      verdict: 'it is not pending: nobody has raised it, or its event was taken',
      advice: 'look at the result of the send; after a drain the event is with the handler',
    }
  );
}

/** Raising by what names a vCPU that there is not is refused. [KX-EVA-12, KX-RTE-02] */
function strangerNamed(sources: readonly Source[]): Finding | null {
  const source = sources.find(({ known }) => !known);
  if (source === undefined) return null;
  return {
    cause: 'unknown-vcpu',
    verdict: `it is not pending, and ${source.name} leads to it on vCPU id ${source.vcpu}, which there is not`,
    advice: 'vCPUs are named by KVM id (createVm({ vcpuIds })): change the one or the other',
  };
}

function ofTimers({ timers, now }: Look): Finding | null {
  const timer = timers.find(({ armed }) => armed);
  if (timer === undefined) return null;
  if (timer.waits) {
    return {
      cause: 'timer-waits',
      verdict: `${timer.name} has expired where shared_info could not be mapped, and waits for its vCPU to deliver it`,
      advice: 'call beforeEntry() of the vCPU, with intercepted hypercalls and an open gate',
    };
  }
  const left = (timer.deadline ?? 0n) - now;
  if (left > 0n) {
    return {
      cause: 'timer-armed',
      verdict: `it is not pending: ${timer.name} raises it in ${left} ns`,
      advice: 'wait, and let somebody call vm.tick(), as driveTimers does',
    };
  }
  return {
    cause: 'timer-due',
    verdict: `${timer.name} is due for ${-left} ns, and nobody has called tick()`,
    advice: 'call vm.tick() at vm.nextDeadline(), or let driveTimers do it',
  };
}

function unselected({ vcpus, target, bound }: Look): Finding | null {
  const vcpu = vcpus[target];
  if (vcpu === undefined || vcpu.selected || vcpu.shadowed) return null;
  const other = vcpus.find(({ selected, shadowed }) => selected || shadowed);
  if (bound && other !== undefined) {
    return {
      cause: 'selected-elsewhere',
      verdict: `it is bound to vCPU ${target}, but it is vCPU ${other.index} whose selector has the bit of its word`,
      advice: `another port of that word may be meant; if not, vm.vcpu(${target}).resync() makes vCPU ${target} look`,
    };
  }
  return {
    cause: 'not-selected',
    verdict: `it is pending and not masked, but no selector has the bit of its word: vCPU ${target} is about to handle it, or nobody told the vCPU`,
    advice: `who clears a mask bit has to look at pending (vm.unmask does); vm.vcpu(${target}).resync() makes the vCPU look`,
  };
}

function shadowed(look: Look): Finding | null {
  const { target, vcpus } = look;
  const vcpu = vcpus[target];
  if (vcpu === undefined || vcpu.selected) return null;
  const kept = 'its selector bit is kept aside';
  if (!vcpu.info.registered) {
    return {
      cause: 'no-vcpu-info',
      verdict: `vCPU ${target} has no vcpu_info registered, so ${kept}`,
      advice: `set the attribute vcpu_info of vCPU ${target}`,
    };
  }
  const held = invalidated(look, `vcpu_info of vCPU ${target}`, vcpu.info);
  if (held !== null) return held;
  if (vcpu.info.unreachable !== null) {
    return {
      cause: 'vcpu-info-unreachable',
      verdict: `vcpu_info of vCPU ${target} ${unreachable(vcpu.info)}, so ${kept}`,
      advice: adviceFor(vcpu.info),
    };
  }
  // A guest with a vector waits for its vCPU's entry, which does nothing then; a thread that drains needs no gate.
  if (!look.gateOpen && (vcpu.vector || look.vmVector))
    return closedGate(`vcpu_info of vCPU ${target} can be reached again, but ${kept}`);
  return {
    cause: 'shadow-waits',
    verdict: `vcpu_info of vCPU ${target} can be reached again, but the vCPU has not looked since, and ${kept}`,
    advice: `drain(), upcallPending, beforeEntry() or flushShadow() of vCPU ${target} moves it there`,
  };
}

function byteCleared({ target, vcpus }: Look): Finding | null {
  const vcpu = vcpus[target];
  if (vcpu === undefined || vcpu.upcall) return null;
  return {
    cause: 'upcall-taken',
    verdict: `the guest has cleared the upcall byte of vCPU ${target} and not taken its selector yet: its upcall handler is at work, or has stopped`,
    advice: `look what the guest does; vm.vcpu(${target}).resync() asks again`,
  };
}

function sleeping(look: Look): Finding | null {
  const vcpu = look.vcpus[look.target];
  if (vcpu === undefined) return null;
  if (vcpu.polls !== null) {
    return {
      cause: 'polling',
      verdict: `vCPU ${vcpu.index} is in a poll for ${pollText(vcpu.polls)}, which this event ends, and has not gone on yet`,
      advice: 'call beforeEntry() of the vCPU, or let its poll() return',
    };
  }
  if (!vcpu.flagged) return null;
  return {
    cause: 'asleep',
    verdict: `agent ${vcpu.sleeper ?? '?'} sleeps for vCPU ${vcpu.index}, although the guest is asked for an upcall`,
    advice: `it looks again within a second; vm.vcpu(${vcpu.index}).kick() wakes it now`,
  };
}

/** Everything is set: what turns the byte into an interrupt. [KX-EVT-45, 48, 49] */
function interrupt(look: Look): Finding | null {
  const vcpu = look.vcpus[look.target];
  if (vcpu === undefined) return null;
  return vcpu.vector === 0 ? byVm(look, vcpu) : byOwn(look, vcpu);
}

function byVm(look: Look, vcpu: VcpuLook): Finding {
  const { vmVector, irqchip } = look;
  const asked = `vCPU ${vcpu.index} is asked for an upcall`;
  if (vmVector === 0) return heldOff(vcpu, asked) ?? noVector(look, vcpu);
  if (!look.gateOpen) return closedGate(asked);
  if (!irqchip) {
    return {
      cause: 'no-irqchip',
      verdict: `${asked}, but this VM was made with irqchip: false, so the VM's upcall vector is not injected here`,
      advice: 'inject the vector yourself while upcallPending, or make the VM with its interrupt controller',
    };
  }
  return (
    heldOff(vcpu, asked) ?? {
      cause: 'waits-for-entry',
      verdict: `${asked}, and its vCPU has to enter the guest with interrupts on to get vector ${vmVector}`,
      advice: 'call beforeEntry() and inject its externalInterrupt; it stays until the guest clears the upcall byte',
    }
  );
}

function byOwn({ vmVector }: Look, vcpu: VcpuLook): Finding {
  const { index, vector } = vcpu;
  const asked = `vCPU ${index} is asked for an upcall`;
  if (vcpu.lapicOff) {
    return {
      cause: 'lapic-off',
      verdict: `${asked}, but its local APIC is software-disabled and does not take its vector ${vector}`,
      advice: 'the vector comes when the guest enables its APIC: setLapicEnabled(true)',
    };
  }
  const held = heldOff(vcpu, asked);
  if (held !== null) return held;
  if (vcpu.vectorDue) {
    return {
      cause: 'vector-due',
      verdict: `${asked}, and its vector ${vector} is due, but nobody has taken it`,
      advice: 'call beforeEntry() and inject its lapicInterrupt, or takeUpcallVector()',
    };
  }
  return {
    cause: 'vector-taken',
    verdict: `${asked}, and its vector ${vector} was taken already: it is with the embedder's local APIC`,
    advice: `look into the APIC of the vCPU (IRR, ISR, TPR)${vmVector ? '; the VM’s vector is set as well' : ''}`,
  };
}

function heldOff({ index, upcallMask }: VcpuLook, asked: string): Finding | null {
  if (!upcallMask) return null;
  return {
    cause: 'upcall-masked',
    verdict: `${asked}, but its guest has set the upcall mask byte and takes none`,
    advice: `the guest has to clear evtchn_upcall_mask of vCPU ${index}`,
  };
}

function noVector({ shared }: Look, { index, listener }: VcpuLook): Finding {
  const who = shared ? 'wait(), waitAsync()' : `${listener ? 'the listener, ' : 'onUpcall(), '}upcallPending`;
  return {
    cause: 'no-vector',
    verdict: `vCPU ${index} is asked for an upcall, but no upcall vector is set, so only a thread that looks finds it`,
    advice: `call drain() where ${who} says so, or set an upcall_vector`,
  };
}

function closedGate(sentence: string): Finding {
  return {
    cause: 'gate-closed',
    verdict: `${sentence}: the configuration has no MSR, and without one nothing happens by itself`,
    advice: 'setConfig({ msr, ... }) opens the gate',
  };
}

// ── words ──────────────────────────────────────────────────────────────────────────────────────────────────────────

function unreachable({ address, unreachable: why }: Place): string {
  switch (why) {
    case 'no-slot':
      return `is at ${address}, where there is no memory slot`;
    case 'readonly-slot':
      return `is at ${address}, in a memory slot that is read-only`;
    case 'absent-page':
      return `is at ${address}, whose host page is absent`;
    case 'readonly-page':
      return `is at ${address}, whose host page is read-only`;
    default:
      return `is at ${address}, which is outside the guest-RAM window`;
  }
}

function adviceFor({ unreachable: why }: Place): string {
  switch (why) {
    case 'no-slot':
      return 'make a memory slot there (vm.memslots.set), or register it elsewhere';
    case 'readonly-slot':
      return 'register it in a slot that can be written';
    case 'absent-page':
    case 'readonly-page':
      return 'map the page (vm.hostPages.map), or give createVm an onPageFault that does';
    default:
      return 'let the memory slot lead into the window, or register it elsewhere';
  }
}
