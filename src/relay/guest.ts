import type { Socket } from "node:net";
import type { Clock } from "../base/clock.ts";
import { MINUTE_MS, SECOND_MS } from "../base/units.ts";
import type { GuestEnd } from "../lifecycle/guest-end.ts";
import type { CancelWaiter } from "./await-cancel.ts";
import type { RelaySettings } from "./config.ts";
import type { JobSession } from "./job-session.ts";
import { createTokenBucket, type TokenBucket } from "./token-bucket.ts";

/** A burst of requests of any kind, in seconds of the sustained rate. */
const REQUEST_BURST_S = 10;
/** Log patches and updates that may follow one another at once: the end of a job must not wait for its turn. */
const UPDATE_BURST = 10;

/** What the relay knows of one machine while its socket is open. Lost with the process, and rebuilt from the store. */
export interface Guest {
  readonly machineId: string;
  /** On another host: it comes over the network and proves itself by its link's secret. */
  readonly isRemote: boolean;
  readonly sockets: Set<Socket>;
  readonly requests: TokenBucket;
  /** Paces what is forwarded to GitLab in the name of the job. */
  readonly updates: TokenBucket;
  /** When each rule was last reported as broken. */
  readonly refusals: Map<string, number>;
  /** What the proxy was asked for, with when it was last recorded. */
  readonly audited: Map<string, number>;
  /** Aborts when its door is closed: nothing waits in its name any more. */
  readonly closed: AbortController;
  /** GitLab is known to want the job canceled. */
  isCanceling: boolean;
  /** Who waits to hear of that. */
  cancelWaiter: CancelWaiter | undefined;
  /** What it said of its end. */
  end: GuestEnd | undefined;
  session: JobSession | undefined;
  /** The delivery of the payload by this process; undefined when it was never begun or broke. */
  delivery: { readonly sentAt: number | undefined } | undefined;
  standingAt: number | undefined;
  /** GitLab asked to be left in peace until then (epoch ms). */
  quietUntil: number;
  noteHeard(): void;
  lastHeardAt(): number | undefined;
  /** Runs one thing after the other. */
  inTurn<T>(work: () => Promise<T>): Promise<T>;
}

export interface GuestOptions {
  readonly machineId: string;
  readonly isRemote: boolean;
  readonly clock: Clock;
  readonly settings: RelaySettings;
}

export function createGuest({ machineId, isRemote, clock, settings }: GuestOptions): Guest {
  const sockets = new Set<Socket>();
  const bytesSeen = new WeakMap<Socket, number>();
  let heardAt: number | undefined;
  let last: Promise<unknown> = Promise.resolve();

  const { requestsPerSecond, updatesPerMinute } = settings;
  return {
    machineId,
    isRemote,
    sockets,
    requests: createTokenBucket(clock, requestsPerSecond / SECOND_MS, requestsPerSecond * REQUEST_BURST_S),
    updates: createTokenBucket(clock, updatesPerMinute / MINUTE_MS, UPDATE_BURST),
    refusals: new Map(),
    audited: new Map(),
    closed: new AbortController(),
    isCanceling: false,
    cancelWaiter: undefined,
    end: undefined,
    session: undefined,
    delivery: undefined,
    standingAt: undefined,
    quietUntil: 0,
    noteHeard() {
      heardAt = clock.now();
    },
    lastHeardAt() {
      // Long uploads and tunnels are signs of life too: seen by their byte counts, at no cost per chunk.
      for (const socket of sockets) {
        const bytes = socket.bytesRead;
        if (bytes > (bytesSeen.get(socket) ?? 0)) heardAt = clock.now();
        bytesSeen.set(socket, bytes);
      }
      return heardAt;
    },
    inTurn(work) {
      const turn = last.then(work, work);
      last = turn;
      return turn;
    },
  };
}
