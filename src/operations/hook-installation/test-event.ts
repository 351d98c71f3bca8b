/** GitLab's own test event: the proof that a hook works, and what is wrong where it does not come through. */
import { describeError, FireRunnerError, hintOf } from "../../base/errors.ts";
import { formatDuration } from "../../base/units.ts";
import type { ApiHook } from "../../gitlab/rest-api.ts";
import type { Finding } from "../doctor/findings.ts";
import type { Found, HookInstallOptions, HookScope } from "./step.ts";

/** GitLab's answer comes after the delivery; what is left is the trip over the control socket. */
const ARRIVAL_LIMIT_MS = 15_000;

const POLL_MS = 250;

const tests = [
  { trigger: "job_events", event: "Job Hook", what: "job" },
  { trigger: "pipeline_events", event: "Pipeline Hook", what: "pipeline" },
] as const;

export async function tryHook(
  options: HookInstallOptions,
  scope: HookScope,
  hook: ApiHook,
): Promise<Found<true>> {
  const { clock, arrivals } = options;
  const since = clock.now();
  if ((await arrivals(since)) === undefined) {
    return {
      value: true,
      level: "warn",
      message: "no FireRunner runs here, so GitLab was not asked for its test event",
      hint: "Start it (firerunner start), and install again: that changes nothing but sends the event.",
    };
  }
  const skipped: string[] = [];
  for (const { trigger, event, what } of tests) {
    const sent = await sendTest(options, scope, hook.id, trigger);
    if (sent === "nothing to send") {
      skipped.push(what);
      continue;
    }
    if (sent !== undefined) return sent;
    const note = skipped.length > 0 ? ` (there is no ${skipped.join(" or ")} yet to make another from)` : "";
    return await awaitArrival(options, { since, event, note });
  }
  return {
    value: true,
    level: "warn",
    message: `${scope.path} has neither a job nor a pipeline yet from which GitLab could make a test event`,
    hint: "The first pipeline is the test: “firerunner webhook status” shows what arrives.",
  };
}

/** Undefined when GitLab has sent it and got a good answer. */
async function sendTest(
  { rest, url, signal }: HookInstallOptions,
  scope: HookScope,
  hookId: number,
  trigger: (typeof tests)[number]["trigger"],
): Promise<(Finding & { readonly level: "fail" }) | "nothing to send" | undefined> {
  try {
    await rest.testHook(scope, hookId, trigger, signal);
    return undefined;
  } catch (error) {
    signal?.throwIfAborted();
    return hasNothingToSend(error) ? "nothing to send" : explainTestFailure(error, url);
  }
}

async function awaitArrival(
  { clock, arrivals, url, signal }: HookInstallOptions,
  { since, event, note }: { since: number; event: string; note: string },
): Promise<Found<true>> {
  while (clock.now() - since < ARRIVAL_LIMIT_MS) {
    const arrived = await arrivals(since);
    if (arrived?.some((each) => each.event === event)) {
      const took = formatDuration(clock.now() - since);
      return { value: true, level: "ok", message: `GitLab's ${event} arrived here within ${took}${note}` };
    }
    await clock.sleep(POLL_MS, signal);
  }
  return {
    level: "fail",
    message: `GitLab got a good answer from ${url}, and this FireRunner has received nothing`,
    hint: "Another FireRunner, or something else, answers there: compare webhook.url with http.listen, and look at the proxy between.",
  };
}

/** How GitLab words what kept it from delivering (lib/gitlab/http, Net::HTTP, OpenSSL), and what to do about each. */
const causes: readonly { readonly words: RegExp; readonly hint: string }[] = [
  {
    words: /is blocked|local network|localhost/i,
    hint: "GitLab's administrator must allow it: Admin → Settings → Network → Outbound requests → “Allow requests to the local network from webhooks and integrations”, or list this host there.",
  },
  {
    words: /certificate|SSL_connect|self[- ]signed|wrong version number/i,
    hint: "GitLab must trust the public server's certificate for this name: use one of a public authority, with its whole chain in http.tls.certificateFile, or let GitLab's administrator add yours to its trusted certificates.",
  },
  {
    words: /getaddrinfo|cannot be resolved|name or service not known|nodename nor servname/i,
    hint: "GitLab does not know this host name: correct webhook.url, or its DNS entry.",
  },
  {
    words:
      /timed? ?out|execution expired|connection refused|unreachable|no route|failed to open tcp|reset by peer|end of file/i,
    hint: "GitLab cannot reach this address: look at firewalls and port forwarding, and at http.listen and “firerunner status” on this computer.",
  },
  {
    words: /rate limit|too many/i,
    hint: "Wait a minute and try again: the public server and GitLab limit how often this may be asked.",
  },
  {
    words: /check the clocks/i,
    hint: "The clocks of GitLab and of this computer differ by minutes: let a time service set both.",
  },
  {
    words: /signature|signing|secret token|x-gitlab-token/i,
    hint: "The public server was reached and did not accept the proof: it runs with another key than the hook. “firerunner reload”, then install again; behind a proxy, the proxy must not change the body or the webhook-… headers.",
  },
  {
    words: /may not deliver/i,
    hint: "The public server was reached and refuses GitLab's address: add it to http.allow, or the proxy between to http.trustedProxies.",
  },
  {
    words: /takes no webhooks/i,
    hint: "The FireRunner that answers there has no “webhook” in its configuration: restart it with this one.",
  },
  {
    words: /could not be kept/i,
    hint: "The public server was reached and could not store the delivery: FireRunner's log says why; is its disk full?",
  },
  {
    words: /silent mode/i,
    hint: "GitLab is in silent mode and sends no webhooks; its administrator can end that.",
  },
];

/** True when GitLab has no job, pipeline or project from which to make a test event. */
function hasNothingToSend(error: unknown): boolean {
  return codeOf(error) === "gitlab_refused" && /\bEnsure the (project|group)\b/i.test(describeError(error));
}

/** Why GitLab's test event did not come through, in GitLab's words, and what to do. */
function explainTestFailure(error: unknown, url: string): Finding & { readonly level: "fail" } {
  const message = describeError(error);
  if (codeOf(error) === "gitlab_rate_limited") {
    const hint = "GitLab sends 5 test events in a minute at most: try again in a minute.";
    return { level: "fail", message, hint };
  }
  if (codeOf(error) !== "gitlab_refused") {
    const hint = hintOf(error);
    return { level: "fail", message, ...(hint === undefined ? {} : { hint }) };
  }
  const known = causes.find(({ words }) => words.test(message));
  const hint =
    known?.hint ??
    `Something else than FireRunner may answer at ${url}: “firerunner webhook send --url ${url}” shows its answer.`;
  return { level: "fail", message, hint };
}

function codeOf(error: unknown): string | undefined {
  return error instanceof FireRunnerError ? error.code : undefined;
}
