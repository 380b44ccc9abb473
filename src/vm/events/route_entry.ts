// One interrupt route: as an object, and as struct kvm_irq_routing_entry. [KX-ABI-43, KX-RTE-01..03]

import { PRIORITY_2LEVEL } from '../../abi/attribute.ts';
import { MAX_GSI } from '../../abi/region.ts';
import {
  IOAPIC_PINS,
  IRQCHIP_CHIP,
  IRQCHIP_IOAPIC,
  IRQCHIP_PIN,
  MSI_ADDRESS,
  MSI_DATA,
  MSI_DEVICE,
  MSI_VALID_DEVICE,
  PIC_PINS,
  ROUTING_ENTRY_FLAGS,
  ROUTING_ENTRY_GSI,
  ROUTING_ENTRY_SIZE,
  ROUTING_ENTRY_TYPE,
  ROUTING_ENTRY_VALUE,
  ROUTING_IRQCHIP,
  ROUTING_MSI,
  ROUTING_XEN_EVTCHN,
  XEN_EVTCHN_PORT,
  XEN_EVTCHN_PRIORITY,
  XEN_EVTCHN_VCPU,
} from '../../abi/routing.ts';
import { checkRange, EvtchnError } from '../../errors.ts';
import { is2Level } from './event.ts';

/** An interrupt that raises a port on a vCPU (KVM's id). Neither has to exist yet: both are looked at when it is raised. */
export interface EvtchnRoute {
  readonly gsi: number;
  readonly type: 'xen_evtchn';
  /** u32 */
  readonly port: number;
  /** u32 */
  readonly vcpu: number;
  /** PRIORITY_2LEVEL, -1, by default: there is no other */
  readonly priority?: number;
}

/** An interrupt that is a pin of an interrupt controller, which is the embedder's. */
export interface IrqchipRoute {
  readonly gsi: number;
  readonly type: 'irqchip';
  /** 0 and 1: the two PICs, with 8 pins each; 2: the I/O APIC, with 24 */
  readonly irqchip: number;
  readonly pin: number;
}

/** An interrupt that is a message to the local APICs, which are the embedder's. */
export interface MsiRoute {
  readonly gsi: number;
  readonly type: 'msi';
  /** u64 */
  readonly address: bigint;
  /** u32 */
  readonly data: number;
  /** who sends it, u32, where that matters */
  readonly device?: number;
}

/** What an interrupt does; `gsi` is 0..4095. */
export type IrqRoute = EvtchnRoute | IrqchipRoute | MsiRoute;

/** The words of an entry. */
const WORDS = ROUTING_ENTRY_SIZE / 4;
const U32_MAX = 2 ** 32 - 1;

/** Throws EINVAL for a value out of range. Port and vCPU are not looked at. [KX-RTE-01, 02] @internal */
export function checkRoute(route: IrqRoute): void {
  checkRange('the gsi of a route', route.gsi, 0, MAX_GSI - 1);
  switch (route.type) {
    case 'xen_evtchn':
      checkRange('the port of a route', route.port, 0, U32_MAX);
      checkRange('the vCPU of a route', route.vcpu, 0, U32_MAX);
      if (!is2Level(route.priority)) {
        throw new EvtchnError(
          'EINVAL',
          `the priority of a route is ${String(route.priority)}, allowed is ${PRIORITY_2LEVEL}: there is one priority`,
        );
      }
      return;
    case 'irqchip':
      checkRange('the chip of a route', route.irqchip, 0, IRQCHIP_IOAPIC);
      checkRange('the pin of a route', route.pin, 0, (route.irqchip === IRQCHIP_IOAPIC ? IOAPIC_PINS : PIC_PINS) - 1);
      return;
    case 'msi':
      if (typeof route.address !== 'bigint' || BigInt.asUintN(64, route.address) !== route.address) {
        throw new EvtchnError('EINVAL', `the address of a route is ${String(route.address)}, allowed are u64 bigints`);
      }
      checkRange('the data of a route', route.data, 0, U32_MAX);
      if (route.device !== undefined) checkRange('the device of a route', route.device, 0, U32_MAX);
      return;
    default:
      throw new EvtchnError(
        'EINVAL',
        `a route has type ${String((route as { type: unknown }).type)}, allowed are xen_evtchn, irqchip and msi`,
      );
  }
}

