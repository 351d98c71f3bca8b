/** Whether Prometheus could ask for metrics, and whether others could, too. */
import { connect } from "node:net";
import type { Clock } from "../../base/clock.ts";
import type { TlsFiles } from "../../base/tls.ts";
import type { Config } from "../../config/load.ts";
import { metricsServerName } from "../../server/metrics/metrics-server.ts";
import {
  type Listener,
  parseListener,
  readServerPair,
  resolveListener,
} from "../../server/network/listener.ts";
import { answer, type DoctorCheck, type Finding, mergeFindings, type RunningFireRunner } from "./findings.ts";
import { pairFindings, tryToListen } from "./listener.ts";

interface MetricsCheckOptions {
  readonly config: Pick<Config, "metrics">;
  /** Undefined when no FireRunner runs on this state directory. */
  readonly running: RunningFireRunner | undefined;
  readonly clock: Pick<Clock, "now">;
}

/** Nothing where no metrics are to be served. */
export function metricsChecks({ config, running, clock }: MetricsCheckOptions): DoctorCheck[] {
  const { listen, tls } = config.metrics;
  if (listen.length === 0) return [];
  const listeners = listen.map(parseListener).map((listener) => ({
    name: `metrics ${listener.host}:${listener.port}`,
    run: answer(async () => await checkListener(listener, running !== undefined)),
  }));
  const certificate = (files: TlsFiles): DoctorCheck => ({
    name: "metrics certificate",
    run: answer(async () => mergeFindings(await certificateFindings(files, clock.now()))),
  });
  const readers = { name: "metrics readers", run: answer(async () => readersFinding(config.metrics)) };
  return [...listeners, ...(tls ? [certificate(tls)] : []), readers];
}

async function checkListener(listener: Listener, isRunning: boolean): Promise<Finding> {
  const places = await resolveListener(listener, metricsServerName);
  if (!isRunning)
    return mergeFindings(await Promise.all(places.map((place) => tryToListen(place, "metrics.listen"))));
  if ((await Promise.all(places.map(isOpen))).every(Boolean))
    return { level: "ok", message: "something listens there, the running FireRunner most likely" };
  const hint = "Restart FireRunner: what metrics.listen names is taken over at the start only.";
  return { level: "warn", message: "the running FireRunner does not listen there", hint };
}

/** Without a word: what listens there learns nothing, and counts nothing. */
async function isOpen({ host, port }: Listener): Promise<boolean> {
  const socket = connect({ host, port });
  try {
    return await new Promise((resolve) => {
      socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
    });
  } finally {
    socket.destroy();
  }
}

async function certificateFindings(files: TlsFiles, now: number): Promise<Finding[]> {
  const pair = await readServerPair(files, metricsServerName);
  return pairFindings(files, pair, now, "Prometheus refuses to ask");
}

function readersFinding({ listen, allow, token }: Config["metrics"]): Finding {
  if (token !== undefined) return { level: "ok", message: "those with the token may read metrics" };
  if (allow.length > 0) return { level: "ok", message: `${allow.join(", ")} may read metrics` };
  if (listen.every((text) => !parseListener(text).isTls))
    return { level: "ok", message: "everybody on this computer may read metrics" };
  return {
    level: "warn",
    message: "whoever reaches the address may read metrics",
    hint: "Name those who may in metrics.allow, or give metrics.tokenFile.",
  };
}
