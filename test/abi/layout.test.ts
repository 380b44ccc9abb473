// What the guest sees, in literal numbers. What a VMM sees is in interface.test.ts. [kvm-xen section 1]

import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import * as hypercall from '../../src/abi/hypercall.ts';
import * as pvclock from '../../src/abi/pvclock.ts';
import * as runstate from '../../src/abi/runstate.ts';
import * as sharedInfo from '../../src/abi/shared_info.ts';
import * as vcpuInfo from '../../src/abi/vcpu_info.ts';

/** Each row: requirement, what it is, the number in the long and in the compat layout. */
type Row = readonly [id: string, what: string, found: [number, number], long: number, compat: number];

const both = (value: number): [number, number] => [value, value];

const SHARED_INFO: Row[] = [
  ['KX-ABI-01', 'vCPU slots', both(sharedInfo.SHARED_INFO_VCPU_SLOTS), 32, 32],
  ['KX-ABI-01', 'bytes of the slots', both(sharedInfo.SHARED_INFO_VCPU_SLOTS * vcpuInfo.VCPU_INFO_SIZE), 2048, 2048],
  ['KX-ABI-02', 'evtchn_pending', both(sharedInfo.SHARED_INFO_PENDING), 0x800, 0x800],
  ['KX-ABI-02', 'words of a bitmap', [sharedInfo.WORDS_LONG, sharedInfo.WORDS_COMPAT], 64, 32],
  ['KX-ABI-02', 'bytes of a word', [sharedInfo.WORD_BYTES_LONG, sharedInfo.WORD_BYTES_COMPAT], 8, 4],
  ['KX-ABI-03', 'evtchn_mask', [sharedInfo.SHARED_INFO_MASK_LONG, sharedInfo.SHARED_INFO_MASK_COMPAT], 0xa00, 0x880],
  ['KX-ABI-04', 'wall clock', [sharedInfo.SHARED_INFO_WC_LONG, sharedInfo.SHARED_INFO_WC_COMPAT], 0xc00, 0x900],
  [
    'KX-ABI-05',
    'wc_sec_hi',
    [sharedInfo.SHARED_INFO_WC_SEC_HI_LONG, sharedInfo.SHARED_INFO_WC_SEC_HI_COMPAT],
    0xc0c,
    0x924,
  ],
  ['KX-ABI-06', 'size', [sharedInfo.SHARED_INFO_SIZE_LONG, sharedInfo.SHARED_INFO_SIZE_COMPAT], 3136, 2344],
  [
    'KX-ABI-06',
    'size of arch_shared_info',
    [sharedInfo.ARCH_SHARED_INFO_SIZE_LONG, sharedInfo.ARCH_SHARED_INFO_SIZE_COMPAT],
    48,
    28,
  ],
  ['KX-ABI-07', 'ports', [sharedInfo.PORTS_LONG, sharedInfo.PORTS_COMPAT], 4096, 1024],
  ['KX-ABI-01', 'page', both(sharedInfo.PAGE_SIZE), 4096, 4096],
];

/** Fields of arch_shared_info as offsets in the page. */
const ARCH: Row[] = (
  [
    ['max_pfn', [sharedInfo.ARCH_MAX_PFN, sharedInfo.ARCH_MAX_PFN], 0xc10, 0x90c],
    [
      'pfn_to_mfn_frame_list_list',
      [sharedInfo.ARCH_PFN_TO_MFN_LIST_LONG, sharedInfo.ARCH_PFN_TO_MFN_LIST_COMPAT],
      0xc18,
      0x910,
    ],
    ['nmi_reason', [sharedInfo.ARCH_NMI_REASON_LONG, sharedInfo.ARCH_NMI_REASON_COMPAT], 0xc20, 0x914],
    ['p2m_cr3', [sharedInfo.ARCH_P2M_CR3_LONG, sharedInfo.ARCH_P2M_CR3_COMPAT], 0xc28, 0x918],
    ['p2m_vaddr', [sharedInfo.ARCH_P2M_VADDR_LONG, sharedInfo.ARCH_P2M_VADDR_COMPAT], 0xc30, 0x91c],
    ['p2m_generation', [sharedInfo.ARCH_P2M_GENERATION_LONG, sharedInfo.ARCH_P2M_GENERATION_COMPAT], 0xc38, 0x920],
  ] as const
).map(([what, [long, compat], atLong, atCompat]) => [
  'KX-ABI-06',
  `arch.${what}`,
  [sharedInfo.ARCH_SHARED_INFO_LONG + long, sharedInfo.ARCH_SHARED_INFO_COMPAT + compat],
  atLong,
  atCompat,
]);