/** Writes the words of an entry that was checked. @internal */
export function storeRoute(route: IrqRoute, store: (offset: number, value: number) => void): void {
  const entry = new DataView(new ArrayBuffer(ROUTING_ENTRY_SIZE));
  const put = (offset: number, value: number): void => entry.setUint32(offset, value, true);
  put(ROUTING_ENTRY_GSI, route.gsi);
  switch (route.type) {
    case 'xen_evtchn':
      put(ROUTING_ENTRY_TYPE, ROUTING_XEN_EVTCHN);
      put(ROUTING_ENTRY_VALUE + XEN_EVTCHN_PORT, route.port);
      put(ROUTING_ENTRY_VALUE + XEN_EVTCHN_VCPU, route.vcpu);
      put(ROUTING_ENTRY_VALUE + XEN_EVTCHN_PRIORITY, PRIORITY_2LEVEL);
      break;
    case 'irqchip':
      put(ROUTING_ENTRY_TYPE, ROUTING_IRQCHIP);
      put(ROUTING_ENTRY_VALUE + IRQCHIP_CHIP, route.irqchip);
      put(ROUTING_ENTRY_VALUE + IRQCHIP_PIN, route.pin);
      break;
    case 'msi':
      put(ROUTING_ENTRY_TYPE, ROUTING_MSI);
      put(ROUTING_ENTRY_FLAGS, route.device === undefined ? 0 : MSI_VALID_DEVICE);
      entry.setBigUint64(ROUTING_ENTRY_VALUE + MSI_ADDRESS, route.address, true);
      put(ROUTING_ENTRY_VALUE + MSI_DATA, route.data);
      put(ROUTING_ENTRY_VALUE + MSI_DEVICE, route.device ?? 0);
  }
  for (let i = 0; i < WORDS; i++) store(i * 4, entry.getInt32(i * 4, true));
}

/**
 * Reads an entry by its words (as u32). Throws EINVAL for flags or a type that are not known; what else an entry from outside
 * says is for `checkRoute`. @internal
 */
export function loadRoute(load: (offset: number) => number): IrqRoute {
  const gsi = load(ROUTING_ENTRY_GSI);
  const flags = load(ROUTING_ENTRY_FLAGS);
  const type = load(ROUTING_ENTRY_TYPE);
  const value = (offset: number): number => load(ROUTING_ENTRY_VALUE + offset);
  if (flags & ~(type === ROUTING_MSI ? MSI_VALID_DEVICE : 0)) {
    throw new EvtchnError('EINVAL', `the route of gsi ${gsi} has flags 0x${flags.toString(16)}, which are not known`);
  }
  switch (type) {
    case ROUTING_XEN_EVTCHN: {
      const route = { gsi, type: 'xen_evtchn', port: value(XEN_EVTCHN_PORT), vcpu: value(XEN_EVTCHN_VCPU) } as const;
      const priority = value(XEN_EVTCHN_PRIORITY);
      return is2Level(priority) ? route : { ...route, priority };
    }
    case ROUTING_IRQCHIP:
      return { gsi, type: 'irqchip', irqchip: value(IRQCHIP_CHIP), pin: value(IRQCHIP_PIN) };
    case ROUTING_MSI: {
      const address = BigInt(value(MSI_ADDRESS)) | (BigInt(value(MSI_ADDRESS + 4)) << 32n);
      const route = { gsi, type: 'msi', address, data: value(MSI_DATA) } as const;
      return flags & MSI_VALID_DEVICE ? { ...route, device: value(MSI_DEVICE) } : route;
    }
    default:
      throw new EvtchnError('EINVAL', `the route of gsi ${gsi} has type ${type}, which is not known`);
  }
}
