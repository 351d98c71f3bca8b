/** Makes GitLab tell us of jobs: creates the hook or repairs it, and proves with GitLab's own test event that it works. */

import { systemClock } from "../../base/clock.ts";
import { FireRunnerError } from "../../base/errors.ts";
import { formatDuration } from "../../base/units.ts";
import type { Config } from "../../config/load.ts";
import { isSameUrl } from "../../discovery/hook-health.ts";
import { connectGitLab } from "../../gitlab/http.ts";
import { createGitLabRest } from "../../gitlab/rest.ts";
import {
  type ApiHook,
  type NamedScope,
  neededRoles,
  TOKEN_ENDS_SOON_MS,
  type TokenFacts,
} from "../../gitlab/rest-api.ts";
import {
  type Found,
  failureOf,
  type HookInstallOptions,
  type HookRequest,
  type HookScope,
  type Step,
  step,
} from "./step.ts";
import { tryHook } from "./test-event.ts";

/** Every step as it is done. The first that fails is the last. Throws only when the signal aborts. */
export async function* installHook(options: HookInstallOptions): AsyncGenerator<Step> {
  const { rest, scope: named, signal } = options;
  const facts = yield* step("API token", signal, async () =>
    checkToken(await rest.tokenFacts(signal), options),
  );
  if (!facts) return;
  const scope = yield* step("scope", signal, async () => await findHookScope(rest, named, signal));
  if (!scope) return;
  if (!(yield* step("role", signal, async () => await checkRole(options, facts, scope)))) return;
  if (!(yield* step("address", signal, async () => checkAddress(options.url)))) return;
  const hook = yield* step("hook", signal, async () => await placeHook(options, scope));
  if (!hook) return;
  if (!(yield* step("proof", signal, async () => checkProof(hook, options)))) return;
  yield* step("test event", signal, async () => await tryHook(options, scope, hook));
}

function checkToken(facts: TokenFacts, { clock }: HookInstallOptions): Found<TokenFacts> {
  const { name, username, scopes, active, expiresAt } = facts;
  const who = `“${name}” of ${username}`;
  if (!active) {
    const hint = "Make a new one in GitLab and put it into webhook.apiTokenFile.";
    return { level: "fail", message: `${who} has expired or was revoked`, hint };
  }
  if (!scopes.includes("api")) {
    return {
      level: "fail",
      message: `${who} has the scopes ${scopes.join(", ") || "none"}, and hooks are made with the scope api only`,
      hint: "Use a token with the scope api in webhook.apiTokenFile for this command; or make the hook by hand, as docs/webhooks.md says.",
    };
  }
  const leftMs = expiresAt === null ? Number.POSITIVE_INFINITY : expiresAt - clock.now();
  if (leftMs > TOKEN_ENDS_SOON_MS) return { value: facts, level: "ok", message: `${who} may make hooks` };
  const message = `${who} may make hooks, and expires in ${formatDuration(Math.max(0, leftMs))}`;
  return {
    value: facts,
    level: "warn",
    message,
    hint: "Make a new one in time: without it no job is found.",
  };
}

async function findHookScope(
  rest: HookInstallOptions["rest"],
  named: NamedScope,
  signal: AbortSignal | undefined,
): Promise<Found<HookScope>> {
  const scope = await rest.findScope(named, signal);
  if (scope.kind === "instance") {
    return {
      level: "fail",
      message: "GitLab has no hook for the jobs of a whole instance",
      hint: "Install it for each group or project: firerunner webhook install --group PATH, or --project PATH. Without hooks jobs are still found, by looking every webhook.poll.interval in known projects.",
    };
  }
  return { value: scope, level: "ok", message: `${scope.kind} ${scope.path} (${scope.id})` };
}

/** Custom roles may allow it where the level does not, so GitLab itself has the last word. */
async function checkRole(
  { rest, signal }: HookInstallOptions,
  { userId, username, isAdmin }: TokenFacts,
  scope: HookScope,
): Promise<Found<true>> {
  if (isAdmin) return { value: true, level: "ok", message: `${username} is an administrator` };
  const needed = neededRoles[scope.kind];
  const level = await rest.accessLevel(scope, userId, signal);
  if (level !== undefined && level >= needed.level) {
    return { value: true, level: "ok", message: `${username} is ${needed.role} there, or more` };
  }
  const has = level === undefined ? "is no member there" : `has the access level ${level} there`;
  return {
    value: true,
    level: "warn",
    message: `${username} ${has}, and hooks of a ${scope.kind} need ${needed.role} (${needed.level})`,
    hint: `If GitLab refuses below, give ${username} the role ${needed.role}.`,
  };
}

