// All presets.

import { NANOS_SCAN } from './nanos_scan.ts';
import type { Preset } from './preset.ts';
import { QUBES_STALL } from './qubes_stall.ts';
import { RESET_EXPAND } from './reset_expand.ts';
import { SELECTOR_FIRST } from './selector_first.ts';
import { VCPU_INFO_MOVE } from './vcpu_info_move.ts';
import { ZEPHYR_UNMASK } from './zephyr_unmask.ts';

export const PRESETS: readonly Preset[] = [
  ZEPHYR_UNMASK,
  NANOS_SCAN,
  QUBES_STALL,
  SELECTOR_FIRST,
  VCPU_INFO_MOVE,
  RESET_EXPAND,
];
