import type { Clock } from "../../base/clock.ts";
import { type Answer, readAnswer, requestedWaitMs } from "../../gitlab/answer.ts";
import { gitLabErrorFrom } from "../../gitlab/errors.ts";
import type { GitLabHttp } from "../../gitlab/http.ts";
import { Refusal } from "../errors.ts";
import { type Exchange, headersForGuest, headersFromGuest, reply } from "../gateway/exchange.ts";
import type { Guest } from "../gateway/guest.ts";

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
