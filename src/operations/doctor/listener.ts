/**
 * Whether webhooks could come in: the addresses to listen on, the certificate, and the path that GitLab takes to the public server, tried
 * from here: GitLab may still see another (firewalls, its own DNS, its trust).
 */
import { X509Certificate } from "node:crypto";
import { createServer, isIP } from "node:net";
import { type Clock, systemClock } from "../../base/clock.ts";
import { withDeadline } from "../../base/deadline.ts";
import { describeError, systemCode } from "../../base/errors.ts";
import { listenOn, listenProblem } from "../../base/listen.ts";
import { CERTIFICATE_ENDS_SOON_MS, type TlsFiles } from "../../base/tls.ts";
import { formatDuration } from "../../base/units.ts";
import type { Config } from "../../config/load.ts";
import { jsonOf, readAnswer } from "../../gitlab/answer.ts";
import { connectGitLab } from "../../gitlab/http.ts";
import {
  type Listener,
  parseListener,
  readServerPair,
  resolveListener,
} from "../../server/network/listener.ts";
import { publicServerName } from "../../server/public/public-server.ts";
import { answer, type DoctorCheck, type Finding, mergeFindings, type RunningFireRunner } from "./findings.ts";

interface ListenerCheckOptions {
  readonly config: Pick<Config, "gitlab" | "http" | "proxy">;
  /** `webhook.url`. */
  readonly url: string | undefined;
  /** Undefined when no FireRunner runs on this state directory. */
  readonly running: RunningFireRunner | undefined;
  readonly clock: Clock;
}

/** Nothing where nothing is to listen and GitLab is told no address. */
export function listenerChecks(options: ListenerCheckOptions): DoctorCheck[] {
  const { config, url, running, clock } = options;
  const { listen, tls } = config.http;
  const listeners = listen.map(parseListener).map((listener) => ({
    name: `listen ${listener.host}:${listener.port}`,
    run: answer(async () => await checkListener(listener, running)),
  }));
  const certificate = (files: TlsFiles): DoctorCheck => ({
    name: "certificate",
    run: answer(async () => mergeFindings(await certificateFindings(files, url, clock.now()))),
  });
  const reachability = {
    name: "webhook.url",
    run: answer((signal) => checkReachability(options, signal), "warn"),
  };
  return [
    ...listeners,
    ...(tls && listen.length > 0 ? [certificate(tls)] : []),
    ...(url === undefined ? [] : [reachability]),
  ];
}

async function checkListener(listener: Listener, running: RunningFireRunner | undefined): Promise<Finding> {
  if (running?.addresses.some((address) => isAddressOf(address, listener))) {
    return { level: "ok", message: "the running FireRunner listens there" };
  }
  const tries = (await resolveListener(listener, publicServerName)).map((place) => tryToListen(place));
  const finding = mergeFindings(await Promise.all(tries));
  if (running === undefined || finding.level !== "ok") return finding;
  const hint = "Restart FireRunner: what http.listen names is taken over at the start only.";
  return { level: "warn", message: "the running FireRunner does not listen there", hint };
}

function isAddressOf(address: string, { isTls, port }: Listener): boolean {
  return address.startsWith(isTls ? "https://" : "http://") && address.endsWith(`:${port}`);
}

/** For a moment, without taking any connection: also proves that this user may. */
export async function tryToListen({ host, port }: Listener, key = "http.listen"): Promise<Finding> {
  const server = createServer((socket) => socket.destroy());
  try {
    await listenOn(server, { host, port, exclusive: true });
  } catch (error) {
    const { why, hint } = listenProblem(systemCode(error), port, key);
    return { level: "fail", message: why, hint };
  }
  await new Promise((resolve) => server.close(resolve));
  return { level: "ok", message: "free, and this user may listen there" };
}

/** Beside what keeps the public server from opening, which is thrown: what keeps GitLab from trusting it. */
async function certificateFindings(
  files: TlsFiles,
  url: string | undefined,
  now: number,
): Promise<Finding[]> {
  const pair = await readServerPair(files, publicServerName);
  return [
    ...pairFindings(files, pair, now, "GitLab refuses to call"),
    ...nameFindings(new X509Certificate(pair.cert), url),
  ];
}

interface Validity {
  readonly validFrom: number;
  readonly validUntil: number;
}

/** Of a pair that could be read: that it fits, and what is to be said of its time. `consequence`: what comes of one that is over. */
export function pairFindings(
  { certificateFile }: TlsFiles,
  validity: Validity,
  now: number,
  consequence: string,
): Finding[] {
  const day = new Date(validity.validUntil).toISOString().slice(0, 10);
  const fits = `${certificateFile} fits its key and is valid until ${day}`;
  return [{ level: "ok", message: fits }, ...dateFindings(validity, now, consequence)];
}

/** What is to be said of a certificate's time; nothing when it is well. */
function dateFindings({ validFrom, validUntil }: Validity, now: number, consequence: string): Finding[] {
  const hint = "Renew it and put the new one into the same files: FireRunner takes it within seconds.";
  if (now >= validUntil) {
    const message = `the certificate has expired ${formatDuration(now - validUntil)} ago: ${consequence}`;
    return [{ level: "warn", message, hint }];
  }
  if (now < validFrom) {
    const message = `the certificate is valid only from ${new Date(validFrom).toISOString()} on`;
    return [{ level: "warn", message, hint: "Is this computer's clock right?" }];
  }
  if (validUntil - now >= CERTIFICATE_ENDS_SOON_MS) return [];
  return [{ level: "warn", message: `the certificate expires in ${formatDuration(validUntil - now)}`, hint }];
}

function nameFindings(certificate: X509Certificate, url: string | undefined): Finding[] {
  if (url === undefined || !url.startsWith("https:")) return [];
  const host = new URL(url).hostname.replace(/^\[|\]$/g, "");
  const isFor = isIP(host) === 0 ? certificate.checkHost(host) : certificate.checkIP(host);
  if (isFor !== undefined) return [];
  return [
    {
      level: "warn",
      message: `the certificate is not for ${host}, which GitLab calls by webhook.url`,
      hint: "Get one with this name, unless a proxy between ends TLS with a certificate of its own.",
    },
  ];
}

const ANSWER_LIMIT_MS = 10_000;
const MAX_ANSWER_BYTES = 4_096;
/** Bad certificates have codes of OpenSSL's (`DEPTH_ZERO_SELF_SIGNED_CERT`) and of Node's own (`ERR_TLS_CERT_ALTNAME_INVALID`). */
const certificateCode = /CERT|SIGNATURE|SSL|TLS/;

interface ReachabilityOptions {
  readonly config: Pick<Config, "gitlab" | "proxy">;
  readonly url: string | undefined;
  readonly running: RunningFireRunner | undefined;
}

/** Asks `/healthz` beside `webhook.url`, which no count of refused requests notices. */
async function checkReachability(
  { config, url: given, running }: ReachabilityOptions,
  signal: AbortSignal,
): Promise<Finding> {
  const url = new URL(given ?? "");
  try {
    // A private authority that GitLab's certificate has is likely to have signed this one too.
    return answerFinding(url, await ask(url, config, signal));
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

function answerFinding(url: URL, answer: Awaited<ReturnType<typeof readAnswer>>): Finding {
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
