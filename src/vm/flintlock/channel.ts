/** One address of a host: its HTTP/2 connection, the limits of each call, and what was learnt of the address from call to call. */

import { isIP } from "node:net";
import { type Client, createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import type { Clock } from "../../base/clock.ts";
import { outOfTime, startDeadline, untilAborted } from "../../base/deadline.ts";
import { splitHostPort } from "../../base/host-port.ts";
import type { FlintlockHost } from "./config.ts";
import { diagnose, factsOf } from "./diagnose.ts";
import { FlintlockError, flintlockError } from "./errors.ts";
import { connectionEnded } from "./failures.ts";
import { MicroVM } from "./gen/service_pb.js";

/**
 * grpc-go ends connections with more pings than one in 5 minutes, and with any ping while no call is open. A connection without
 * calls closes by itself before a ping would be due; one with calls has their deadlines.
 */
const PING_INTERVAL_MS = 330_000;
const IDLE_LIMIT_MS = 300_000;

/** One call to be made at one address. */
export interface Attempt<T> {
  readonly doing: string;
  /** What must not show up in an error's words. */
  readonly secrets: readonly string[];
  readonly limitMs: number;
  /** Part of the limit: how long to wait for the connection. */
  readonly connectLimitMs: number;
  readonly signal: AbortSignal;
  /** True when doing it twice is as good as once. */
  readonly isRepeatable: boolean;
  readonly work: (calls: Line["calls"], signal: AbortSignal) => Promise<T>;
}

/** One address of a host. Connections come and go; what was learnt of the address stays. */
export interface Channel {
  /** Throws a FlintlockError, or the reason of the attempt's own signal. */
  call<T>(attempt: Attempt<T>): Promise<T>;
  /** When a connection was last found again after it had broken; undefined while it never was. */
  reconnectedAt(): number | undefined;
  close(): void;
}

/** A connection and how many calls it carries. */
interface Carrier {
  readonly line: Line;
  open: number;
  isRetired: boolean;
}

export function createChannel(address: string, host: FlintlockHost, clock: Clock): Channel {
  const history = createHistory(clock);
  const facts = factsOf(host);
  let current: Carrier | undefined;

  async function call<T>(attempt: Attempt<T>): Promise<T> {
    const hadAnswered = history.lastAnswerAt() !== undefined;
    try {
      return await callOnce(attempt);
    } catch (error) {
      // A connection that was good may have ended unnoticed: what can be repeated is, on a new one.
      const isEnded = error instanceof FlintlockError && error.failure === connectionEnded;
      if (!isEnded || !hadAnswered || !attempt.isRepeatable) throw error;
    }
    return await callOnce(attempt);
  }

  async function callOnce<T>(attempt: Attempt<T>): Promise<T> {
    current ??= { line: openLine(address, host), open: 0, isRetired: false };
    const carrier = current;
    if (carrier.line.isDown()) history.noteBreak();
    carrier.open += 1;
    try {
      return await tryOn(carrier, attempt);
    } finally {
      carrier.open -= 1;
      if (carrier.isRetired && carrier.open === 0) carrier.line.close();
    }
  }

  async function tryOn<T>(carrier: Carrier, attempt: Attempt<T>): Promise<T> {
    const beganAt = clock.now();
    const limit = startDeadline(clock, attempt.limitMs, attempt.signal);
    const progress = { sent: false };
    try {
      progress.sent = await connect(clock, carrier.line, attempt.connectLimitMs, limit.signal);
      const value = await attempt.work(carrier.line.calls, limit.signal);
      history.noteAnswer();
      return value;
    } catch (error) {
      attempt.signal.throwIfAborted();
      const isLate = limit.isOver() || error === outOfTime;
      if (isLate) retireIfDead(carrier, beganAt);
      // Errors of a call often hide the one of its connection.
      throw await explain(isLate ? outOfTime : (carrier.line.error() ?? error), attempt, progress.sent);
    } finally {
      limit.clear();
    }
  }

  async function explain(error: unknown, { doing, secrets }: Attempt<unknown>, sent: boolean) {
    const failure = await diagnose(error, address, facts, history.lastAnswerAt() !== undefined);
    if (failure.about === "call") history.noteAnswer();
    else history.noteBreak();
    return flintlockError(failure, { host: host.name, address, doing, secrets, sent }, error);
  }

  /**
   * When nothing came back since the call began, the connection may be dead, and nobody would tell us for minutes: new calls make a
   * new one. Those that this one carries have their own deadlines.
   */
  function retireIfDead(carrier: Carrier, beganAt: number): void {
    if ((history.lastAnswerAt() ?? 0) > beganAt) return;
    carrier.isRetired = true;
    if (current === carrier) current = undefined;
  }

  return {
    call,
    reconnectedAt: history.reconnectedAt,
    close() {
      current?.line.close();
      current = undefined;
    },
  };
}

/** False when there is no connection and only the call itself will tell why, as with keys that cannot be used. */
async function connect(clock: Clock, line: Line, limitMs: number, signal: AbortSignal): Promise<boolean> {
  const patience = startDeadline(clock, limitMs, signal);
  try {
    const isConnected = await untilAborted(line.connect(), patience.signal);
    if (!isConnected && line.error() !== undefined) throw line.error();
    return isConnected;
  } finally {
    patience.clear();
  }
}

type Calls = Client<typeof MicroVM>;

/** One HTTP/2 connection to one address, made when it is first needed, and again after it closed. */
interface Line {
  readonly calls: Calls;
  /** True once there is a connection; false when none could be made: `error` then says why. */
  connect(): Promise<boolean>;
  isDown(): boolean;
  error(): unknown;
  close(): void;
}

function openLine(address: string, { tls, token }: FlintlockHost): Line {
  const baseUrl = `${tls ? "https" : "http"}://${address}`;
  const { host } = splitHostPort(address);
  const secured = tls && {
    minVersion: "TLSv1.3" as const,
    // An address of numbers may not be given as a name; the certificate is then held against the address itself.
    ...(tls.serverName === undefined && isIP(host) ? {} : { servername: tls.serverName ?? host }),
    ...(tls.ca === undefined ? {} : { ca: tls.ca }),
    ...(tls.certificate === undefined ? {} : { cert: tls.certificate }),
    ...(tls.key === undefined ? {} : { key: tls.key.reveal() }),
  };
  const pings = { pingIntervalMs: PING_INTERVAL_MS, idleConnectionTimeoutMs: IDLE_LIMIT_MS };
  const sessionManager = new Http2SessionManager(baseUrl, pings, secured ?? {});
  const interceptors = token ? [authorize(token.reveal())] : [];
  const transport = createGrpcTransport({
    ...{ baseUrl, sessionManager, interceptors, acceptCompression: [] },
    // What is not read is not kept either.
    binaryOptions: { readUnknownFields: false },
  });
  return {
    calls: createClient(MicroVM, transport),
    connect: async () => (await sessionManager.connect()) !== "error",
    isDown: () => sessionManager.state() === "closed" || sessionManager.state() === "error",
    error: () => sessionManager.error(),
    close: () => sessionManager.abort(),
  };
}

/** flintlockd's own form of basic authentication: the token alone, without a name before it. */
function authorize(token: string): Interceptor {
  const value = `Basic ${Buffer.from(token).toString("base64")}`;
  return (next) => (request) => {
    request.header.set("authorization", value);
    return next(request);
  };
}

/** What has been seen of the connections to one address. */
interface History {
  noteAnswer(): void;
  /** There is no connection, or it is of no use; nothing new before the first answer. */
  noteBreak(): void;
  lastAnswerAt(): number | undefined;
  /** When an answer last came after a break: the daemon may just have been started. */
  reconnectedAt(): number | undefined;
}

function createHistory(clock: Clock): History {
  let lastAnswerAt: number | undefined;
  let reconnectedAt: number | undefined;
  let isBroken = false;
  return {
    noteAnswer() {
      lastAnswerAt = clock.now();
      if (isBroken) reconnectedAt = lastAnswerAt;
      isBroken = false;
    },
    noteBreak() {
      isBroken = lastAnswerAt !== undefined;
    },
    lastAnswerAt: () => lastAnswerAt,
    reconnectedAt: () => reconnectedAt,
  };
}
