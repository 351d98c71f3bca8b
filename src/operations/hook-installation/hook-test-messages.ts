import { describeError, FireRunnerError, hintOf } from "../../base/errors.ts";
import type { Finding } from "../doctor/check.ts";

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
export function hasNothingToSend(error: unknown): boolean {
  return codeOf(error) === "gitlab_refused" && /\bEnsure the (project|group)\b/i.test(describeError(error));
}

/** Why GitLab's test event did not come through, in GitLab's words, and what to do. */
export function explainTestFailure(error: unknown, url: string): Finding & { readonly level: "fail" } {
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
