// The host's own end points: code of the embedder's at the other end of a guest's port. [XE-QE-20]

/** Called when the guest has sent, inside its send: it must not run guest code. */
export type HostListener = (channel: HostChannel) => void;

/** One event channel between a domain and code on the host. */
export interface HostChannel {
  readonly domid: number;
  /** the guest's port */
  readonly port: number;
  /** the host's own end, as the guest's status shows it */
  readonly hostPort: number;
  /** Sets the guest's port pending. Does not throw. @returns 0, or -ENOTCONN when the guest has closed it */
  notify(): number;
  /** Closes the host's end: the guest's port is unbound again, for the host. Idempotent. */
  close(): void;
}