const VCPU_INFO: Row[] = [
  ['KX-ABI-10', 'size', both(vcpuInfo.VCPU_INFO_SIZE), 64, 64],
  ['KX-ABI-10', 'evtchn_upcall_pending', both(vcpuInfo.VCPU_INFO_UPCALL_PENDING), 0, 0],
  ['KX-ABI-10', 'evtchn_upcall_mask', both(vcpuInfo.VCPU_INFO_UPCALL_MASK), 1, 1],
  ['KX-ABI-11', 'evtchn_pending_sel', [vcpuInfo.VCPU_INFO_SELECTOR_LONG, vcpuInfo.VCPU_INFO_SELECTOR_COMPAT], 8, 4],
  ['KX-ABI-11', 'arch.cr2', [vcpuInfo.VCPU_INFO_CR2_LONG, vcpuInfo.VCPU_INFO_CR2_COMPAT], 16, 8],
  ['KX-ABI-12', 'time', both(vcpuInfo.VCPU_INFO_TIME), 32, 32],
];

const CLOCKS: Row[] = [
  ['KX-ABI-15', 'pvclock size', both(pvclock.PVCLOCK_SIZE), 32, 32],
  ['KX-ABI-15', 'version', both(pvclock.PVCLOCK_VERSION), 0, 0],
  ['KX-ABI-15', 'tsc_timestamp', both(pvclock.PVCLOCK_TSC_TIMESTAMP), 8, 8],
  ['KX-ABI-15', 'system_time', both(pvclock.PVCLOCK_SYSTEM_TIME), 16, 16],
  ['KX-ABI-15', 'tsc_to_system_mul', both(pvclock.PVCLOCK_MUL), 24, 24],
  ['KX-ABI-15', 'tsc_shift', both(pvclock.PVCLOCK_SHIFT), 28, 28],
  ['KX-ABI-15', 'flags', both(pvclock.PVCLOCK_FLAGS), 29, 29],
  ['KX-ABI-15', 'TSC_STABLE', both(pvclock.PVCLOCK_TSC_STABLE), 1, 1],
  ['KX-ABI-15', 'GUEST_STOPPED', both(pvclock.PVCLOCK_GUEST_STOPPED), 2, 2],
  ['KX-ABI-16', 'wall clock size', both(pvclock.WALL_CLOCK_SIZE), 12, 12],
  ['KX-ABI-16', 'wall clock version', both(pvclock.WALL_CLOCK_VERSION), 0, 0],
  ['KX-ABI-16', 'wall clock sec', both(pvclock.WALL_CLOCK_SEC), 4, 4],
  ['KX-ABI-16', 'wall clock nsec', both(pvclock.WALL_CLOCK_NSEC), 8, 8],
];

const RUNSTATE: Row[] = [
  ['KX-ABI-20', 'size', [runstate.RUNSTATE_SIZE_LONG, runstate.RUNSTATE_SIZE_COMPAT], 48, 44],
  ['KX-ABI-20', 'state', both(runstate.RUNSTATE_STATE), 0, 0],
  ['KX-ABI-21', 'state_entry_time', [runstate.RUNSTATE_ENTRY_TIME_LONG, runstate.RUNSTATE_ENTRY_TIME_COMPAT], 8, 4],
  ['KX-ABI-22', 'time[4]', [runstate.RUNSTATE_TIMES_LONG, runstate.RUNSTATE_TIMES_COMPAT], 16, 12],
  ['KX-ABI-23', 'UPDATE byte', [runstate.RUNSTATE_UPDATE_BYTE_LONG, runstate.RUNSTATE_UPDATE_BYTE_COMPAT], 15, 11],
  ['KX-ABI-23', 'UPDATE bit of its byte', both(runstate.RUNSTATE_UPDATE_BIT), 0x80, 0x80],
  ['KX-ABI-23', 'running', both(runstate.RUNSTATE_RUNNING), 0, 0],
  ['KX-ABI-23', 'runnable', both(runstate.RUNSTATE_RUNNABLE), 1, 1],
  ['KX-ABI-23', 'blocked', both(runstate.RUNSTATE_BLOCKED), 2, 2],
  ['KX-ABI-23', 'offline', both(runstate.RUNSTATE_OFFLINE), 3, 3],
];

