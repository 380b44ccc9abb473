// All models of the engine itself.

import { BINDINGS } from './bindings.ts';
import { CONTROL } from './control.ts';
import { DEATH } from './death.ts';
import { DELIVERY } from './delivery.ts';
import { MAPPINGS } from './mappings.ts';
import type { ModelMaker } from './model_maker.ts';
import { RUNSTATE } from './runstate.ts';

export const MODELS: readonly ModelMaker[] = [...DELIVERY, ...BINDINGS, ...MAPPINGS, ...CONTROL, ...RUNSTATE, ...DEATH];
