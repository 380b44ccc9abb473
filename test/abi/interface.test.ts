// What a VMM sees, in literal numbers: structures and numbers of the kernel's interface. [kvm-xen section 1, KX-ABI-40..45]

import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import * as attribute from '../../src/abi/attribute.ts';
import * as errno from '../../src/abi/errno.ts';
import * as exit from '../../src/abi/exit.ts';
import * as hvmConfig from '../../src/abi/hvm_config.ts';
import * as ioctl from '../../src/abi/ioctl.ts';
import * as memoryRegion from '../../src/abi/memory_region.ts';
import * as routing from '../../src/abi/routing.ts';

/** Each row: requirement, what it is, the number found and the one that it has to be. */
type Row = readonly [id: string, what: string, found: number, expected: number];

const ATTRIBUTE: Row[] = [
  ['KX-ABI-41', 'size', attribute.ATTR_SIZE, 72],
  ['KX-ABI-41', 'type', attribute.ATTR_TYPE, 0],
  ['KX-ABI-41', 'the union', attribute.ATTR_VALUE, 8],
  ['KX-ABI-41', 'LONG_MODE', attribute.HVM_ATTR_LONG_MODE, 0],
  ['KX-ABI-41', 'SHARED_INFO', attribute.HVM_ATTR_SHARED_INFO, 1],
  ['KX-ABI-41', 'UPCALL_VECTOR', attribute.HVM_ATTR_UPCALL_VECTOR, 2],
  ['KX-ABI-41', 'EVTCHN', attribute.HVM_ATTR_EVTCHN, 3],
  ['KX-ABI-41', 'XEN_VERSION', attribute.HVM_ATTR_XEN_VERSION, 4],
  ['KX-ABI-41', 'RUNSTATE_UPDATE_FLAG', attribute.HVM_ATTR_RUNSTATE_UPDATE_FLAG, 5],
  ['KX-ABI-41', 'SHARED_INFO_HVA', attribute.HVM_ATTR_SHARED_INFO_HVA, 6],
  ['KX-ABI-41', 'evtchn.send_port', attribute.ATTR_EVTCHN_SEND_PORT, 8],
  ['KX-ABI-41', 'evtchn.type', attribute.ATTR_EVTCHN_TYPE, 12],
  ['KX-ABI-41', 'evtchn.flags', attribute.ATTR_EVTCHN_FLAGS, 16],
  ['KX-ABI-41', 'evtchn.deliver.port.port', attribute.ATTR_EVTCHN_PORT, 20],
  ['KX-ABI-41', 'evtchn.deliver.port.vcpu', attribute.ATTR_EVTCHN_VCPU, 24],
  ['KX-ABI-41', 'evtchn.deliver.port.priority', attribute.ATTR_EVTCHN_PRIORITY, 28],
  ['KX-ABI-41', 'evtchn.deliver.eventfd.fd', attribute.ATTR_EVTCHN_FD, 24],
  ['KX-EVA-01', 'assign', attribute.EVTCHN_ASSIGN, 0],
  ['KX-EVA-01', 'DEASSIGN', attribute.EVTCHN_DEASSIGN, 1],
  ['KX-EVA-01', 'UPDATE', attribute.EVTCHN_UPDATE, 2],
  ['KX-EVA-01', 'RESET', attribute.EVTCHN_RESET, 4],
  ['KX-EVA-10', 'closed', attribute.EVTCHNSTAT_CLOSED, 0],
  ['KX-EVA-10', 'unbound', attribute.EVTCHNSTAT_UNBOUND, 1],
  ['KX-EVA-08', 'interdomain', attribute.EVTCHNSTAT_INTERDOMAIN, 2],
  ['KX-EVA-10', 'pirq', attribute.EVTCHNSTAT_PIRQ, 3],
  ['KX-EVA-10', 'virq', attribute.EVTCHNSTAT_VIRQ, 4],
  ['KX-EVA-07', 'ipi', attribute.EVTCHNSTAT_IPI, 5],
  ['KX-ABI-45', 'priority 2LEVEL, as u32', attribute.PRIORITY_2LEVEL >>> 0, 0xffffffff],
  ['KX-ABI-42', 'VCPU_INFO', attribute.VCPU_ATTR_VCPU_INFO, 0],
  ['KX-ABI-42', 'VCPU_TIME_INFO', attribute.VCPU_ATTR_VCPU_TIME_INFO, 1],
  ['KX-ABI-42', 'RUNSTATE_ADDR', attribute.VCPU_ATTR_RUNSTATE_ADDR, 2],
  ['KX-ABI-42', 'RUNSTATE_CURRENT', attribute.VCPU_ATTR_RUNSTATE_CURRENT, 3],
  ['KX-ABI-42', 'RUNSTATE_DATA', attribute.VCPU_ATTR_RUNSTATE_DATA, 4],
  ['KX-ABI-42', 'RUNSTATE_ADJUST', attribute.VCPU_ATTR_RUNSTATE_ADJUST, 5],
  ['KX-ABI-42', 'VCPU_ID', attribute.VCPU_ATTR_VCPU_ID, 6],
  ['KX-ABI-42', 'TIMER', attribute.VCPU_ATTR_TIMER, 7],
  ['KX-ABI-42', 'UPCALL_VECTOR', attribute.VCPU_ATTR_UPCALL_VECTOR, 8],
  ['KX-ABI-42', 'VCPU_INFO_HVA', attribute.VCPU_ATTR_VCPU_INFO_HVA, 9],
  ['KX-ABI-42', 'runstate.state', attribute.ATTR_RUNSTATE_STATE, 8],
  ['KX-ABI-42', 'runstate.state_entry_time', attribute.ATTR_RUNSTATE_ENTRY_TIME, 16],
  ['KX-ABI-42', 'runstate.time_running', attribute.ATTR_RUNSTATE_TIMES, 24],
  ['KX-ABI-42', 'timer.port', attribute.ATTR_TIMER_PORT, 8],
  ['KX-ABI-42', 'timer.priority', attribute.ATTR_TIMER_PRIORITY, 12],
  ['KX-ABI-42', 'timer.expires_ns', attribute.ATTR_TIMER_EXPIRES, 16],
];