const HYPERCALL: Row[] = [
  ['KX-ABI-30', 'sched_poll size', [hypercall.SCHED_POLL_SIZE_LONG, hypercall.SCHED_POLL_SIZE_COMPAT], 24, 16],
  ['KX-ABI-30', 'sched_poll ports', both(hypercall.SCHED_POLL_PORTS), 0, 0],
  [
    'KX-ABI-30',
    'sched_poll nr_ports',
    [hypercall.SCHED_POLL_NR_PORTS_LONG, hypercall.SCHED_POLL_NR_PORTS_COMPAT],
    8,
    4,
  ],
  ['KX-ABI-30', 'sched_poll timeout', [hypercall.SCHED_POLL_TIMEOUT_LONG, hypercall.SCHED_POLL_TIMEOUT_COMPAT], 16, 8],
  [
    'KX-ABI-31',
    'set_singleshot_timer size',
    [hypercall.SINGLESHOT_TIMER_SIZE_LONG, hypercall.SINGLESHOT_TIMER_SIZE_COMPAT],
    16,
    12,
  ],
  ['KX-ABI-31', 'set_singleshot_timer timeout', both(hypercall.SINGLESHOT_TIMER_TIMEOUT), 0, 0],
  ['KX-ABI-31', 'set_singleshot_timer flags', both(hypercall.SINGLESHOT_TIMER_FLAGS), 8, 8],
  ['KX-ABI-32', 'evtchn_send size', both(hypercall.EVTCHN_SEND_SIZE), 4, 4],
  ['KX-ABI-32', 'evtchn_send port', both(hypercall.EVTCHN_SEND_PORT), 0, 0],
  ['KX-HCL-20', 'xen_version', both(hypercall.HYPERCALL_XEN_VERSION), 17, 17],
  ['KX-HCL-20', 'XENVER_version', both(hypercall.XENVER_VERSION), 0, 0],
  ['KX-HCL-21', 'event_channel_op', both(hypercall.HYPERCALL_EVENT_CHANNEL_OP), 32, 32],
  ['KX-HCL-21', 'EVTCHNOP_send', both(hypercall.EVTCHNOP_SEND), 4, 4],
  ['KX-HCL-22', 'sched_op', both(hypercall.HYPERCALL_SCHED_OP), 29, 29],
  ['KX-HCL-22', 'SCHEDOP_yield', both(hypercall.SCHEDOP_YIELD), 0, 0],
  ['KX-HCL-22', 'SCHEDOP_poll', both(hypercall.SCHEDOP_POLL), 3, 3],
  ['KX-HCL-32', 'ports of one poll', both(hypercall.SCHED_POLL_MAX_PORTS), 128, 128],
  ['KX-HCL-23', 'vcpu_op', both(hypercall.HYPERCALL_VCPU_OP), 24, 24],
  ['KX-HCL-23', 'VCPUOP_set_singleshot_timer', both(hypercall.VCPUOP_SET_SINGLESHOT_TIMER), 8, 8],
  ['KX-HCL-23', 'VCPUOP_stop_singleshot_timer', both(hypercall.VCPUOP_STOP_SINGLESHOT_TIMER), 9, 9],
  ['KX-HCL-24', 'set_timer_op', both(hypercall.HYPERCALL_SET_TIMER_OP), 15, 15],
  ['KX-HCL-05', 'stubs of the hypercall page', both(hypercall.HYPERCALL_STUBS), 128, 128],
  ['KX-HCL-05', 'bytes of a stub', both(hypercall.HYPERCALL_STUB_SIZE), 32, 32],
];

describe.each([
  { structure: 'shared_info', rows: [...SHARED_INFO, ...ARCH] },
  { structure: 'vcpu_info', rows: VCPU_INFO },
  { structure: 'clocks', rows: CLOCKS },
  { structure: 'runstate', rows: RUNSTATE },
  { structure: 'hypercalls', rows: HYPERCALL },
])('$structure', ({ rows }) => {
  test.each(rows)('%s %s', (_id, _what, found, long, compat) => {
    expect(found).toEqual([long, compat]);
  });
});

test('every constant of the foreign structures has a row above', () => {
  const rows = [...SHARED_INFO, ...ARCH, ...VCPU_INFO, ...CLOCKS, ...RUNSTATE, ...HYPERCALL].length;
  const pinned = readFileSync('test/abi/layout.test.ts', 'utf8');
  for (const module of [hypercall, pvclock, runstate, sharedInfo, vcpuInfo]) {
    for (const name of Object.keys(module)) expect(pinned, name).toMatch(new RegExp(`\\.${name}\\b`));
  }
  expect(rows).toBeGreaterThan(40);
});

test('no file of the engine outside src/abi holds an offset of shared_info as a literal', () => {
  const literal = /\b(0x800|0xa00|0x880|0xc00|0x900|0xc0c|0x924|2048|2560|2176|3072|2304|3084|2340)\b/i;
  const files = ['assembly', 'src']
    .flatMap((folder) => readdirSync(folder, { recursive: true }).map((name) => `${folder}/${String(name)}`))
    .filter((file) => file.endsWith('.ts') && !file.startsWith('src/abi/') && file !== 'src/kernel_bytes.ts');
  expect(files.length).toBeGreaterThan(20);
  // What a comment says is for readers.
  const code = (file: string): string => readFileSync(file, 'utf8').replaceAll(/\/\*[\s\S]*?\*\/|\/\/.*/g, '');
  expect(files.filter((file) => literal.test(code(file)))).toEqual([]);
});
