// Virtual interrupts: 24 of them, in three classes. What is neither per vCPU nor per domain is global. [XE-MOD-20]

export const NR_VIRQS = 24;

/** one port per vCPU */
export const VIRQ_TIMER = 0;
export const VIRQ_DEBUG = 1;
export const VIRQ_XENOPROF = 7;
export const VIRQ_XENPMU = 13;

/** one port per domain */
export const VIRQ_ARGO = 11;

/** one domain's, the handler's */
export const VIRQ_CONSOLE = 2;
export const VIRQ_DOM_EXC = 3;
export const VIRQ_TBUF = 4;
export const VIRQ_DEBUGGER = 6;
export const VIRQ_CON_RING = 8;
export const VIRQ_PCPU_STATE = 9;
export const VIRQ_MEM_EVENT = 10;
export const VIRQ_ENOMEM = 12;
export const VIRQ_ARCH_0 = 16;
