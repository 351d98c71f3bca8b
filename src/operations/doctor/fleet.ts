/**
 * Whether hosts of the fleet answer, and whether machines there could come in to the relay: its addresses, its certificate, the address
 * that is advertised. What a trial would make is left to `hosts check`.
 */

import { readFile } from "node:fs/promises";
import { isIP } from "node:net";
import { join } from "node:path";
import { checkServerIdentity, connect } from "node:tls";
import type { Clock } from "../../base/clock.ts";
import { systemCode } from "../../base/errors.ts";
import { splitHostPort } from "../../base/host-port.ts";
import { silentLog } from "../../base/log.ts";
import { CERTIFICATE_ENDS_SOON_MS } from "../../base/tls.ts";
import { formatDuration, SECOND_MS } from "../../base/units.ts";
import type { Config } from "../../config/load.ts";
import { advertisedAddress } from "../../relay/config.ts";
import { createConfiguredCertificate, isFor, validUntilOf } from "../../relay/remote/certificate.ts";
import { readPair } from "../../relay/remote/own-certificate.ts";
import { listenOn } from "../../relay/remote/remote-listener.ts";
import type { TrialStep } from "../../views/trial-api.ts";
import type { FlintlockHost } from "../../vm/flintlock/config.ts";
import { tryReach } from "../host-trial/host-trial.ts";
import { answer, type DoctorCheck, type Finding, type RunningFireRunner } from "./findings.ts";

/** Nothing is made there, so no installation's name is needed. */
const NAMESPACE = "fr-doctor";

export function fleetChecks({ hosts, vm }: Pick<Config, "hosts" | "vm">, clock: Clock): DoctorCheck[] {
  // While another host answers, jobs can run.
  const worst = hosts.size > 1 ? "warn" : "fail";
  return [...hosts.values()].map((host) => ({
    name: `host ${host.name}`,
    run: answer(async (signal) => {
      const options = { host, namespace: NAMESPACE, settings: vm.flintlock, clock };
      const steps: TrialStep[] = [];
      for await (const step of tryReach(options, signal)) steps.push(step);
      return trialFinding(host, steps, worst);
    }, worst),
  }));
}

function trialFinding({ name }: FlintlockHost, steps: readonly TrialStep[], worst: "warn" | "fail"): Finding {
  const failed = steps.find(({ level }) => level === "fail");
  if (failed) {
    const { message, hint } = failed;
    return { level: worst, message, ...(hint === undefined ? {} : { hint }) };
  }
  const took = formatDuration(steps[0]?.tookMs ?? 0);
  const hint = `The whole trial, up to a guest that speaks to the relay: firerunner hosts check ${name}`;
  return { level: "ok", message: `${steps.map(({ message }) => message).join("; ")} (${took})`, hint };
}

const PROBE_LIMIT_MS = 5 * SECOND_MS;

interface RelayCheckOptions {
  readonly config: Pick<Config, "relay" | "state">;
  /** Undefined when no FireRunner runs on this state directory. */
  readonly running: RunningFireRunner | undefined;
  readonly clock: Clock;
}

/** Nothing where the relay listens for this computer's machines alone. */
export function relayChecks(options: RelayCheckOptions): DoctorCheck[] {
  const { relay } = options.config;
  if (relay.listen.length === 0) return [];
  return [
    ...relay.listen.map((address) => ({
      name: `relay ${address}`,
      run: answer(async () => await checkListen(address, options)),
    })),
    { name: "relay certificate", run: answer(async () => await checkCertificate(options)) },
    { name: "relay.advertise", run: answer(async () => await checkAdvertised(options), "warn") },
  ];
}

async function checkListen(address: string, options: RelayCheckOptions): Promise<Finding> {
  const { host, port } = splitHostPort(address);
  if (options.running && port !== 0) {
    const here = host.replace(/^0\.0\.0\.0$/, "127.0.0.1").replace(/^::$/, "::1");
    const found = await probe(here, port, options);
    if (found === "ours") return { level: "ok", message: "the running FireRunner's relay listens there" };
  }
  const server = await listenOn(address, (socket) => socket.destroy());
  await new Promise((resolve) => server.close(resolve));
  if (!options.running) return { level: "ok", message: "free, and this user may listen there" };
  const hint = "Restart FireRunner: what relay.listen names is taken over at the start only.";
  return { level: "warn", message: "the running FireRunner does not listen there", hint };
}

