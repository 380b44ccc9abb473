// What was looked at for an explanation, one line each: what it is, what it is now, and what that means.

import type { Look, Place, Source, TimerLook, VcpuLook } from './look.ts';

/** One thing that was looked at. */
export interface ExplanationFact {
  readonly what: string;
  readonly value: string | number | boolean;
  /** what follows from it */
  readonly means: string;
}

/** @internal */
export function factsOf(look: Look): ExplanationFact[] {
  const vcpu = look.vcpus[look.target];
  return [
    ...ofPort(look),
    ...(vcpu === undefined ? [] : ofVcpu(look, vcpu)),
    ...ofVm(look),
    ...look.sources.map(ofSource),
    ...look.timers.map((timer) => ofTimer(timer, look.now)),
    ...look.eventfds.map((fd) => fact(`eventfd ${fd}`, true, 'its signals raise an interrupt that is routed here')),
  ];
}

/** @internal */
export function fact(what: string, value: ExplanationFact['value'], means: string): ExplanationFact {
  return { what, value, means };
}

/** A fact of a page that may be out of reach: what cannot be seen is not denied. */
function seen(what: string, place: Place, value: boolean, yes: string, no: string): ExplanationFact {
  return place.at === null ? fact(what, 'unknown', 'its page cannot be seen') : fact(what, value, value ? yes : no);
}

function ofPort({ bound, target, sharedInfo, pending, masked }: Look): ExplanationFact[] {
  const owner = bound ? 'its upcalls go there, whoever raises it' : 'not bound: the vCPU that an event names, or 0';
  return [
    fact('bound', bound, `vCPU ${target}: ${owner}`),
    fact('shared_info', sharedInfo.address, reach(sharedInfo)),
    seen('pending', sharedInfo, pending, 'it was raised and not taken yet', 'no event waits'),
    seen('masked', sharedInfo, masked, 'the guest wants no upcall for it', 'the guest wants upcalls for it'),
  ];
}

function reach({ registered, mapped, unreachable }: Place): string {
  if (!registered) return 'not registered';
  if (mapped) return 'mapped';
  return unreachable === null ? 'not mapped now; the next use maps it' : `cannot be reached (${unreachable})`;
}

function ofVcpu({ port }: Look, vcpu: VcpuLook): ExplanationFact[] {
  const { index, id, info, polls, sleeper } = vcpu;
  const name = `vCPU ${index}`;
  const facts = [
    fact(`${name} vcpu_info`, info.address, `KVM id ${id}; ${reach(info)}`),
    seen(`${name} selector`, info, vcpu.selected, 'it is told of the word', 'it is not told of the word'),
    fact(
      `${name} shadow`,
      vcpu.shadowed,
      vcpu.shadowed ? 'the bit waits for vcpu_info' : 'nothing waits for vcpu_info',
    ),
    seen(`${name} upcall byte`, info, vcpu.upcall, 'it is asked for an upcall', 'it is not asked for one'),
    seen(`${name} upcall mask`, info, vcpu.upcallMask, 'the guest takes no upcalls', 'the guest takes them'),
  ];
  if (sleeper !== null) facts.push(fact(`${name} sleeper`, sleeper, `agent ${sleeper} sleeps for it`));
  if (polls !== null) {
    const ends = polls === port || polls === 'several' ? 'this port ends it' : 'an upcall ends it';
    facts.push(fact(`${name} poll`, pollText(polls), ends));
  }
  if (vcpu.vector !== 0) {
    const due = vcpu.vectorDue ? 'due' : 'not due';
    facts.push(fact(`${name} vector`, vcpu.vector, `${due}; its local APIC is ${vcpu.lapicOff ? 'off' : 'on'}`));
  }
  return facts;
}

function ofVm({
  vmVector,
  gateOpen,
  irqchip,
  invalidations,
  brackets,
  shared,
  vcpus,
  target,
}: Look): ExplanationFact[] {
  const facts = [
    fact('upcall vector', vmVector, vmVector ? 'of the VM, injected while the byte is set' : 'the VM has none'),
    fact('gate', gateOpen, gateOpen ? 'open: the engine acts by itself' : 'closed: nothing happens by itself'),
    fact('irqchip', irqchip, irqchip ? 'interrupts are injected on this side' : 'interrupts are the embedder’s'),
  ];
  if (invalidations > 0) facts.push(fact('invalidations', invalidations, 'open: nothing can be mapped'));
  for (const agent of brackets) facts.push(fact('bracket', agent, `agent ${agent} is inside: mappings cannot change`));
  if (!shared) {
    const listens = vcpus[target]?.listener ?? false;
    facts.push(fact('listener', listens, listens ? 'is called at the edge of an upcall' : 'nobody is called'));
  }
  return facts;
}

function ofSource({ name, vcpu, known }: Source): ExplanationFact {
  return fact(name, `vCPU id ${vcpu}`, known ? 'leads here' : 'leads here, to a vCPU that there is not: refused');
}

function ofTimer({ name, deadline, armed, waits }: TimerLook, now: bigint): ExplanationFact {
  if (!armed) return fact(name, 'not set', 'would raise it');
  if (waits) return fact(name, 'expired', 'waits for its vCPU to deliver it');
  return fact(name, `in ${(deadline ?? now) - now} ns`, 'raises it at the next tick from then on');
}

/** @internal */
export function pollText(polls: number | 'several' | 'woken'): string {
  if (polls === 'woken') return 'a port that has become pending';
  return polls === 'several' ? 'several ports' : `port ${polls}`;
}
