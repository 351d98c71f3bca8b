/** Whether a company's proxy lets guests out, through the relay's own dialer. Nothing but CONNECT is sent, to hosts that the configuration names. */

import { FireRunnerError } from "../../base/errors.ts";
import { formatHostPort } from "../../base/host-port.ts";
import { proxyErrorIn } from "../../base/proxy/errors.ts";
import { type ProxyServer, proxyFor, targetOfUrl } from "../../base/proxy/routes.ts";
import type { Config } from "../../config/load.ts";
import type { Egress } from "../../domain/egress.ts";
import type { Resolve } from "../../relay/egress/addresses.ts";
import { createAddressGuard } from "../../relay/egress/addresses.ts";
import { createDialer, type Dialer } from "../../relay/egress/egress-dialer.ts";
import {
  type Destination,
  evaluateTarget,
  refusalIn,
  type Target,
} from "../../relay/egress/egress-policy.ts";
import type { DoctorCheck, Finding } from "./findings.ts";
import { mergeFindings, sentence } from "./findings.ts";

export interface EgressCheckOptions {
  readonly config: Pick<Config, "gitlab" | "proxy" | "kinds" | "webhook"> & {
    readonly relay: Pick<Config["relay"], "connectTimeout">;
  };
  /** Replaces this computer's way of resolving names. */
  readonly resolve?: Resolve;
}

/** One host to try, for all whose guests would go there. */
interface Trial {
  readonly destination: Destination;
  readonly proxy: ProxyServer;
  readonly whose: string[];
}

/** Nothing where guests' connections take no proxy, or where no guest may leave. */
export function egressChecks(options: EgressCheckOptions): DoctorCheck[] {
  const { config } = options;
  const outward = kindsOf(config).filter(({ egress }) => egress.mode !== "none");
  if (config.proxy.https === undefined || outward.length === 0) return [];
  return [{ name: "guests' egress", run: (signal) => tryAll(outward, options, signal) }];
}

interface Kind {
  readonly whose: string;
  readonly egress: Egress;
}

function kindsOf({ kinds, webhook }: EgressCheckOptions["config"]): Kind[] {
  const ofPools = [...kinds].map(([name, { egress }]) => ({ whose: `pool ${name}`, egress }));
  return webhook ? [...ofPools, { whose: "webhook.machine", egress: webhook.machine.egress }] : ofPools;
}

async function tryAll(
  kinds: readonly Kind[],
  { config, resolve }: EgressCheckOptions,
  signal: AbortSignal,
): Promise<Finding> {
  const { proxy: proxies, relay } = config;
  const trials = new Map<string, Trial>();
  const untried: string[] = [];
  for (const { whose, egress } of kinds) {
    const trial = trialOf(egress, config);
    if (trial === undefined) {
      untried.push(whose);
      continue;
    }
    const key = JSON.stringify(trial.destination);
    const same = trials.get(key);
    if (same) same.whose.push(whose);
    else trials.set(key, { ...trial, whose: [whose] });
  }
  const dialer = createDialer({
    ...{ proxies, guard: createAddressGuard(), connectTimeoutMs: relay.connectTimeout },
    authorities: () => (proxies.ca === undefined ? [] : [proxies.ca]),
    ...(resolve ? { resolve } : {}),
  });
  // “proxy” has then found the same.
  const isToldBefore = proxyFor(targetOfUrl(new URL(config.gitlab.url)), proxies) !== undefined;
  try {
    const findings = await Promise.all(
      [...trials.values()].map((each) => attempt(each, dialer, isToldBefore, signal)),
    );
    return mergeFindings([...findings, ...(untried.length === 0 ? [] : [nothingToTry(untried)])]);
  } finally {
    await dialer.close();
  }
}

/** The first host that the configuration names for these guests, and that the proxy leads to; with `internet` GitLab itself, if no other. */
function trialOf(egress: Egress, config: EgressCheckOptions["config"]): Omit<Trial, "whose"> | undefined {
  const gitlab: Target = targetOf(config.gitlab.url);
  const named = egress.hosts.filter(({ anyBelow }) => !anyBelow).map(({ host, port }) => ({ host, port }));
  const isSecure = config.gitlab.url.startsWith("https:");
  for (const target of egress.mode === "internet" && isSecure ? [...named, gitlab] : named) {
    const proxy = proxyFor({ ...target, secure: true }, config.proxy);
    const decision = evaluateTarget(egress, target, gitlab);
    if (proxy === undefined || !decision.allowed) continue;
    return { proxy, destination: { target, addresses: decision.addresses, named: decision.named } };
  }
  return undefined;
}

function targetOf(url: string): Target {
  const { host, port } = targetOfUrl(new URL(url));
  return { host, port };
}

async function attempt(
  { destination, proxy, whose }: Trial,
  dialer: Dialer,
  isToldBefore: boolean,
  signal: AbortSignal,
): Promise<Finding> {
  const guests = `guests of ${whose.join(", ")}`;
  const target = formatHostPort(destination.target);
  try {
    (await dialer.connect(destination, signal)).on("error", () => {}).destroy();
    return { level: "ok", message: `${proxy.origin} (${proxy.namedBy}) leads ${guests} to ${target}` };
  } catch (error) {
    signal.throwIfAborted();
    return { level: "warn", ...reasonFor(error, `${guests} do not get to ${target}`, isToldBefore) };
  }
}

function reasonFor(error: unknown, what: string, isToldBefore: boolean): Omit<Finding, "level"> {
  const ofProxy = proxyErrorIn(error);
  if (ofProxy && ofProxy.code !== "proxy_refused" && isToldBefore)
    return { message: `${what}: the proxy cannot be used`, hint: "See “proxy” above." };
  if (ofProxy) {
    const { message, hint } = ofProxy;
    return { message: `${what}: ${message}`, ...(hint === undefined ? {} : { hint: sentence(hint) }) };
  }
  const refusal = refusalIn(error);
  if (refusal?.status === 403) {
    const hint = "If it is meant to be reached, write it with “private” in the pool's egress.";
    return { message: `${what}: ${refusal.message}`, hint };
  }
  const message = `${what}: ${refusal?.message ?? (error instanceof Error ? error.message : String(error))}`;
  return error instanceof FireRunnerError && error.hint ? { message, hint: error.hint } : { message };
}

function nothingToTry(whose: readonly string[]): Finding {
  return {
    level: "ok",
    message: `not tried for guests of ${whose.join(", ")}, whose egress names no single host behind the proxy`,
  };
}
