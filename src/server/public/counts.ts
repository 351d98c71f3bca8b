/** Why a request was refused, in words that a status can show. */
export type RefusalReason =
  | "address not allowed"
  | "no valid token or signature"
  | "wrong signature"
  | "wrong method"
  | "unknown path"
  | "too long"
  | "no webhook configured"
  /** Of a client that has used up what it may send unproven, whatever the reason would have been. */
  | "too many";

/** Since the door was opened. */
export interface RequestCounts {
  /** Authentic deliveries that were answered 200. */
  readonly accepted: number;
  /** Those of them whose body was too long, or found no room in memory. */
  readonly withoutBody: number;
  /** Authentic deliveries that were answered 503. */
  readonly failed: number;
  readonly refused: Readonly<Partial<Record<RefusalReason, number>>>;
  /** Requests and connections that broke off, were too slow or broke the protocol. */
  readonly broken: number;
  /** Connections that were closed to make room for new ones. */
  readonly displaced: number;
  readonly openConnections: number;
}

export interface Tally {
  accepted: number;
  withoutBody: number;
  failed: number;
  broken: number;
  displaced: number;
  readonly refused: Partial<Record<RefusalReason, number>>;
}

export function createTally(): Tally {
  return { accepted: 0, withoutBody: 0, failed: 0, broken: 0, displaced: 0, refused: {} };
}
