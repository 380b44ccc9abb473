// The lists whose ids tests must carry. A further document is one more file and one more entry here.

import { KNOWN_FAULTS } from './known_faults.ts';
import { KVM_XEN } from './kvm_xen.ts';
import type { SpecList } from './list.ts';
import { XEN_EVENT_CHANNELS } from './xen_event_channels.ts';

export const LISTS: readonly SpecList[] = [KVM_XEN, KNOWN_FAULTS, XEN_EVENT_CHANNELS];

/** Families whose list is still to come: test names may carry their ids, and nobody checks them. */
export const FAMILIES_WITHOUT_LIST: readonly string[] = [];
