/**
 * The relay's calls to GitLab for a guest: its reports on the job, at GitLab's pace, and requests in the guest's own name, of which only a
 * few may carry wrong credentials.
 */
import { createHash } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import type { Dispatcher } from "undici";
import type { Clock } from "../../base/clock.ts";
import { createTokenBucket } from "../../base/rates.ts";
import { MINUTE_MS } from "../../base/units.ts";
import { type Answer, readAnswer, requestedWaitMs } from "../../gitlab/answer.ts";
import { gitLabErrorFrom } from "../../gitlab/errors.ts";
import type { GitLabHttp, GitLabRequest } from "../../gitlab/http.ts";
import { Refusal } from "../errors.ts";
import { type Exchange, headersForGuest, headersFromGuest, reply } from "../gateway/exchange.ts";
import type { Guest, JobSession } from "../gateway/guest.ts";
import { isSecret } from "./job-session.ts";

const MAX_ANSWER_BYTES = 64 * 1024;
/** A rate limit that asks for more is asked again after this. */
const LONGEST_PAUSE_MS = 60_000;

interface JobCall {
  readonly method: "PUT" | "PATCH";
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

/** The two calls by which a runner reports on its job: small, read whole, answered to the guest when GitLab has answered. */
export interface JobCaller {
  /** Waits until GitLab may be told of the job again. Throws Refusal 503 when GitLab asked to be left in peace, or nobody waits any more. */
  pace(exchange: Exchange): Promise<void>;
  /**
   * Sends a guest's call on. Throws Refusal 502 or 503 when GitLab does not answer or cannot now, so that
   * the runner tries again: never a 403 or a `Job-Status` that GitLab did not give.
   */
  call(exchange: Exchange, call: JobCall): Promise<Answer>;
}

export function createJobCaller({ http, clock }: { http: GitLabHttp; clock: Clock }): JobCaller {
  return {
    async pace({ guest, signal }) {
      if (!signal.aborted) await guest.updates.take(signal).catch(() => {});
      if (signal.aborted) throw new Refusal(503, "nobody waits for this report any more");
      if (clock.now() < guest.quietUntil) throw laterRefusal(503, guest.quietUntil - clock.now());
    },
    async call(exchange, { method, headers, body }) {
      const { guest, request, path, query } = exchange;
      const own = ["content-length", "content-range", "accept-encoding"];
      const all = { ...headersFromGuest(request.headers, own), ...headers };
      const answer = await answerTo({ method, path: path + query, headers: all, body });
      if (isUnavailable(answer.status)) throw unavailable(guest, answer);
      return answer;
    },
  };

  async function answerTo(wanted: Parameters<GitLabHttp["forward"]>[0]): Promise<Answer> {
    try {
      return await readAnswer(await http.forward(wanted), MAX_ANSWER_BYTES);
    } catch (cause) {
      throw new Refusal(502, gitLabErrorFrom(cause, "passing on a job's report").message, { cause });
    }
  }

  function unavailable(guest: Guest, { status, headers }: Answer): Refusal {
    if (status < 400) return new Refusal(502, `GitLab answers ${status}: gitlab.url is not its own address`);
    const now = clock.now();
    const waitMs = Math.min(requestedWaitMs(status, headers, now), LONGEST_PAUSE_MS);
    guest.quietUntil = Math.max(guest.quietUntil, now + waitMs);
    return laterRefusal(status === 429 || status === 503 ? 503 : 502, waitMs, status);
  }
}

/** GitLab itself is in trouble, or says that we ask too much; a redirect of a report is a wrong address. */
function isUnavailable(status: number): boolean {
  return status === 429 || status >= 500 || (status >= 300 && status < 400);
}

function laterRefusal(status: number, waitMs: number, answered?: number): Refusal {
  const seconds = Math.ceil(waitMs / 1_000);
  const message = answered === undefined ? "GitLab asked for a pause" : `GitLab answers ${answered}`;
  return new Refusal(status, `${message}; try again`, {
    headers: seconds > 0 ? { "Retry-After": String(seconds) } : {},
  });
}

/** GitLab's answer as it is, but for the headers given (lower case; undefined leaves one out). */
export function passOn(
  exchange: Exchange,
  answer: Answer,
  headers: Readonly<Record<string, string | undefined>>,
): void {
  reply(exchange.response, answer.status, { ...headersForGuest(answer.headers), ...headers }, answer.text);
}

/**
 * Wrong credentials that one job may send to GitLab in all its life, and all jobs together. GitLab takes them for guesses of the
 * operator's address: as its documentation has it, ten in a minute or thirty in three minutes close GitLab to that address for an hour.
 */
const MOST_WRONG = 6;
const MOST_WRONG_IN_ALL = { burst: 6, perMinute: 3 };
/** Credentials that GitLab has taken from one job, remembered so that they are not counted. */
const MOST_GOOD = 32;

/** The guests' requests to GitLab in their own name, with what they bring to prove themselves. */
export interface GuestCalls {
  /**
   * As `GitLabHttp.forward`. Throws Refusal when the job, or all jobs together, have sent too many wrong credentials; the job's own token
   * and what GitLab has taken before pass all the same, and so does a request without any, as git's first one always is.
   */
  send(exchange: Exchange, session: JobSession, wanted: GitLabRequest): Promise<Dispatcher.ResponseData>;
}

interface Logins {
  /** Digests of what was taken and refused. */
  readonly good: Set<string>;
  readonly refused: Set<string>;
  /** Not answered yet. */
  underWay: number;
}

export function createGuestCalls({ http, clock }: { http: GitLabHttp; clock: Clock }): GuestCalls {
  const { burst, perMinute } = MOST_WRONG_IN_ALL;
  const inAll = createTokenBucket(clock, perMinute / MINUTE_MS, burst);
  const all = new WeakMap<Guest, Logins>();

  function loginsOf(guest: Guest): Logins {
    const logins = all.get(guest) ?? { good: new Set(), refused: new Set(), underWay: 0 };
    all.set(guest, logins);
    return logins;
  }

  /** Counts a try as wrong until GitLab has said that it is not. */
  function begin(logins: Logins): void {
    if (logins.refused.size + logins.underWay >= MOST_WRONG) {
      const message = `GitLab has refused the credentials of this job ${MOST_WRONG} times; only its own token is passed on from now on`;
      throw new Refusal(403, message, { rule: "too-many-wrong-credentials" });
    }
    if (!inAll.tryTake()) {
      const message =
        "GitLab has refused the credentials of several jobs; others than a job's own token wait";
      const headers = { "Retry-After": "20" };
      throw new Refusal(429, message, { rule: "too-many-wrong-credentials-in-all", headers });
    }
    logins.underWay += 1;
  }

  function learn({ good, refused }: Logins, digest: string, status: number): void {
    if (status === 401) {
      good.delete(digest);
      // The same again is a guess as well in GitLab's eyes.
      refused.add(refused.has(digest) ? `${digest}${refused.size}` : digest);
    } else if (status < 300) {
      good.add(digest);
      const [oldest = ""] = good;
      if (good.size > MOST_GOOD) good.delete(oldest);
    }
  }

  async function sendUnknown(logins: Logins, digest: string, wanted: GitLabRequest) {
    begin(logins);
    let isWrong = false;
    try {
      const answer = await http.forward(wanted);
      isWrong = answer.statusCode === 401;
      learn(logins, digest, answer.statusCode);
      return answer;
    } catch (error) {
      // Who hangs up before the answer has had GitLab look at them all the same.
      isWrong = wanted.signal?.aborted === true;
      if (isWrong) learn(logins, digest, 401);
      throw error;
    } finally {
      logins.underWay -= 1;
      if (!isWrong) inAll.putBack();
    }
  }

  return {
    async send({ guest }, session, wanted) {
      const headers = wanted.headers ?? {};
      const digest = digestOf(headers, wanted.path);
      if (digest === undefined) return await http.forward(wanted);
      const logins = loginsOf(guest);
      const isOwn = isOwnToken(session, headers) && !logins.refused.has(digest);
      if (!isOwn && !logins.good.has(digest)) return await sendUnknown(logins, digest, wanted);
      const answer = await http.forward(wanted);
      learn(logins, digest, answer.statusCode);
      return answer;
    },
  };
}

const credentialHeaders = ["authorization", "job-token", "private-token", "deploy-token"];
const credentialQuery = /[?&](?:private_token|job_token|access_token)=[^&]*/g;

/** Of all by which a request would prove itself; undefined when there is nothing. */
function digestOf(headers: IncomingHttpHeaders, path: string): string | undefined {
  const given = [...credentialHeaders.map((name) => headers[name]), ...(path.match(credentialQuery) ?? [])];
  if (given.every((each) => each === undefined)) return undefined;
  return createHash("sha256").update(JSON.stringify(given)).digest("base64");
}

/** Whether the job proves itself by its own token alone, as GitLab takes it. */
function isOwnToken(session: JobSession, headers: IncomingHttpHeaders): boolean {
  const { authorization, "job-token": token } = headers;
  if (headers["private-token"] !== undefined || headers["deploy-token"] !== undefined) return false;
  if (typeof token === "string" && !isSecret(session.token, token)) return false;
  if (authorization === undefined) return token !== undefined;
  const [user, password] = basicCredentials(authorization) ?? [];
  return user === "gitlab-ci-token" && password !== undefined && isSecret(session.token, password);
}

/** User and password of `Authorization: Basic …`. */
export function basicCredentials(
  authorization: string | undefined,
): [user: string, password: string] | undefined {
  const encoded = /^Basic ([A-Za-z0-9+/=]+)$/i.exec(authorization ?? "")?.[1];
  if (encoded === undefined) return undefined;
  const [, user = "", password] =
    /^([^:]*):(.*)$/s.exec(Buffer.from(encoded, "base64").toString("utf8")) ?? [];
  return password === undefined ? undefined : [user, password];
}
