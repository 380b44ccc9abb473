/** 1 in the trace builds; asc takes it from `--use`. */
declare const TRACE: bool;
