// The leaves of CPUID by which a guest finds Xen, and those that tell it about its clock. [KX-CLK-14]

/** where the Xen leaves may begin: from here on in steps, up to the last */
export const XEN_CPUID_FIRST = 0x40000000;
export const XEN_CPUID_LAST = 0x4000ff00;
export const XEN_CPUID_STEP = 0x100;
/** "XenVMMXenVMM" in ebx, ecx and edx of the first leaf; eax is the last leaf */
export const XEN_CPUID_EBX = 0x566e6558;
export const XEN_CPUID_ECX = 0x65584d4d;
export const XEN_CPUID_EDX = 0x4d4d566e;
/** the leaf about time, counted from the first, and its subleaves: mul in ecx and shift in edx; kHz of the TSC in eax */
export const XEN_CPUID_TIME = 3;
export const XEN_CPUID_TIME_SCALE = 1;
export const XEN_CPUID_TIME_KHZ = 2;
/** other leaves, counted from the first: version in eax; pages in eax and the hypercall page's MSR in ebx; what HVM guests may rely on */
export const XEN_CPUID_VERSION = 1;
export const XEN_CPUID_MSR = 2;
export const XEN_CPUID_HVM = 4;
/** in eax of the last one: ebx has the vCPU's id, ecx the domain's, and vCPUs may have upcall vectors of their own [XE-BT-04] */
export const XEN_CPUID_HVM_VCPU_ID = 8;
export const XEN_CPUID_HVM_DOMID = 16;
export const XEN_CPUID_HVM_UPCALL_VECTOR = 64;