const HVM_CONFIG: Row[] = [
  ['KX-ABI-40', 'size', hvmConfig.HVM_CONFIG_SIZE, 56],
  ['KX-ABI-40', 'flags', hvmConfig.HVM_CONFIG_FLAGS, 0],
  ['KX-ABI-40', 'msr', hvmConfig.HVM_CONFIG_MSR, 4],
  ['KX-ABI-40', 'blob_addr_32', hvmConfig.HVM_CONFIG_BLOB_COMPAT, 8],
  ['KX-ABI-40', 'blob_addr_64', hvmConfig.HVM_CONFIG_BLOB_LONG, 16],
  ['KX-ABI-40', 'blob_size_32', hvmConfig.HVM_CONFIG_BLOB_PAGES_COMPAT, 24],
  ['KX-ABI-40', 'blob_size_64', hvmConfig.HVM_CONFIG_BLOB_PAGES_LONG, 25],
  ['KX-CAP-01', 'HYPERCALL_MSR', hvmConfig.CAP_HYPERCALL_MSR, 0x001],
  ['KX-CAP-02', 'INTERCEPT_HCALL', hvmConfig.CAP_INTERCEPT_HCALL, 0x002],
  ['KX-CAP-03', 'SHARED_INFO', hvmConfig.CAP_SHARED_INFO, 0x004],
  ['KX-CAP-04', 'RUNSTATE', hvmConfig.CAP_RUNSTATE, 0x008],
  ['KX-CAP-05', 'EVTCHN_2LEVEL', hvmConfig.CAP_EVTCHN_2LEVEL, 0x010],
  ['KX-CAP-06', 'EVTCHN_SEND', hvmConfig.CAP_EVTCHN_SEND, 0x020],
  ['KX-CAP-07', 'RUNSTATE_UPDATE_FLAG', hvmConfig.CAP_RUNSTATE_UPDATE_FLAG, 0x040],
  ['KX-CAP-08', 'PVCLOCK_TSC_UNSTABLE', hvmConfig.CAP_PVCLOCK_TSC_UNSTABLE, 0x080],
  ['KX-CAP-09', 'SHARED_INFO_HVA', hvmConfig.CAP_SHARED_INFO_HVA, 0x100],
  ['KX-CAP-11', 'flags that may be set', hvmConfig.HVM_CONFIG_FLAGS_ALLOWED, 0x0a2],
  ['KX-CAP-13', 'the first MSR', hvmConfig.HVM_CONFIG_MSR_FIRST, 0x40000000],
  ['KX-CAP-13', 'the last MSR', hvmConfig.HVM_CONFIG_MSR_LAST, 0x4fffffff],
];

