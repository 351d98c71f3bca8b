import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { makeCertificateAuthority } from "../../test/servers/certificates.ts";
import type { Figure } from "../core/figure.ts";
import { summarize } from "../core/statistics.ts";
import { startChild } from "../parts/child.ts";
import type { DriversHandlers } from "../parts/flintlock-drivers-process.ts";
import type { HostsHandlers } from "../parts/flintlock-hosts-process.ts";

const HOSTS = 50;
const MACHINES_PER_HOST = 20;
const NAMESPACE = "fr-bench";
/** The scheduler's own, by default. */
const TICK_MS = 1_000;
const WARM_UP_MS = 20_000;
const SAMPLE_MS = 10_000;

export const fleet: Figure = {
  name: "fleet",
  title: "An idle fleet",
  about: `What ${HOSTS} Flintlock drivers with ${MACHINES_PER_HOST} running machines each cost while nothing happens: their CPU time in a process of their own, in samples of ${SAMPLE_MS / 1_000} s. The hosts are stand-ins for flintlockd in another process, over HTTP/2 and TLS; each driver is asked for its machines once a second, as the scheduler does.`,
  machines: false,
  limitMs: 300_000,
  async measure(context) {
    const parts = join(import.meta.dirname, "../parts");
    const authority = await makeCertificateAuthority();
    context.defer(() => authority[Symbol.asyncDispose]());
    const hosts = startChild<HostsHandlers>(join(parts, "flintlock-hosts-process.ts"));
    context.defer(hosts.stop);
    const drivers = startChild<DriversHandlers>(join(parts, "flintlock-drivers-process.ts"));
    context.defer(drivers.stop);
    const count = context.quick ? 2 : HOSTS;
    const addresses = await hosts.call("start", {
      hosts: count,
      machinesPerHost: MACHINES_PER_HOST,
      namespace: NAMESPACE,
      tls: await authority.issue("localhost"),
      ca: authority.ca,
    });
    const shown = await drivers.call("start", {
      addresses,
      namespace: NAMESPACE,
      ca: authority.ca,
      tickMs: TICK_MS,
    });
    if (shown !== count * MACHINES_PER_HOST) throw new Error(`the drivers show ${shown} machines`);
    context.progress(`${shown} machines on ${count} hosts`);
    await sleep(context.quick ? 1_000 : WARM_UP_MS);
    const shares: number[] = [];
    const rates: number[] = [];
    for (let sample = 0; sample < (context.quick ? 1 : 6); sample++) {
      const before = {
        at: performance.now(),
        cpuMs: await drivers.call("cpuMs", undefined),
        lists: await hosts.call("lists", undefined),
      };
      await sleep(context.quick ? 1_000 : SAMPLE_MS);
      const tookMs = performance.now() - before.at;
      shares.push((((await drivers.call("cpuMs", undefined)) - before.cpuMs) / tookMs) * 100);
      rates.push(((await hosts.call("lists", undefined)) - before.lists) / (tookMs / 1_000));
    }
    return [
      {
        what: `share of a core for ${shown} machines`,
        unit: "%",
        measured: summarize(shares),
        promised: { of: "median", bound: "at most", value: 10 },
      },
      { what: "lists of all hosts together", unit: "per second", measured: summarize(rates) },
    ];
  },
};