function checkAddress(url: string): Found<true> {
  const { protocol, pathname, hostname } = new URL(url);
  if (protocol === "http:" && !isLoopback(hostname)) {
    const hint = "Whoever is on the way can read the payloads; https with http.tls is better.";
    return { value: true, level: "warn", message: `${url} is not encrypted`, hint };
  }
  if (pathname !== "/webhook") {
    const hint = "The public server answers at /webhook only: a proxy must map this path to it.";
    return { value: true, level: "warn", message: `${url} does not end with /webhook`, hint };
  }
  return { value: true, level: "ok", message: url };
}

function isLoopback(hostname: string): boolean {
  return hostname === "localhost" || hostname === "[::1]" || hostname.startsWith("127.");
}

async function placeHook(options: HookInstallOptions, scope: HookScope): Promise<Found<ApiHook>> {
  const { rest, url, signingKey: signingToken, token, signal } = options;
  const settings = { url, signingToken, token };
  try {
    const ours = (await rest.hooksOf(scope, signal)).filter((hook) => isSameUrl(hook.url, url));
    const [first, ...others] = ours;
    const value = first
      ? await rest.updateHook(scope, first.id, settings, signal)
      : await rest.createHook(scope, settings, signal);
    const repairs = first ? repairsOf(first) : [];
    const message = first
      ? `hook ${value.id} was there and has its keys set anew${repairs.length > 0 ? `; repaired: ${repairs.join(", ")}` : ""}`
      : `hook ${value.id} made, for job and pipeline events`;
    if (others.length === 0) return { value, level: "ok", message };
    const ids = others.map(({ id }) => id).join(", ");
    const hint =
      "Delete the others in GitLab: each event comes several times, and counts against its limits.";
    return { value, level: "warn", message: `${message}; also hooks ${ids} lead to this address`, hint };
  } catch (error) {
    signal?.throwIfAborted();
    const failure = failureOf(error);
    return isGroupRefusal(error, scope) ? { ...failure, hint: groupHint(scope.path) } : failure;
  }
}

/** What was not as it should be with a hook that was there. */
function repairsOf(hook: ApiHook): string[] {
  const repairs = [];
  if (!hook.jobEvents) repairs.push("job events switched on");
  if (!hook.pipelineEvents) repairs.push("pipeline events switched on");
  if (!hook.sslVerification) repairs.push("certificates are verified");
  if (hook.alertStatus !== undefined && hook.alertStatus !== "executable") {
    repairs.push("GitLab had switched it off; a test event that succeeds switches it on");
  }
  return repairs;
}

/** A GitLab without group hooks says so with 404, one without the licence or the role for them with 403. */
function isGroupRefusal(error: unknown, { kind }: HookScope): boolean {
  const code = error instanceof FireRunnerError ? error.code : undefined;
  return kind === "group" && (code === "gitlab_forbidden" || code === "gitlab_not_found");
}

function groupHint(path: string): string {
  return `Hooks of groups need GitLab Premium or Ultimate and the role Owner. On the free plan make one for each project: firerunner webhook install --project ${path}/PROJECT.`;
}

/** Whether what GitLab will send can prove itself. A GitLab older than 19.0 takes a signing token and forgets it. */
function checkProof(hook: ApiHook, { signingKey, token }: HookInstallOptions): Found<true> {
  const value = true;
  if (signingKey !== undefined && hook.signingTokenPresent === true) {
    return { value, level: "ok", message: "deliveries are signed" };
  }
  if (signingKey === undefined) {
    const hint = "GitLab 19.0 and newer can sign: name a file in webhook.signingKeyFile and install again.";
    return { value, level: "warn", message: "deliveries carry the secret token, and are not signed", hint };
  }
  if (token !== undefined) {
    const message =
      "this GitLab ignores signing tokens (it is older than 19.0); deliveries carry the secret token";
    return { value, level: "warn", message, hint: "Install again after GitLab's update." };
  }
  return {
    level: "fail",
    message:
      "this GitLab ignores signing tokens (it is older than 19.0), so its deliveries would prove nothing and be refused",
    hint: "Put a long random word into a file (openssl rand -hex 32), name it in webhook.tokenFile, reload, and install again.",
  };
}

/** Installs the hook with the configuration's GitLab, API token and newest keys. `webhook` is that of `config`. */
export async function* installConfiguredHook(
  config: Pick<Config, "gitlab" | "proxy">,
  { secrets }: Pick<NonNullable<Config["webhook"]>, "secrets">,
  request: HookRequest,
): AsyncGenerator<Step> {
  const http = await connectGitLab(config);
  try {
    const token = () => secrets.apiToken;
    const rest = createGitLabRest({ http, clock: systemClock, version: "webhook-install", token });
    const [signingKey, plainToken] = [secrets.signingKeys[0], secrets.tokens[0]];
    yield* installHook({ ...request, rest, signingKey, token: plainToken, clock: systemClock });
  } finally {
    await http.close();
  }
}