const IOCTL: Row[] = [
  ['KX-ABI-45', 'KVM_CAP_XEN_HVM', ioctl.KVM_CAP_XEN_HVM, 38],
  ['KX-CAP-10', 'KVM_CHECK_EXTENSION', ioctl.KVM_CHECK_EXTENSION, 0xae03],
  ['KX-ABI-45', 'KVM_XEN_HVM_CONFIG', ioctl.KVM_XEN_HVM_CONFIG, 0x4038ae7a],
  ['KX-ABI-45', 'KVM_XEN_HVM_GET_ATTR', ioctl.KVM_XEN_HVM_GET_ATTR, 0xc048aec8],
  ['KX-ABI-45', 'KVM_XEN_HVM_SET_ATTR', ioctl.KVM_XEN_HVM_SET_ATTR, 0x4048aec9],
  ['KX-ABI-45', 'KVM_XEN_VCPU_GET_ATTR', ioctl.KVM_XEN_VCPU_GET_ATTR, 0xc048aeca],
  ['KX-ABI-45', 'KVM_XEN_VCPU_SET_ATTR', ioctl.KVM_XEN_VCPU_SET_ATTR, 0x4048aecb],
  ['KX-ABI-45', 'KVM_XEN_HVM_EVTCHN_SEND', ioctl.KVM_XEN_HVM_EVTCHN_SEND, 0x400caed0],
  ['KX-ABI-45', 'KVM_SET_GSI_ROUTING', ioctl.KVM_SET_GSI_ROUTING, 0x4008ae6a],
  ['KX-MEM-10', 'KVM_SET_USER_MEMORY_REGION', ioctl.KVM_SET_USER_MEMORY_REGION, 0x4020ae46],
  ['KX-MEM-35', 'KVM_GET_DIRTY_LOG', ioctl.KVM_GET_DIRTY_LOG, 0x4010ae42],
  ['KX-MEM-36', 'KVM_RESET_DIRTY_RINGS', ioctl.KVM_RESET_DIRTY_RINGS, 0xaec7],
  ['KX-RTE-20', 'KVM_IRQ_LINE', ioctl.KVM_IRQ_LINE, 0x4008ae61],
  ['KX-RTE-21', 'KVM_IRQFD', ioctl.KVM_IRQFD, 0x4020ae76],
  ['KX-CLK-01', 'KVM_SET_CLOCK', ioctl.KVM_SET_CLOCK, 0x4030ae7b],
  ['KX-CLK-01', 'KVM_GET_CLOCK', ioctl.KVM_GET_CLOCK, 0x8030ae7c],
  ['KX-CLK-01', 'kvm_clock_data size', ioctl.CLOCK_DATA_SIZE, 48],
  ['KX-CLK-01', 'kvm_clock_data clock', ioctl.CLOCK_DATA_CLOCK, 0],
  ['KX-CLK-01', 'kvm_clock_data flags', ioctl.CLOCK_DATA_FLAGS, 8],
  ['KX-CLK-01', 'kvm_clock_data realtime', ioctl.CLOCK_DATA_REALTIME, 16],
  ['KX-CLK-01', 'kvm_clock_data host_tsc', ioctl.CLOCK_DATA_HOST_TSC, 24],
  ['KX-CLK-01', 'KVM_CLOCK_TSC_STABLE', ioctl.CLOCK_TSC_STABLE, 2],
  ['KX-CLK-01', 'KVM_CLOCK_REALTIME', ioctl.CLOCK_REALTIME, 4],
  ['KX-CLK-01', 'KVM_CLOCK_HOST_TSC', ioctl.CLOCK_HOST_TSC, 8],
];

const MEMORY_REGION: Row[] = [
  ['KX-MEM-10', 'size', memoryRegion.MEMORY_REGION_SIZE, 32],
  ['KX-MEM-10', 'slot', memoryRegion.MEMORY_REGION_SLOT, 0],
  ['KX-MEM-10', 'flags', memoryRegion.MEMORY_REGION_FLAGS, 4],
  ['KX-MEM-10', 'guest_phys_addr', memoryRegion.MEMORY_REGION_GPA, 8],
  ['KX-MEM-10', 'memory_size', memoryRegion.MEMORY_REGION_BYTES, 16],
  ['KX-MEM-10', 'userspace_addr', memoryRegion.MEMORY_REGION_HVA, 24],
  ['KX-MEM-10', 'LOG_DIRTY_PAGES', memoryRegion.MEM_LOG_DIRTY_PAGES, 1],
  ['KX-MEM-10', 'READONLY', memoryRegion.MEM_READONLY, 2],
  ['KX-MEM-35', 'dirty log size', memoryRegion.DIRTY_LOG_SIZE, 16],
  ['KX-MEM-35', 'dirty log slot', memoryRegion.DIRTY_LOG_SLOT, 0],
];

