import * as errno from './abi/errno.ts';

const numbers: Readonly<Record<string, number>> = errno;

/** Names of the errno values the engine uses. */
export type ErrorCode = keyof typeof errno;

/**
 * Every failure of the control plane: a `code` (an errno name) and a sentence with what was asked and what was allowed.
 * The fast half returns negative numbers instead; `errnoName` names those.
 */
export class EvtchnError extends Error {
  override readonly name = 'EvtchnError';
  readonly code: ErrorCode;
  /** the positive errno number of `code` */
  readonly errno: number;

  constructor(code: ErrorCode, message: string) {
    super(`${code}: ${message}`);
    this.code = code;
    this.errno = numbers[code] ?? 0;
  }
}

const names = new Map(Object.entries(numbers).map(([name, number]) => [number, name as ErrorCode]));

/** The name of a result of the fast half, for example `errnoName(-107)` is `'ENOTCONN'`; undefined for 0, 1 and strangers. */
export function errnoName(result: number): ErrorCode | undefined {
  return names.get(-result);
}

/** Throws EINVAL unless `value` is an integer in `min..max`. */
export function checkRange(what: string, value: number, min: number, max: number): void {
  if (!Number.isInteger(value) || value < min || value > max) {
    throw new EvtchnError('EINVAL', `${what} is ${String(value)}, allowed are integers from ${min} to ${max}`);
  }
}

/** A number as errors and descriptions show addresses and masks. @internal */
export function hex(value: bigint | number): string {
  return `0x${value.toString(16)}`;
}
