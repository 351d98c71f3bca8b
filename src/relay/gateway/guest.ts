import type { Socket } from "node:net";
import type { Clock } from "../../base/clock.ts";
import { createSampledLog, type Log, type SampledLog } from "../../base/log.ts";
import { createTokenBucket, type TokenBucket } from "../../base/rates.ts";
import type { Secret } from "../../base/secret.ts";
import { MINUTE_MS, SECOND_MS } from "../../base/units.ts";
import type { CacheJob } from "../../cache/rights.ts";
import type { GuestEnd } from "../../domain/events.ts";
import type { Peaks } from "../../domain/usage.ts";
import type { RelaySettings } from "../config.ts";

/** A burst of requests of any kind, in seconds of the sustained rate. */
const REQUEST_BURST_S = 10;
/** Connections for each request that is allowed: whoever asks too much on one each is told so before it is hung up on. */
const ARRIVALS_PER_REQUEST = 2;
/** Refusals in a second, and at once: who gets more of them waits for each. A job whose tools are refused now and then notices nothing. */
const REFUSALS = { perSecond: 10, burst: 50 };
/** Log patches and updates that may follow one another at once: the end of a job must not wait for its turn. */
const UPDATE_BURST = 10;

/** One request of a machine that waits to hear of a cancel. Nothing of it is kept but the way to answer it. */
interface CancelWaiter {
  answer(isCanceled: boolean): void;
}

/** What the relay knows of one machine while its socket is open. Lost with the process, and rebuilt from the store. */
export interface Guest {
  readonly machineId: string;
  /** On another host: it comes over the network and proves itself by its link's secret. */
  readonly isRemote: boolean;
  readonly sockets: Set<Socket>;
  readonly requests: TokenBucket;
  /** Paces new connections: each costs, also one that never asks for anything. */
  readonly arrivals: TokenBucket;
  /** Paces the answers by which it is refused something. */
  readonly refusals: TokenBucket;
  /** Paces what is forwarded to GitLab in the name of the job. */
  readonly updates: TokenBucket;
  /** For all that it can cause to be written. */
  readonly log: SampledLog;
  /** What was recorded of it: each thing with when, and how many records there are. */
  readonly audited: Map<string, number>;
  records: number;
  /** Aborts when its endpoint is closed: nothing waits in its name any more. */
  readonly closed: AbortController;
  /** GitLab is known to want the job canceled. */
  isCanceling: boolean;
  /** Who waits to hear of that. */
  cancelWaiter: CancelWaiter | undefined;
  /** What it said of its end. */
  end: GuestEnd | undefined;
  /** How often that changed. */
  ends: number;
  /** What it has said that its machine has used at most. */
  peaks: Peaks;
  session: JobSession | undefined;
  /** The delivery of the payload by this process; undefined when it was never begun or broke. */
  delivery: { readonly sentAt: number | undefined } | undefined;
  statusAt: number | undefined;
  /** GitLab asked to be left in peace until then (epoch ms). */
  quietUntil: number;
  noteHeard(): void;
  lastHeardAt(): number | undefined;
  /** Runs one thing after the other. */
  exclusively<T>(work: () => Promise<T>): Promise<T>;
}

interface GuestOptions {
  readonly machineId: string;
  readonly isRemote: boolean;
  readonly clock: Clock;
  readonly settings: RelaySettings;
  readonly log: Log;
}

export function createGuest({ machineId, isRemote, clock, settings, log }: GuestOptions): Guest {
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
    arrivals: createTokenBucket(
      clock,
      (ARRIVALS_PER_REQUEST * requestsPerSecond) / SECOND_MS,
      ARRIVALS_PER_REQUEST * requestsPerSecond * REQUEST_BURST_S,
    ),
    refusals: createTokenBucket(clock, REFUSALS.perSecond / SECOND_MS, REFUSALS.burst),
    updates: createTokenBucket(clock, updatesPerMinute / MINUTE_MS, UPDATE_BURST),
    log: createSampledLog({
      log: log.child({ machineId }),
      clock,
      leftOut: "more lines about a machine's requests were left out",
    }),
    audited: new Map(),
    records: 0,
    closed: new AbortController(),
    isCanceling: false,
    cancelWaiter: undefined,
    end: undefined,
    ends: 0,
    peaks: {},
    session: undefined,
    delivery: undefined,
    statusAt: undefined,
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
    exclusively(work) {
      const done = last.then(work, work);
      last = done;
      return done;
    },
  };
}

/** What a guest told GitLab at the end of its job. */
export interface FinalUpdate {
  readonly state: "success" | "failed";
  readonly failureReason: string | undefined;
}

/** Lines of ours behind the runner's last byte. */
interface TraceTail {
  /** Bytes of the runner's before them, as it counts them itself. */
  readonly startBytes: number;
  readonly bytes: Buffer;
  readonly crc: number;
}

/** The job that a machine has been given, as far as the relay needs it for the guest's requests. */
export interface JobSession {
  readonly jobId: number;
  readonly token: Secret;
  /** Tokens by which the job may fetch artifacts, by the id of the job that made them. */
  readonly dependencies: ReadonlyMap<number, Secret>;
  /** Our own lines before the runner's first byte, and their CRC-32. */
  readonly head: Buffer;
  readonly headCrc: number;
  /** Our lines behind the runner's last byte; undefined until it has told of a failure. */
  tail: TraceTail | undefined;
  /** How much of the head GitLab is known to have. */
  headSentBytes: number;
  /** The guest has used the job's token: it has the payload. */
  isTokenSeen: boolean;
  /** GitLab has asked for a graceful cancel. */
  isCanceling: boolean;
  /** GitLab's time limit for the job. */
  readonly timeoutMs: number;
  /** The end that the guest has told GitLab, whether or not GitLab's answer came. */
  told: FinalUpdate | undefined;
  /** When it told so first (epoch ms). */
  toldAt: number | undefined;
  /** Where GitLab sent uploads instead (`https://other.example.com`). */
  uploadOrigin: string | undefined;
  /** Whose caches it may have; undefined when it names none. */
  readonly cache: CacheJob | undefined;
  /** How much it has begun to upload to caches. */
  cachedBytes: number;
}
