/** The way that GitLab takes to the public server, tried from here: GitLab may still see another (firewalls, its own DNS, its trust). */
import { systemClock } from "../../base/clock.ts";
import { withDeadline } from "../../base/deadline.ts";
import { describeError, systemCode } from "../../base/errors.ts";
import type { Config } from "../../config/load.ts";
import { jsonOf, readAnswer } from "../../gitlab/answer.ts";
import { connectGitLab } from "../../gitlab/http.ts";
import type { Finding, RunningFireRunner } from "./check.ts";

const ANSWER_LIMIT_MS = 10_000;
const MAX_ANSWER_BYTES = 4_096;
/** Bad certificates have codes of OpenSSL's (`DEPTH_ZERO_SELF_SIGNED_CERT`) and of Node's own (`ERR_TLS_CERT_ALTNAME_INVALID`). */
const certificateCode = /CERT|SIGNATURE|SSL|TLS/;

export interface ReachabilityOptions {
  readonly config: Pick<Config, "gitlab" | "proxy">;
  readonly url: string | undefined;
  readonly running: RunningFireRunner | undefined;
}

/** Asks `/healthz` beside `webhook.url`, which no count of refused requests notices. */
export async function checkReachability(
  { config, url: given, running }: ReachabilityOptions,
  signal: AbortSignal,
): Promise<Finding> {
  const url = new URL(given ?? "");
  try {
    // A private authority that GitLab's certificate has is likely to have signed this one too.
    return judgeAnswer(url, await ask(url, config, signal));
  } catch (error) {
    signal.throwIfAborted();
    const [words, hint] = adviceFor(error, url, running);
    return { level: "warn", message: `${url.origin} ${words}: ${describeError(error)}`, hint };
  }
}

async function ask(url: URL, { gitlab, proxy }: ReachabilityOptions["config"], signal: AbortSignal) {
  const base = url.pathname.replace(/\/webhook\/?$/, "").replace(/\/+$/, "");
  const http = await connectGitLab({ gitlab: { url: url.origin, caFile: gitlab.caFile }, proxy });
  try {
    const limit = { limitMs: ANSWER_LIMIT_MS, parent: signal };
    return await withDeadline(systemClock, limit, async (either) => {
      const response = await http.request({ method: "GET", path: `${base}/healthz`, signal: either });
      return await readAnswer(response, MAX_ANSWER_BYTES);
    });
  } finally {
    await http.close();
  }
}

function judgeAnswer(url: URL, answer: Awaited<ReturnType<typeof readAnswer>>): Finding {
  const json = jsonOf(answer);
  const isAlive = typeof json === "object" && json !== null && "alive" in json && json.alive === true;
  if (answer.status === 200 && isAlive) {
    return { level: "ok", message: `FireRunner answers at ${url.origin}` };
  }
  return {
    level: "warn",
    message: `${url.origin} answers ${answer.status} for /healthz, and not as FireRunner does`,
    hint: "A proxy that passes on nothing but /webhook may do so; “firerunner webhook install” shows whether a delivery arrives.",
  };
}

function adviceFor(
  error: unknown,
  { hostname }: URL,
  running: RunningFireRunner | undefined,
): [words: string, hint: string] {
  const code = codeOf(error);
  if (code === "ENOTFOUND" || code === "EAI_AGAIN") {
    return ["is not known here", `Correct webhook.url, or the DNS entry of ${hostname}.`];
  }
  if (certificateCode.test(code)) {
    return [
      "has a certificate that is not trusted here",
      "GitLab refuses it too, unless its administrator has added the authority: use a certificate for this name, with its whole chain in the file.",
    ];
  }
  if (running === undefined) return ["does not answer", "No FireRunner runs here: start it, and ask again."];
  return [
    "cannot be reached from here",
    "Look at http.listen, at the proxy or port forwarding between, and at firewalls; some networks cannot reach their own public address, and GitLab still can.",
  ];
}

function codeOf(error: unknown): string {
  if (!(error instanceof Error)) return "";
  return systemCode(error) ?? codeOf(error.cause);
}
