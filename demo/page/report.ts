// What the sending side tells the page.

import type { AuditResult } from './audit.ts';

export type Report =
  | { readonly kind: 'audit'; readonly result: AuditResult }
  | { readonly kind: 'round'; readonly result: RoundResult }
  | { readonly kind: 'failed'; readonly reason: string };

/** One round of the comparison: the same events both ways, each until the last had arrived. */
export interface RoundResult {
  readonly events: number;
  readonly channelMs: number;
  readonly messageMs: number;
  /** what the receivers say they got */
  readonly channelEvents: number;
  readonly messageEvents: number;
}
