// Requirements that cannot apply to this engine, each with the reason. What is only not written yet does not belong here.

/** id: reason, a sentence. */
export const NOT_APPLICABLE: Readonly<Record<string, string>> = {
  // Locks of the kernel.
  'KX-GEN-10': 'There are no locks to nest: one agent configures, and every other change is one atomic operation.',
  'KX-GEN-11': 'There is no configuration lock and no SRCU; what waits for readers is stated by KX-EVA-14 and KF-30.',
  'KX-GEN-12': 'A cache is one word that is published by compare-exchange, so no lock and no interrupt is involved.',
  'KX-EVT-26': 'An agent works on the memory it attached to; there is no second address space and none to borrow.',
  'KX-GPC-37': 'Every frame is a page of the linear memory; the specification says that device frames are not needed.',
  'KX-MEM-06':
    'The engine fills no guest page tables, so there is no page fault that would test the range; caches test the count.',
  'KF-35': 'The engine takes no requests from a shared ring, so there is nothing to claim before it is matched.',
  'KX-RUN-06': 'The engine has no steal-time record of KVM’s own that Xen’s runstate could replace.',
  'V-03': 'The engine has no Hyper-V interface, hence no Hyper-V hypercall page.',
  'V-05': 'The engine has no Hyper-V interface, hence no Hyper-V hypercall and no status of one.',

  // History and proposals that were not merged.
  'KX-VMA-12': 'It describes a revision that was not merged; the behaviour to build is KX-VMA-08 to KX-VMA-11.',
  'KX-EVA-20': 'It describes the structure of an RFC that was not merged; the structure in use is KX-ABI-41.',
  'KX-EVA-21': 'It is the proposal that became KX-EVA-08 and KX-EVA-09, which are tested as merged.',
  'KX-EVA-23': 'It is a proposal that upstream never took, and the engine offers the upstream operations only.',
  'KX-RUN-40': 'It is a rejected alternative; the adopted one is KX-RUN-44.',
  'KX-RUN-41': 'It is a rejected alternative; the adopted one is KX-RUN-44.',
  'KX-RUN-42': 'It is a rejected alternative; the adopted one is KX-RUN-44.',
  'KX-RUN-43': 'It is a wish that was never built; the adopted way is KX-RUN-44.',

  // Remarks about documents and sources.
  'KX-MEM-31': 'It is advice to the embedder; the behaviour it follows from is KX-MEM-26.',
  'KX-UNC-01': 'It says which sources were read and states no behaviour.',
  'KX-UNC-02': 'It is a preview of a developer branch that is not known to be merged.',
  'KX-UNC-03': 'It says whose analysis KX-GPC-38 is; the behaviour is tested there.',
  'KX-UNC-04': 'It says where dates come from and states no behaviour.',
  'KX-UNC-05': 'It compares documents with code; what the code wants is KX-RTE-01 and KX-ABI-42.',
  'KX-UNC-06': 'It compares documents; the behaviour is KX-HCL-35 and KF-76.',
  'KX-UNC-07': 'It says that per-VM gating is a recommendation; the behaviour is KX-GEN-05.',
  'KX-UNC-08': 'It is about a local APIC in userspace, which KVM would have to know of; the upcall is KX-EVT-45.',
};
