import { type Clock, systemClock } from "../base/clock.ts";
import { withDeadline } from "../base/deadline.ts";
import { describeError, FireRunnerError, hintOf } from "../base/errors.ts";
import { directRoutes } from "../base/proxy/routes.ts";
import type { Secret } from "../base/secret.ts";
import type { CompanyProxy } from "../config/load.ts";
import { reviewHookScope, reviewRole, reviewToken } from "../discovery/token-review.ts";
import { jsonOf, readAnswer } from "../gitlab/answer.ts";
import { gitLabErrorFrom, gitLabErrorOf } from "../gitlab/errors.ts";
import { connectGitLab, type GitLabHttp } from "../gitlab/http.ts";
import { createGitLabRest } from "../gitlab/rest.ts";
import type { GitLabRest } from "../gitlab/rest-api.ts";
import type { Finding } from "./doctor/findings.ts";

/** A GitLab that is not configured yet. */
export interface GitLabPlace {
  readonly url: string;
  readonly caFile: string | undefined;
}

export type ScopeName =
  | { readonly kind: "group" | "project"; readonly name: string }
  | { readonly kind: "instance" };

/** A finding about an address. `untrusted`: only its certificate is wrong. */
type PlaceFinding = Finding & { readonly untrusted?: true };

/**
 * Checks what an operator says about a GitLab, as soon as it is said. Whatever is wrong is a finding; only an aborted signal
 * throws.
 */
export interface SetupChecks {
  /** Whether a GitLab answers there, with a certificate that is trusted. */
  checkPlace(place: GitLabPlace, signal: AbortSignal): Promise<PlaceFinding>;
  /** What the token is, and each thing that it lacks. */
  checkToken(place: GitLabPlace, token: Secret, signal: AbortSignal): Promise<readonly Finding[]>;
  /** Whether it exists, and whether the token's user may make runners there. */
  checkScope(
    place: GitLabPlace,
    token: Secret,
    scope: ScopeName,
    signal: AbortSignal,
  ): Promise<readonly Finding[]>;
}

const MAX_ANSWER_BYTES = 64 * 1024;
const ANSWER_LIMIT_MS = 20_000;

/** Asks the GitLab in question itself. */
export function createSetupChecks(
  proxy: CompanyProxy = directRoutes,
  clock: Clock = systemClock,
): SetupChecks {
  return {
    checkPlace: async (place, signal) => {
      if (!URL.canParse(place.url)) return { level: "fail", message: `“${place.url}” is not an address` };
      try {
        return await withHttp(place, async (http) => await findGitLab(http, place.url, signal));
      } catch (error) {
        const finding = failureOf(error, signal);
        const isUntrusted = error instanceof FireRunnerError && error.code === "gitlab_certificate";
        return isUntrusted ? { ...finding, untrusted: true } : finding;
      }
    },
    checkToken: async (place, token, signal) =>
      await findings(signal, async () => {
        const facts = await withRest(place, token, async (rest) => await rest.tokenFacts(signal));
        return [...reviewToken(facts, clock.now()), ...reviewHookScope(facts)];
      }),
    checkScope: async (place, token, named, signal) =>
      await findings(signal, async () =>
        withRest(place, token, async (rest) => await checkScope(rest, named, signal)),
      ),
  };

  async function withHttp<T>(
    { url, caFile }: GitLabPlace,
    ask: (http: GitLabHttp) => Promise<T>,
  ): Promise<T> {
    const http = await connectGitLab({ gitlab: { url, caFile }, proxy });
    try {
      return await ask(http);
    } finally {
      await http.close();
    }
  }

  async function withRest<T>(
    place: GitLabPlace,
    token: Secret,
    ask: (rest: GitLabRest) => Promise<T>,
  ): Promise<T> {
    return await withHttp(place, async (http) =>
      ask(
        createGitLabRest({
          http,
          clock,
          version: "init",
          token: () => token,
          answerTimeoutMs: ANSWER_LIMIT_MS,
        }),
      ),
    );
  }
}

/** Without a token GitLab's API answers 401, in JSON: so much is enough to know it. */
async function findGitLab(http: GitLabHttp, url: string, signal: AbortSignal): Promise<PlaceFinding> {
  const doing = `looking for GitLab at ${url}`;
  const headers = { accept: "application/json" };
  const limit = { limitMs: ANSWER_LIMIT_MS, parent: signal };
  const answer = await withDeadline(systemClock, limit, async (either) => {
    const response = await http.request({ method: "GET", path: "/api/v4/version", headers, signal: either });
    return await readAnswer(response, MAX_ANSWER_BYTES);
  }).catch((error: unknown) => {
    throw gitLabErrorFrom(error, doing);
  });
  const isGitLab = [200, 401, 403].includes(answer.status) && jsonOf(answer) !== undefined;
  if (!isGitLab)
    throw gitLabErrorOf(answer.status, String(answer.headers["location"] ?? "") || undefined, doing);
  if (new URL(url).protocol === "https:") return { level: "ok", message: `GitLab answers at ${url}` };
  return {
    level: "warn",
    message: `GitLab answers at ${url}, without encryption: tokens can be read on the way`,
    hint: "Use its https address if it has one.",
  };
}

async function checkScope(rest: GitLabRest, named: ScopeName, signal: AbortSignal): Promise<Finding[]> {
  const facts = await rest.tokenFacts(signal);
  const scope = await rest.findScope(named, signal);
  const level = await rest.accessLevel(scope, facts.userId, signal);
  const found: Finding[] =
    scope.kind === "instance"
      ? []
      : [{ level: "ok", message: `${scope.kind} ${scope.path} is number ${scope.id} in GitLab` }];
  return [...found, reviewRole(scope, facts, level)];
}

/** What goes wrong with asking is the finding. */
async function findings(signal: AbortSignal, ask: () => Promise<Finding[]>): Promise<Finding[]> {
  return await ask().catch((error: unknown) => [failureOf(error, signal)]);
}

function failureOf(error: unknown, signal: AbortSignal): Finding {
  signal.throwIfAborted();
  const hint = hintOf(error);
  return { level: "fail", message: describeError(error), ...(hint === undefined ? {} : { hint }) };
}
