import type { ServerResponse } from "node:http";
import type { Clock } from "../../base/clock.ts";
import { single } from "../../base/headers.ts";
import { type Answer, header } from "../../gitlab/answer.ts";
import type { RunnerApi } from "../../gitlab/runner-api.ts";
import type { Store } from "../../store/store.ts";
import { Refusal } from "../errors.ts";
import { type Exchange, readJsonObject, reply } from "../gateway/exchange.ts";
import type { FinalUpdate, Guest, JobSession } from "../gateway/guest.ts";
import { type JobCaller, passOn } from "./gitlab-calls.ts";
import { admit, type JobEnd } from "./job-session.ts";
import { ensureHead, ensureTail, wholeTrace } from "./trace.ts";

const MAX_UPDATE_BYTES = 64 * 1024;
const INTERVAL_HEADER = "x-gitlab-trace-update-interval";

interface UpdateJobOptions {
  readonly store: Store;
  readonly api: Pick<RunnerApi, "appendTrace">;
  readonly clock: Clock;
  readonly caller: JobCaller;
  readonly jobEnd: JobEnd;
  readonly intervalSeconds: number;
}

type Update = Record<string, unknown>;

/** `PUT /jobs/:id`: passed on with size and checksum of the whole trace; the answer comes back as GitLab gave it. */
export function createUpdateJob(
  options: UpdateJobOptions,
): (exchange: Exchange, jobId: number) => Promise<void> {
  const { store, api, clock, caller, jobEnd } = options;

  async function updateJob(exchange: Exchange, jobId: number): Promise<void> {
    const { guest } = exchange;
    const update = await readJsonObject(exchange, MAX_UPDATE_BYTES);
    const session = await admitUpdate(exchange, jobId, update);
    await guest.exclusively(async () => {
      await caller.pace(exchange);
      await put(exchange, session, update);
    });
  }

  /** A token may stand in the body, the header or both: each one that is there must be the job's. */
  async function admitUpdate({ guest, request }: Exchange, jobId: number, { token }: Update) {
    const tokens = [token, single(request.headers["job-token"])].filter((each) => each !== undefined);
    let session: JobSession | undefined;
    for (const each of tokens.length > 0 ? tokens : [undefined]) {
      session = await admit(store, guest, { jobId, token: typeof each === "string" ? each : undefined });
    }
    if (session === undefined) throw new Refusal(403, "403 Forbidden", { rule: "wrong-token" });
    return session;
  }

  async function put(exchange: Exchange, session: JobSession, update: Update): Promise<void> {
    const final = finalUpdateOf(update);
    // The sums of a final update cover our lines, so GitLab must have them first.
    if (final) {
      session.told = final;
      session.toldAt ??= clock.now();
      await ensureOurLines(session, update, final);
    }
    const answer = await caller.call(exchange, {
      method: "PUT",
      headers: { "content-type": "application/json" },
      body: Buffer.from(JSON.stringify(withWholeTrace(update, session))),
    });
    await settle(exchange, session, answer, final);
    passOn(exchange, answer, intervalHeader(answer));
  }

  async function ensureOurLines(session: JobSession, update: Update, { state }: FinalUpdate): Promise<void> {
    const onOver = (status: string | undefined) => jobEnd.over(session, status);
    await ensureHead({ api, store }, session, onOver);
    const bytesize = bytesizeOf(update);
    if (state === "failed" && bytesize !== undefined)
      await ensureTail({ api, store }, session, bytesize, onOver);
  }

  /** Makes what GitLab said durable, before the guest hears it. */
  async function settle(
    { guest }: Exchange,
    session: JobSession,
    answer: Answer,
    final: FinalUpdate | undefined,
  ): Promise<void> {
    const status = header(answer, "job-status");
    if (answer.status === 200 && final) return await jobEnd.accepted(session, final, status);
    if (answer.status === 403 || answer.status === 404) return await jobEnd.over(session, status);
    await jobEnd.heard(guest, session, status);
  }

  /** The runner's clock for its next report: never slower than ours. */
  function intervalHeader(answer: Answer): Record<string, string> {
    const given = Number(header(answer, INTERVAL_HEADER));
    if (answer.status !== 200 && answer.status !== 202) return {};
    const seconds = given > 0 ? Math.min(given, options.intervalSeconds) : options.intervalSeconds;
    return { [INTERVAL_HEADER]: String(seconds) };
  }

  return updateJob;
}

function finalUpdateOf({ state, failure_reason: reason }: Update): FinalUpdate | undefined {
  if (state !== "success" && state !== "failed") return undefined;
  return { state, failureReason: typeof reason === "string" ? reason : undefined };
}

/** How much of the log the runner says it has sent. */
function bytesizeOf({ output }: Update): number | undefined {
  if (typeof output !== "object" || output === null) return undefined;
  const { bytesize } = output as Update;
  const isSize = typeof bytesize === "number" && Number.isSafeInteger(bytesize) && bytesize >= 0;
  return isSize ? bytesize : undefined;
}

/** Size and CRC-32 of the runner's part, made those of our lines and it together. What is not well formed stays as it is. */
function withWholeTrace(update: Update, session: JobSession): Update {
  const runnersBytes = bytesizeOf(update);
  if (runnersBytes === undefined) return update;
  const { bytesize, crcOf } = wholeTrace(session, runnersBytes);
  const output = update["output"] as Update;
  return {
    ...update,
    ...("checksum" in update ? { checksum: withCrc(update["checksum"], crcOf) } : {}),
    output: {
      ...output,
      bytesize,
      ...("checksum" in output ? { checksum: withCrc(output["checksum"], crcOf) } : {}),
    },
  };
}

function withCrc(checksum: unknown, crcOf: (crc: number) => number): unknown {
  const digits = typeof checksum === "string" ? /^crc32:([0-9a-f]{1,8})$/i.exec(checksum)?.[1] : undefined;
  if (digits === undefined) return checksum;
  return `crc32:${crcOf(Number.parseInt(digits, 16)).toString(16).padStart(8, "0")}`;
}

/** How often a guest on another host shows that it lives, whatever its runner does. */
const HEARTBEAT_MS = 20_000;

/**
 * Held until there is something to say, and no longer than its connection. A machine has one that waits: a newer one takes its place, and
 * it is answered with nothing. A guest on another host is answered with nothing now and then: that it asks again shows that it lives,
 * and one that vanished with its host falls silent.
 */
export function awaitCancel({ guest, response }: Exchange, clock: Clock): void {
  if (response.destroyed) return;
  if (guest.isCanceling) {
    tell(response, true);
    return;
  }
  guest.cancelWaiter?.answer(false);
  const waiter = { answer: (isCanceled: boolean) => tell(response, isCanceled) };
  guest.cancelWaiter = waiter;
  const over = new AbortController();
  response.once("close", () => {
    over.abort();
    if (guest.cancelWaiter === waiter) guest.cancelWaiter = undefined;
  });
  if (guest.isRemote) {
    clock.sleep(HEARTBEAT_MS, over.signal).then(
      () => waiter.answer(false),
      () => {},
    );
  }
}

/** GitLab wants the job of this machine canceled. */
export function tellCanceling(guest: Guest | undefined): void {
  if (guest === undefined) return;
  guest.isCanceling = true;
  guest.cancelWaiter?.answer(true);
}

function tell(response: ServerResponse, isCanceled: boolean): void {
  if (isCanceled) reply(response, 200, { "content-type": "text/plain; charset=utf-8" }, "canceled\n");
  else reply(response, 204, {});
}
