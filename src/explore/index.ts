// The explorer: every interleaving of what uses an engine, for those who want to see one. Sub-path `evtchn/explore`.

export type { Code, Party, Self } from './actor.ts';
export { deliveryModel, Ports, vcpuLoop } from './delivery.ts';
export { Guest, portsOf } from './guest.ts';
export { exploreModule } from './kernel.ts';
export { minimise } from './minimise.ts';
export { MODELS } from './models/index.ts';
export type { ModelMaker, Promised } from './models/model_maker.ts';
export type { Answer } from './operation.ts';
export { PRESETS } from './presets/index.ts';
export type { Preset } from './presets/preset.ts';
export { type Block, parseSchedule, type Schedule, scheduleText } from './schedule.ts';
export {
  type Bounds,
  type Exhausted,
  exhaust,
  type Finding,
  type Sampled,
  type SampleOptions,
  sample,
} from './search.ts';
export { type Replay, replay, type Step, told } from './story.ts';
export { type Model, SHARED_INFO_PAGE, VCPU_INFO_PAGE, World } from './world.ts';
