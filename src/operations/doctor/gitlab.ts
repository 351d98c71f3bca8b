/** Whether GitLab's API is where the configuration says, by the route that the configuration says: proxy, certificates, answer. */

import type { X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import type { Clock } from "../../base/clock.ts";
import { withDeadline } from "../../base/deadline.ts";
import { describeError } from "../../base/errors.ts";
import { proxyErrorIn } from "../../base/proxy/errors.ts";
import { proxyFor, targetOfUrl } from "../../base/proxy/routes.ts";
import { CERTIFICATE_ENDS_SOON_MS, certificatesIn } from "../../base/tls.ts";
import { formatDuration } from "../../base/units.ts";
import type { Config } from "../../config/load.ts";
import { readAnswer } from "../../gitlab/answer.ts";
import type { GitLabError } from "../../gitlab/errors.ts";
import { gitLabErrorFrom } from "../../gitlab/errors.ts";
import { connectGitLab } from "../../gitlab/http.ts";
import type { DoctorCheck, Finding } from "./findings.ts";
import { answer, mergeFindings, sentence } from "./findings.ts";

const ANSWER_LIMIT_MS = 15_000;
const MAX_ANSWER_BYTES = 64 * 1024;
/** Left out again where the sentence says it already. */
const ASKING = "asking GitLab";

export interface GitLabCheckOptions {
  readonly config: Pick<Config, "gitlab" | "proxy" | "guests">;
  readonly clock: Clock;
}

export function gitlabChecks(options: GitLabCheckOptions): DoctorCheck[] {
  const { gitlab, proxy, guests } = options.config;
  const authorities = {
    "gitlab.caFile": gitlab.caFile,
    "proxy.caFile": proxy.caFile,
    "guests.caFile": guests.caFile,
  };
  const files = Object.entries(authorities).flatMap(([key, path]) =>
    path === undefined ? [] : [{ key, path }],
  );
  const own = gitlab.clientCertificateFile;
  return [
    ...(proxy.http || proxy.https
      ? [{ name: "proxy", run: (signal: AbortSignal) => checkProxy(options, signal) }]
      : []),
    { name: "gitlab", run: (signal) => checkReachable(options, signal) },
    ...(own === undefined
      ? []
      : [
          {
            name: "client certificate",
            run: answer(() =>
              checkDates([{ key: "gitlab.clientCertificateFile", path: own }], options.clock),
            ),
          },
        ]),
    ...(files.length === 0
      ? []
      : [{ name: "authorities", run: answer(() => checkDates(files, options.clock), "warn") }]),
  ];
}

interface Heard {
  readonly status: number;
  readonly tookMs: number;
}

async function ask({ config, clock }: GitLabCheckOptions, signal: AbortSignal): Promise<Heard> {
  const http = await connectGitLab(config);
  try {
    const startedAt = clock.now();
    const limit = { limitMs: ANSWER_LIMIT_MS, parent: signal };
    const { status } = await withDeadline(clock, limit, async (either) => {
      const response = await http.request({ method: "GET", path: "/api/v4/version", signal: either });
      return await readAnswer(response, MAX_ANSWER_BYTES);
    });
    return { status, tookMs: clock.now() - startedAt };
  } finally {
    await http.dispatcher.destroy();
  }
}

/** Only what is the proxy's own: what GitLab says behind it is the next question. */
async function checkProxy(options: GitLabCheckOptions, signal: AbortSignal): Promise<Finding> {
  const { gitlab, proxy } = options.config;
  const server = proxyFor(targetOfUrl(new URL(gitlab.url)), proxy);
  if (server === undefined) {
    const named = [
      ...new Set(
        [proxy.https, proxy.http].flatMap((each) => (each ? [`${each.origin} (${each.namedBy})`] : [])),
      ),
    ];
    return {
      level: "ok",
      message: `${gitlab.url} is reached without ${named.join(" and ")}, as the exceptions say`,
    };
  }
  const named = `${server.origin} (${server.namedBy})`;
  const leads: Finding = { level: "ok", message: `${named} leads to ${gitlab.url}` };
  try {
    await ask(options, signal);
    return leads;
  } catch (error) {
    signal.throwIfAborted();
    const ofProxy = proxyErrorIn(error);
    if (ofProxy === undefined) return leads;
    const { message, hint } = ofProxy;
    return { level: "fail", message, ...(hint === undefined ? {} : { hint: sentence(hint) }) };
  }
}

const unreachable = new Set<string>([
  "gitlab_proxy",
  "gitlab_unreachable",
  "gitlab_certificate",
  "gitlab_client_certificate",
  "gitlab_ca_unreadable",
  "gitlab_wrong_url",
] satisfies GitLabError["code"][]);

/** A question to GitLab itself. That GitLab cannot be asked at all is told once, by “gitlab”. */
export function answerOfGitLab(ask: (signal: AbortSignal) => Promise<Finding>): DoctorCheck["run"] {
  return answer(async (signal) => {
    try {
      return await ask(signal);
    } catch (error) {
      signal.throwIfAborted();
      if (!unreachable.has(gitLabErrorFrom(error, ASKING).code)) throw error;
      return { level: "warn", message: "not known: GitLab cannot be asked", hint: "See “gitlab” above." };
    }
  });
}

/** Without a token GitLab answers 401: it is there. */
async function checkReachable(options: GitLabCheckOptions, signal: AbortSignal): Promise<Finding> {
  const { url } = options.config.gitlab;
  try {
    return statusFinding(url, await ask(options, signal));
  } catch (error) {
    signal.throwIfAborted();
    const known = gitLabErrorFrom(error, ASKING);
    if (known.code === "gitlab_proxy") {
      return {
        level: "fail",
        message: `${url} cannot be reached: the proxy does not lead there`,
        hint: "See “proxy” above.",
      };
    }
    return {
      level: "fail",
      message: `${url} cannot be reached: ${wordsOf(known, error)}`,
      hint: adviceFor(known),
    };
  }
}

function statusFinding(url: string, { status, tookMs }: Heard): Finding {
  if (status >= 500) {
    return {
      level: "warn",
      message: `${url} answers ${status}`,
      hint: "It is down or in maintenance; FireRunner goes on asking.",
    };
  }
  if (status === 200 || status === 401 || status === 403) {
    return { level: "ok", message: `${url} answers in ${formatDuration(tookMs)}` };
  }
  return {
    level: "fail",
    message: `${url} answers ${status}: something is there, but not GitLab's API`,
    hint: "Correct gitlab.url; a GitLab below a path needs the path as well.",
  };
}

function wordsOf(known: GitLabError, error: unknown): string {
  return known.code === "gitlab_unreachable"
    ? describeError(error)
    : known.message.replace(`${ASKING}: `, "");
}

function adviceFor({ code, hint, message }: GitLabError): string {
  if (code !== "gitlab_unreachable") return sentence(hint ?? "look at the message");
  return message.includes("its name cannot be resolved")
    ? "The name is not known: check gitlab.url and this computer's DNS. Behind a company's proxy, name it in proxy.url."
    : "Check gitlab.url, and firewalls or proxies (proxy.url) between this computer and GitLab.";
}

interface CertificateFile {
  readonly key: string;
  readonly path: string;
}

async function checkDates(files: readonly CertificateFile[], clock: Clock): Promise<Finding> {
  const findings = await Promise.all(
    files.map(async ({ key, path }) => {
      const certificates = certificatesIn(await readFile(path, "utf8"));
      return certificates.map((each) => datesFinding(each, key, clock.now()));
    }),
  );
  return mergeFindings(findings.flat());
}

function datesFinding(certificate: X509Certificate, key: string, now: number): Finding {
  const name = /^CN=(.*)$/m.exec(certificate.subject)?.[1] ?? certificate.subject.replaceAll("\n", ", ");
  const until = Date.parse(certificate.validTo);
  const told = `${key}: ${JSON.stringify(name)}`;
  const renew = `Put a renewed certificate into ${key}.`;
  if (now >= until) return { level: "fail", message: `${told} expired on ${day(until)}`, hint: renew };
  if (now < Date.parse(certificate.validFrom)) {
    return { level: "fail", message: `${told} is not yet valid`, hint: "Check this computer's clock." };
  }
  const message = `${told} is valid until ${day(until)}`;
  return until - now < CERTIFICATE_ENDS_SOON_MS
    ? { level: "warn", message: `${message}, which is soon`, hint: renew }
    : { level: "ok", message };
}

function day(at: number): string {
  return new Date(at).toISOString().slice(0, 10);
}