const ROUTING: Row[] = [
  ['KX-ABI-43', 'header size', routing.ROUTING_HEADER_SIZE, 8],
  ['KX-ABI-43', 'nr', routing.ROUTING_NR, 0],
  ['KX-ABI-43', 'flags', routing.ROUTING_FLAGS, 4],
  ['KX-ABI-43', 'entry size', routing.ROUTING_ENTRY_SIZE, 48],
  ['KX-ABI-43', 'entry gsi', routing.ROUTING_ENTRY_GSI, 0],
  ['KX-ABI-43', 'entry type', routing.ROUTING_ENTRY_TYPE, 4],
  ['KX-ABI-43', 'entry flags', routing.ROUTING_ENTRY_FLAGS, 8],
  ['KX-ABI-43', 'entry union', routing.ROUTING_ENTRY_VALUE, 16],
  ['KX-RTE-03', 'type IRQCHIP', routing.ROUTING_IRQCHIP, 1],
  ['KX-RTE-03', 'type MSI', routing.ROUTING_MSI, 2],
  ['KX-ABI-45', 'type XEN_EVTCHN', routing.ROUTING_XEN_EVTCHN, 5],
  ['KX-RTE-03', 'irqchip chip', routing.IRQCHIP_CHIP, 0],
  ['KX-RTE-03', 'irqchip pin', routing.IRQCHIP_PIN, 4],
  ['KX-RTE-03', 'chip PIC_MASTER', routing.IRQCHIP_PIC_MASTER, 0],
  ['KX-RTE-03', 'chip PIC_SLAVE', routing.IRQCHIP_PIC_SLAVE, 1],
  ['KX-RTE-03', 'chip IOAPIC', routing.IRQCHIP_IOAPIC, 2],
  ['KX-RTE-03', 'pins of a PIC', routing.PIC_PINS, 8],
  ['KX-RTE-03', 'pins of the I/O APIC', routing.IOAPIC_PINS, 24],
  ['KX-RTE-03', 'msi address', routing.MSI_ADDRESS, 0],
  ['KX-RTE-03', 'msi data', routing.MSI_DATA, 8],
  ['KX-RTE-03', 'msi device', routing.MSI_DEVICE, 12],
  ['KX-RTE-03', 'msi VALID_DEVID', routing.MSI_VALID_DEVICE, 1],
  ['KX-ABI-43', 'xen_evtchn size', routing.XEN_EVTCHN_SIZE, 12],
  ['KX-ABI-43', 'xen_evtchn port', routing.XEN_EVTCHN_PORT, 0],
  ['KX-ABI-43', 'xen_evtchn vcpu', routing.XEN_EVTCHN_VCPU, 4],
  ['KX-ABI-43', 'xen_evtchn priority', routing.XEN_EVTCHN_PRIORITY, 8],
  ['KX-RTE-21', 'irqfd size', routing.IRQFD_SIZE, 32],
  ['KX-RTE-21', 'irqfd fd', routing.IRQFD_FD, 0],
  ['KX-RTE-21', 'irqfd gsi', routing.IRQFD_GSI, 4],
  ['KX-RTE-21', 'irqfd flags', routing.IRQFD_FLAGS, 8],
  ['KX-RTE-21', 'irqfd DEASSIGN', routing.IRQFD_DEASSIGN, 1],
  ['KX-RTE-20', 'irq_level size', routing.IRQ_LEVEL_SIZE, 8],
  ['KX-RTE-20', 'irq_level irq', routing.IRQ_LEVEL_GSI, 0],
  ['KX-RTE-20', 'irq_level level', routing.IRQ_LEVEL_LEVEL, 4],
];

const EXIT: Row[] = [
  ['KX-ABI-45', 'KVM_EXIT_XEN', exit.EXIT_XEN, 34],
  ['KX-ABI-45', 'type HCALL', exit.EXIT_XEN_HCALL, 1],
  ['KX-MEM-36', 'KVM_EXIT_DIRTY_RING_FULL', exit.EXIT_DIRTY_RING_FULL, 31],
  ['KX-ABI-44', 'size', exit.XEN_EXIT_SIZE, 80],
  ['KX-ABI-44', 'type', exit.XEN_EXIT_TYPE, 0],
  ['KX-ABI-44', 'longmode', exit.XEN_EXIT_LONG_MODE, 8],
  ['KX-ABI-44', 'cpl', exit.XEN_EXIT_CPL, 12],
  ['KX-ABI-44', 'input', exit.XEN_EXIT_INPUT, 16],
  ['KX-ABI-44', 'result', exit.XEN_EXIT_RESULT, 24],
  ['KX-ABI-44', 'params', exit.XEN_EXIT_PARAMS, 32],
];

