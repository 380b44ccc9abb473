// EVTCHNOP_send where the kernel alone cannot deliver: another memory, code on the host, pages that are away. [XE-OP-70]

import { EAGAIN, EFAULT, EINVAL, ENXIO } from '../abi/errno.ts';
import { PEER_AGENT, PEER_REGION, PORT_INTERDOMAIN, XEN_ELSEWHERE } from '../abi/xen_port.ts';
import { reading } from '../vm/events/event.ts';
import type { Vm } from '../vm/vm.ts';
import type { Domain } from './domain.ts';

/** How often the receiver's pages are mapped and the send begun again before it reports EAGAIN. */
const SEND_TRIES = 4;

/** @returns 0, or a negative errno as `Domain.send` @internal */
export function sendSlow(domain: Domain, port: number): number {
  const send = (): number => sendOnce(domain, port);
  let result = send();
  for (let i = 0; i < SEND_TRIES && result === -EAGAIN; i++) {
    result = receiverOf(domain, port).retry(send);
    // Also what a retry says when shared_info was deregistered in between: then the event is kept for later.
    if (result === -EINVAL) result = send();
  }
  return result;
}

function sendOnce(domain: Domain, port: number): number {
  const { vm } = domain;
  let callHost: (() => number) | null = null;
  // All of it in one bracket of the sender's: a close of either end waits for it. [XE-MOD-43]
  const result = reading(vm, () => {
    const done = vm.kernel.xenSend(vm.vmBase, vm.agent, domain.peers, port);
    if (done !== XEN_ELSEWHERE) return done;
    const { dom, number } = domain.table.load(port);
    callHost = domain.xen.listenerOf(domain, dom, number);
    return callHost ? 0 : sendTo(domain, dom, number);
  });
  // Outside: it may close channels. [XE-OP-70]
  return callHost === null ? result : (callHost as () => number)();
}

/** In a bracket. */
function sendTo(domain: Domain, dom: number, port: number): number {
  const peer = domain.xen.find(dom);
  if (!peer || peer.vm.detached) return -ENXIO;
  if (peer.vm.memory === domain.vm.memory) learn(domain, peer);
  const raised = peer.vm.kernel.xenRaise(peer.vm.vmBase, peer.vm.agent, port);
  return raised === -EAGAIN || raised === -EFAULT ? raised : 0;
}

/** The kernel finds this agent's record in the peer's region by itself from now on. */
function learn(domain: Domain, peer: Domain): void {
  const { words } = domain.vm.region;
  const entry = domain.peerEntry(peer.domid);
  words.store(entry + PEER_AGENT, peer.vm.agent | 0);
  words.store(entry + PEER_REGION, (peer.vm.vmBase + 1) | 0);
}

/** This agent's record there is not its own any more. @internal */
export function forget(domain: Domain, peer: Domain): void {
  if (domain.vm.detached) return;
  const { words } = domain.vm.region;
  const entry = domain.peerEntry(peer.domid);
  if (words.load(entry + PEER_REGION) === ((peer.vm.vmBase + 1) | 0)) words.store(entry + PEER_REGION, 0);
}

/** Whose page was away. */
function receiverOf(domain: Domain, port: number): Vm {
  const { state, dom } = domain.table.load(port);
  return (state === PORT_INTERDOMAIN ? domain.xen.find(dom)?.vm : undefined) ?? domain.vm;
}