async function checkCertificate(options: RelayCheckOptions): Promise<Finding> {
  const { config, clock } = options;
  const { tls } = config.relay;
  const { serverName } = advertisedIn(config);
  if (tls === undefined) return await checkOwn(options, serverName);
  await createConfiguredCertificate({ files: tls, serverName, clock, log: silentLog });
  const until = validUntilOf(await readFile(tls.certificateFile, "utf8"));
  const leftMs = until - clock.now();
  if (leftMs >= CERTIFICATE_ENDS_SOON_MS) {
    return { level: "ok", message: `fits its key, is for ${serverName}, and ${endsIn(leftMs)}` };
  }
  const hint =
    "Renew it and put the new one into the same files: FireRunner takes it within a minute. With a new authority, machines that run lose the relay.";
  const level = leftMs <= 0 ? "fail" : "warn";
  return { level, message: leftMs <= 0 ? `has expired on ${dayOf(until)}` : endsIn(leftMs), hint };
}

/** Our own is renewed by itself; only its state is told. */
async function checkOwn({ config, clock }: RelayCheckOptions, serverName: string): Promise<Finding> {
  const kept = await readPair(join(config.state, "relay", "server.pem"));
  if (kept === undefined)
    return { level: "ok", message: "is made at the first start, by an authority of our own" };
  const leftMs = validUntilOf(kept.certificate) - clock.now();
  if (isFor(kept.certificate, serverName)) {
    return { level: "ok", message: `is for ${serverName}, ${endsIn(leftMs)}, and is renewed by itself` };
  }
  return { level: "ok", message: `is not for ${serverName} yet: a new one is made at the next start` };
}

async function checkAdvertised(options: RelayCheckOptions): Promise<Finding> {
  const { address, serverName } = advertisedIn(options.config);
  const { port } = splitHostPort(address);
  const trial = "Whether guests reach it is told by a trial: firerunner hosts check HOST";
  if (/^(localhost|127\.|::1$)/.test(serverName)) {
    const hint = "Name an address in relay.advertise by which machines on other hosts reach this computer.";
    return { level: "warn", message: `${address} is this computer for everybody who calls it`, hint };
  }
  if (!options.running) return { level: "ok", message: `guests are told ${address}`, hint: trial };
  const found = await probe(serverName, port, options);
  if (found === "ours") return { level: "ok", message: `${address} leads to our relay`, hint: trial };
  return { level: "warn", message: `${address} does not lead to our relay from here: ${found}`, hint: trial };
}

function advertisedIn({ relay }: Pick<Config, "relay">): { address: string; serverName: string } {
  const address = advertisedAddress(relay) ?? relay.listen[0] ?? "";
  return { address, serverName: splitHostPort(address).host };
}

/** Who answers there shows a certificate for the advertised name by the authority that our machines trust; else what is wrong. */
async function probe(host: string, port: number, { config }: RelayCheckOptions): Promise<string> {
  const { serverName } = advertisedIn(config);
  const ca = await authority(config);
  if (ca === undefined) return "there is no authority yet";
  return await new Promise((resolve) => {
    const socket = connect({
      ...{ host, port, ca, timeout: PROBE_LIMIT_MS },
      ...(isIP(serverName) === 0 ? { servername: serverName } : {}),
      checkServerIdentity: (_name, certificate) => checkServerIdentity(serverName, certificate),
    });
    const end = (found: string) => {
      socket.destroy();
      resolve(found);
    };
    socket.once("secureConnect", () => end("ours"));
    socket.once("timeout", () => end("nobody answers in time"));
    socket.once("error", (error) => end(systemCode(error) ?? error.message));
  });
}

async function authority({ relay, state }: RelayCheckOptions["config"]): Promise<string | undefined> {
  if (relay.tls) return await readFile(relay.tls.caFile, "utf8");
  return (await readPair(join(state, "relay", "authority.pem")))?.certificate;
}

function endsIn(leftMs: number): string {
  return `ends in ${formatDuration(leftMs)}`;
}

function dayOf(at: number): string {
  return new Date(at).toISOString().slice(0, 10);
}