const ERRNO: Row[] = (
  [
    ['EPERM', errno.EPERM, 1],
    ['ENOENT', errno.ENOENT, 2],
    ['ESRCH', errno.ESRCH, 3],
    ['EINTR', errno.EINTR, 4],
    ['EIO', errno.EIO, 5],
    ['ENXIO', errno.ENXIO, 6],
    ['E2BIG', errno.E2BIG, 7],
    ['EBADF', errno.EBADF, 9],
    ['EAGAIN', errno.EAGAIN, 11],
    ['ENOMEM', errno.ENOMEM, 12],
    ['EACCES', errno.EACCES, 13],
    ['EFAULT', errno.EFAULT, 14],
    ['EBUSY', errno.EBUSY, 16],
    ['EEXIST', errno.EEXIST, 17],
    ['ENODEV', errno.ENODEV, 19],
    ['EINVAL', errno.EINVAL, 22],
    ['ENOTTY', errno.ENOTTY, 25],
    ['ENOSPC', errno.ENOSPC, 28],
    ['ERANGE', errno.ERANGE, 34],
    ['ENOSYS', errno.ENOSYS, 38],
    ['ETIME', errno.ETIME, 62],
    ['ERESTART', errno.ERESTART, 85],
    ['EOPNOTSUPP', errno.EOPNOTSUPP, 95],
    ['ENOTCONN', errno.ENOTCONN, 107],
  ] as const
).map(([name, found, expected]) => ['Linux', name, found, expected]);

const STRUCTURES = [
  { structure: 'attributes', rows: ATTRIBUTE, module: attribute },
  { structure: 'hvm_config', rows: HVM_CONFIG, module: hvmConfig },
  { structure: 'ioctl numbers', rows: IOCTL, module: ioctl },
  { structure: 'memory regions', rows: MEMORY_REGION, module: memoryRegion },
  { structure: 'interrupt routing', rows: ROUTING, module: routing },
  { structure: 'exits', rows: EXIT, module: exit },
  { structure: 'errno', rows: ERRNO, module: errno },
];

describe.each(STRUCTURES)('$structure', ({ rows, module }) => {
  test.each(rows)('%s %s', (_id, _what, found, expected) => {
    expect(found).toBe(expected);
  });

  test('every constant has a row', () => {
    const pinned = readFileSync('test/abi/interface.test.ts', 'utf8');
    for (const name of Object.keys(module)) expect(pinned, name).toMatch(new RegExp(`\\.${name}\\b`));
    expect(Object.keys(module).length).toBe(rows.length);
  });
});

test('KX-ABI-45 an ioctl number carries the size of its structure', () => {
  const sizeIn = (number: number): number => (number >>> 16) & 0x3fff;
  expect(sizeIn(ioctl.KVM_XEN_HVM_CONFIG)).toBe(hvmConfig.HVM_CONFIG_SIZE);
  for (const number of [
    ioctl.KVM_XEN_HVM_GET_ATTR,
    ioctl.KVM_XEN_HVM_SET_ATTR,
    ioctl.KVM_XEN_VCPU_GET_ATTR,
    ioctl.KVM_XEN_VCPU_SET_ATTR,
  ]) {
    expect(sizeIn(number)).toBe(attribute.ATTR_SIZE);
  }
  expect(sizeIn(ioctl.KVM_XEN_HVM_EVTCHN_SEND)).toBe(routing.XEN_EVTCHN_SIZE);
  expect(sizeIn(ioctl.KVM_SET_GSI_ROUTING)).toBe(routing.ROUTING_HEADER_SIZE);
  expect(sizeIn(ioctl.KVM_SET_USER_MEMORY_REGION)).toBe(memoryRegion.MEMORY_REGION_SIZE);
  expect(sizeIn(ioctl.KVM_GET_DIRTY_LOG)).toBe(memoryRegion.DIRTY_LOG_SIZE);
  expect(sizeIn(ioctl.KVM_IRQ_LINE)).toBe(routing.IRQ_LEVEL_SIZE);
  expect(sizeIn(ioctl.KVM_IRQFD)).toBe(routing.IRQFD_SIZE);
  expect(sizeIn(ioctl.KVM_SET_CLOCK)).toBe(ioctl.CLOCK_DATA_SIZE);
  expect(sizeIn(ioctl.KVM_GET_CLOCK)).toBe(ioctl.CLOCK_DATA_SIZE);
});

test('KX-ABI-42 an attribute holds its largest member', () => {
  expect(attribute.ATTR_RUNSTATE_TIMES + 4 * 8).toBeLessThanOrEqual(attribute.ATTR_SIZE);
  expect(attribute.ATTR_EVTCHN_PORT + 16).toBeLessThanOrEqual(attribute.ATTR_SIZE);
});
