import type { Dispatcher } from "undici";
import { single } from "../../base/headers.ts";
import { isJobResult } from "../../domain/job-end.ts";
import { header } from "../../gitlab/answer.ts";
import type { GitLabHttp } from "../../gitlab/http.ts";
import type { Store } from "../../store/store.ts";
import type { Dialer } from "../egress/egress-dialer.ts";
import { Refusal } from "../errors.ts";
import {
  type Exchange,
  headersFromGuest,
  type Passage,
  passThrough,
  relayHostOf,
  reply,
  streamAnswer,
} from "../gateway/exchange.ts";
import type { JobSession } from "../gateway/guest.ts";
import type { GuestCalls } from "./gitlab-calls.ts";
import type { JobEnd } from "./job-session.ts";
import { admit, currentSession, isSecret } from "./job-session.ts";
import { isRedirect, type Redirects, redirectUrl } from "./redirects.ts";

export interface ArtifactsOptions {
  readonly store: Store;
  readonly http: GitLabHttp;
  readonly calls: GuestCalls;
  readonly dialer: Dialer;
  readonly redirects: Redirects;
  readonly jobEnd: JobEnd;
  readonly idleTimeoutMs: number;
}

/** `POST /jobs/:id/artifacts`, streamed. */
export function createUpload(
  options: ArtifactsOptions,
): (exchange: Exchange, jobId: number) => Promise<void> {
  const { store, http, dialer, redirects, idleTimeoutMs } = options;

  async function upload(exchange: Exchange, jobId: number): Promise<void> {
    const { guest, request } = exchange;
    const session = await admit(store, guest, { jobId, token: single(request.headers["job-token"]) });
    await passThrough(
      exchange,
      idleTimeoutMs,
      (passage) => send(exchange, session, passage),
      async (answer) => {
        await recordEnd(options, exchange, session, answer);
        if (isRedirect(answer)) return redirect(exchange, session, answer);
        await streamAnswer(exchange, answer, answer.headers);
      },
    );
  }

  async function send(exchange: Exchange, session: JobSession, { body, signal }: Passage) {
    const { guest, request, path, query } = exchange;
    const wanted = {
      method: "POST",
      headers: headersFromGuest(request.headers),
      // The answer comes when the body has been sent, however long that takes: `passThrough` watches that it moves.
      headersTimeout: 0,
      bodyTimeout: idleTimeoutMs,
      signal,
      ...(body ? { body } : {}),
    } as const;
    if (session.uploadOrigin === undefined) {
      return await http.dispatcher.request({
        ...wanted,
        origin: http.origin,
        path: http.basePath + path + query,
      });
    }
    const destination = redirects.destination(guest, new URL(session.uploadOrigin));
    const elsewhere = { ...wanted, origin: session.uploadOrigin, path: path + query };
    return await dialer.request(destination, elsewhere);
  }

  /**
   * GitLab wants the upload elsewhere. What has been streamed cannot be sent again from here, but the runner has the files: it is told to
   * try again at this very place, and its next try goes to the other server. Runners take only the server's name from the answer.
   */
  function redirect(exchange: Exchange, session: JobSession, answer: Dispatcher.ResponseData): void {
    const { origin } = redirectUrl(answer, http.origin);
    if (session.uploadOrigin !== undefined || origin === http.origin) {
      throw new Refusal(502, "GitLab redirects the upload in a circle; it has been given up");
    }
    redirects.destination(exchange.guest, new URL(origin));
    session.uploadOrigin = origin;
    const location = `http://${relayHostOf(exchange.request)}${exchange.path}${exchange.query}`;
    reply(exchange.response, 307, { location });
  }

  return upload;
}

/** `GET /jobs/:id/artifacts`, streamed from wherever GitLab keeps them. */
export function createDownload(
  options: ArtifactsOptions,
): (exchange: Exchange, jobId: number) => Promise<void> {
  const { store, calls, redirects, idleTimeoutMs } = options;

  return async (exchange, jobId) => {
    const session = await admitDownload(store, exchange, jobId);
    const path = exchange.path + exchange.query;
    const headers = headersFromGuest(exchange.request.headers);
    const timeouts = { headersTimeoutMs: idleTimeoutMs, bodyTimeoutMs: idleTimeoutMs };
    await passThrough(
      exchange,
      idleTimeoutMs,
      async ({ signal }) => {
        const wanted = { method: "GET", path, headers, signal, ...timeouts } as const;
        const first = await calls.send(exchange, session, wanted);
        await recordEnd(options, exchange, session, first);
        return await redirects.follow(exchange, first, signal);
      },
      (answer) => streamAnswer(exchange, answer, answer.headers),
    );
  };
}

/** A job may fetch its own artifacts and those of the jobs its payload names, with its own token or the one named there. */
async function admitDownload(store: Store, { guest, request }: Exchange, jobId: number): Promise<JobSession> {
  const session = await currentSession(store, guest);
  const token = single(request.headers["job-token"]);
  if (session === undefined || token === undefined) {
    throw new Refusal(403, "403 Forbidden", { rule: "wrong-token" });
  }
  const named = session.dependencies.get(jobId);
  if (named === undefined && jobId !== session.jobId) {
    throw new Refusal(403, "403 Forbidden", { rule: "wrong-job" });
  }
  if (![session.token, ...(named ? [named] : [])].some((secret) => isSecret(secret, token))) {
    throw new Refusal(403, "403 Forbidden", { rule: "wrong-token" });
  }
  session.isTokenSeen = true;
  return session;
}

/** Of the answers about artifacts only `Job-Status` speaks of the job's end: a 403 may be about the artifacts alone. */
async function recordEnd(
  { jobEnd }: ArtifactsOptions,
  { guest }: Exchange,
  session: JobSession,
  answer: Dispatcher.ResponseData,
): Promise<void> {
  const status = header(answer, "job-status");
  if (isJobResult(status)) await jobEnd.heard(guest, session, status);
}
