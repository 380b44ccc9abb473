// Interrupt routes and explicit sends: kvm_irq_routing and its entries, kvm_irq_routing_xen_evtchn, kvm_irqfd, kvm_irq_level.
// [KX-ABI-43, KX-RTE-01..31]

/** u32 number of entries, u32 flags; the entries follow */
export const ROUTING_NR = 0;
export const ROUTING_FLAGS = 4;
export const ROUTING_HEADER_SIZE = 8;

/** u32 each, then 32 bytes that depend on the type */
export const ROUTING_ENTRY_SIZE = 48;
export const ROUTING_ENTRY_GSI = 0;
export const ROUTING_ENTRY_TYPE = 4;
export const ROUTING_ENTRY_FLAGS = 8;
export const ROUTING_ENTRY_VALUE = 16;

export const ROUTING_IRQCHIP = 1;
export const ROUTING_MSI = 2;
export const ROUTING_XEN_EVTCHN = 5;

/** of IRQCHIP: u32 chip, u32 pin of it */
export const IRQCHIP_CHIP = 0;
export const IRQCHIP_PIN = 4;
/** the chips that a PC has, and how many pins each PIC and the I/O APIC has */
export const IRQCHIP_PIC_MASTER = 0;
export const IRQCHIP_PIC_SLAVE = 1;
export const IRQCHIP_IOAPIC = 2;
export const PIC_PINS = 8;
export const IOAPIC_PINS = 24;

/** of MSI: u64 address, u32 data, u32 device, which counts with the flag */
export const MSI_ADDRESS = 0;
export const MSI_DATA = 8;
export const MSI_DEVICE = 12;
export const MSI_VALID_DEVICE = 1;

/** of XEN_EVTCHN, and of EVTCHN_SEND: u32 port, u32 vCPU (KVM's id), u32 priority */
export const XEN_EVTCHN_SIZE = 12;
export const XEN_EVTCHN_PORT = 0;
export const XEN_EVTCHN_VCPU = 4;
export const XEN_EVTCHN_PRIORITY = 8;

/** struct kvm_irqfd: u32 fd, u32 gsi, u32 flags */
export const IRQFD_SIZE = 32;
export const IRQFD_FD = 0;
export const IRQFD_GSI = 4;
export const IRQFD_FLAGS = 8;
export const IRQFD_DEASSIGN = 1;

/** struct kvm_irq_level: u32 gsi, u32 level */
export const IRQ_LEVEL_SIZE = 8;
export const IRQ_LEVEL_GSI = 0;
export const IRQ_LEVEL_LEVEL = 4;
