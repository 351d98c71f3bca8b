import { readFile } from "node:fs/promises";
import { rootCertificates } from "node:tls";
import { Agent, request } from "undici";
import { describeError, systemCode } from "../../base/errors.ts";
import { formatDuration } from "../../base/units.ts";
import type { Config } from "../../config/load.ts";
import type { DoctorCheck, Finding } from "./check.ts";

const ANSWER_LIMIT_MS = 10_000;

interface Answer {
  readonly status: number;
  readonly tookMs: number;
}

/** Whether GitLab's API is where the configuration says. */
export function gitlabChecks(config: Pick<Config, "gitlab">): DoctorCheck[] {
  return [
    { name: "gitlab", run: (signal) => checkReachable(config.gitlab.url, askGitLab(config.gitlab, signal)) },
  ];
}

async function askGitLab({ url, caFile }: Config["gitlab"], signal: AbortSignal): Promise<Answer> {
  const ca = caFile === undefined ? undefined : [...rootCertificates, await readFile(caFile, "utf8")];
  const agent = new Agent(ca ? { connect: { ca } } : {});
  try {
    const startedAt = Date.now();
    const { statusCode, body } = await request(`${url.replace(/\/+$/, "")}/api/v4/version`, {
      dispatcher: agent,
      signal: AbortSignal.any([signal, AbortSignal.timeout(ANSWER_LIMIT_MS)]),
    });
    await body.dump();
    return { status: statusCode, tookMs: Date.now() - startedAt };
  } finally {
    await agent.destroy();
  }
}

/** Without a token GitLab answers 401: it is there. */
async function checkReachable(url: string, asking: Promise<Answer>): Promise<Finding> {
  try {
    const { status, tookMs } = await asking;
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
  } catch (error) {
    return {
      level: "fail",
      message: `${url} cannot be reached: ${describeError(error)}`,
      hint: adviceFor(error),
    };
  }
}

function adviceFor(error: unknown): string {
  const code = systemCode(error) ?? systemCode((error as Error).cause) ?? "";
  if (code === "ENOTFOUND" || code === "EAI_AGAIN")
    return "The name is not known: check gitlab.url and this computer's DNS.";
  if (code.includes("CERT") || code.includes("SIGNATURE") || code.includes("SSL") || code.includes("TLS")) {
    return "Its certificate is not trusted: name the authority's PEM file in gitlab.caFile.";
  }
  if (code === "ENOENT" || code === "EACCES")
    return "gitlab.caFile must name a PEM file that this user may read.";
  return "Check gitlab.url, and firewalls or proxies between this computer and GitLab.";
}
