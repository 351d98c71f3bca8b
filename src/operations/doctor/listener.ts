/** Whether webhooks could come in: the addresses to listen on, and the certificate. */

import { X509Certificate } from "node:crypto";
import { createServer, isIP } from "node:net";
import type { Clock } from "../../base/clock.ts";
import { systemCode } from "../../base/errors.ts";
import { listenOn, listenProblem } from "../../base/listen.ts";
import { CERTIFICATE_ENDS_SOON_MS, type TlsFiles } from "../../base/tls.ts";
import { formatDuration } from "../../base/units.ts";
import type { Config } from "../../config/load.ts";
import { readServerPair } from "../../server/public/certificate-reloader.ts";
import { type Listener, parseListener, resolveListener } from "../../server/public/listener.ts";
import type { DoctorCheck, Finding, RunningFireRunner } from "./check.ts";
import { answer, mergeFindings } from "./findings.ts";
import { checkReachability } from "./reachability.ts";

export interface ListenerCheckOptions {
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
    run: answer(async () => mergeFindings(await judgeCertificate(files, url, clock.now()))),
  });
  const way = { name: "webhook.url", run: answer((signal) => checkReachability(options, signal), "warn") };
  return [
    ...listeners,
    ...(tls && listen.length > 0 ? [certificate(tls)] : []),
    ...(url === undefined ? [] : [way]),
  ];
}

async function checkListener(listener: Listener, running: RunningFireRunner | undefined): Promise<Finding> {
  if (running?.addresses.some((address) => isAddressOf(address, listener))) {
    return { level: "ok", message: "the running FireRunner listens there" };
  }
  const tries = (await resolveListener(listener)).map(tryToListen);
  const finding = mergeFindings(await Promise.all(tries));
  if (running === undefined || finding.level !== "ok") return finding;
  const hint = "Restart FireRunner: what http.listen names is taken over at the start only.";
  return { level: "warn", message: "the running FireRunner does not listen there", hint };
}

function isAddressOf(address: string, { isTls, port }: Listener): boolean {
  return address.startsWith(isTls ? "https://" : "http://") && address.endsWith(`:${port}`);
}

/** For a moment, without taking any connection: also proves that this user may. */
async function tryToListen({ host, port }: Listener): Promise<Finding> {
  const server = createServer((socket) => socket.destroy());
  try {
    await listenOn(server, { host, port, exclusive: true });
  } catch (error) {
    const { why, hint } = listenProblem(systemCode(error), port, "http.listen");
    return { level: "fail", message: why, hint };
  }
  await new Promise((resolve) => server.close(resolve));
  return { level: "ok", message: "free, and this user may listen there" };
}

/** Beside what keeps the public server from opening, which is thrown: what keeps GitLab from trusting it. */
async function judgeCertificate(files: TlsFiles, url: string | undefined, now: number): Promise<Finding[]> {
  const { cert, validFrom, validUntil } = await readServerPair(files);
  const day = new Date(validUntil).toISOString().slice(0, 10);
  return [
    { level: "ok", message: `${files.certificateFile} fits its key and is valid until ${day}` },
    ...judgeDates(validFrom, validUntil, now),
    ...judgeName(new X509Certificate(cert), url),
  ];
}

function judgeDates(validFrom: number, validUntil: number, now: number): Finding[] {
  const hint = "Renew it and put the new one into the same files: FireRunner takes it within seconds.";
  if (now >= validUntil) {
    const message = `the certificate has expired ${formatDuration(now - validUntil)} ago: GitLab refuses to call`;
    return [{ level: "warn", message, hint }];
  }
  if (now < validFrom) {
    const message = `the certificate is valid only from ${new Date(validFrom).toISOString()} on`;
    return [{ level: "warn", message, hint: "Is this computer's clock right?" }];
  }
  if (validUntil - now >= CERTIFICATE_ENDS_SOON_MS) return [];
  return [{ level: "warn", message: `the certificate expires in ${formatDuration(validUntil - now)}`, hint }];
}

function judgeName(certificate: X509Certificate, url: string | undefined): Finding[] {
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
