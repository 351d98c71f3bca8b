import { join } from "node:path";
import { performance } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { createHookInstallation, type HookInstallation } from "../../test/harness/hook-installation.ts";
import type { HookAnswers } from "../../test/harness/hook-load.ts";
import { lookAfterCrash, type Survival } from "../../test/harness/hook-survival.ts";
import { compare, type Figure, type Row } from "../core/figure.ts";
import { quantile, summarize } from "../core/statistics.ts";
import type { BareRouteHandlers } from "../parts/bare-route-process.ts";
import { type Child, startChild } from "../parts/child.ts";
import { cpuTimeMs } from "../parts/cpu-time.ts";
import { directoryOnDisk } from "../parts/disk.ts";
import { watchFlushes } from "../parts/flush-watch.ts";
import type { SenderHandlers } from "../parts/sender-process.ts";

const PROJECTS = 20;
/** So many that the receiver is the limit, and not what waits for a connection: GitLab opens one for each delivery. */
const CONNECTIONS = 256;
const FULL = { perSecond: 1_000, seconds: 30, turns: 3 };
const QUICK = { perSecond: 200, seconds: 3, turns: 1 };

/** What one receiver made of one turn. */
interface Turn {
  readonly latenciesMs: readonly number[];
  /** Of one core. */
  readonly cpuPercent: number;
}

interface Crash extends Survival {
  readonly answered: number;
}

interface Found {
  readonly ours: readonly Turn[];
  /** The Fastify route's. */
  readonly bare: readonly Turn[];
  /** A bystander's flushes during our turns. */
  readonly flushesMs: readonly number[];
  readonly crash: Crash;
}

interface Receiver {
  readonly url: string;
  readonly pid: number;
}

export const webhook: Figure = {
  name: "webhook",
  title: `${FULL.perSecond} webhooks per second`,
  about: `Signed Job Hooks of 2 kB for ${PROJECTS} projects over up to ${CONNECTIONS} kept connections on loopback, ${FULL.perSecond} per second for ${FULL.seconds} s whatever becomes of them: each is due at its own time, and its answer is measured from then on, so that one that had to wait for others counts with its wait. The receiver is \`firerunner start\` itself, just started, with its store on a disk and a stand-in GitLab of which it reads the pending jobs; it answers when the delivery is flushed to the disk. Beside it, in turns and also just started, a Fastify route that reads the body and answers, without signature, JSON or disk; and, while FireRunner is measured, what a page and its flush take somebody else on the same disk. Receiver, sender and stand-in are three processes that share the cores. Then one more run in the middle of which the receiver gets \`kill -9\`: whatever was answered is looked for in the store that is left.`,
  machines: false,
  limitMs: 420_000,
  async measure(context) {
    const load = context.quick ? QUICK : FULL;
    const directory = await directoryOnDisk(context);
    const here = await createHookInstallation(directory, PROJECTS);
    context.defer(() => here.close());
    const sender = startChild<SenderHandlers>(join(import.meta.dirname, "../parts/sender-process.ts"));
    context.defer(() => sender.stop());
    const ours: Turn[] = [];
    const bare: Turn[] = [];
    const flushesMs: number[] = [];
    for (let turn = 1; turn <= load.turns; turn++) {
      context.progress(`turn ${turn} of ${load.turns}, both receivers`);
      bare.push(await withBareRoute((receiver) => measureTurn(here, sender, receiver, load)));
      const watch = watchFlushes(directory);
      ours.push(await withFireRunner(here, (receiver) => measureTurn(here, sender, receiver, load)));
      flushesMs.push(...(await watch.stop()));
    }
    context.progress("kill -9 in the middle");
    return summarizeWebhooks({ ours, bare, flushesMs, crash: await crash(here, sender, load) });
  },
};

export function summarizeWebhooks({ ours, bare, flushesMs, crash }: Found): Row[] {
  const all = (turns: readonly Turn[]) => summarize(turns.flatMap(({ latenciesMs }) => latenciesMs));
  const p99s = (turns: readonly Turn[]) =>
    summarize(turns.map(({ latenciesMs }) => quantile(latenciesMs, 0.99)));
  const cpu = (turns: readonly Turn[]) => summarize(turns.map(({ cpuPercent }) => cpuPercent));
  const beside = "Fastify only";
  const lost = (what: string, count: number): Row => ({
    what,
    unit: "deliveries",
    measured: summarize([count]),
    beside: { what: "answered", measured: summarize([crash.answered]) },
    promised: { of: "max", bound: "at most", value: 0 },
  });
  const p99 = {
    what: "due → answered, 99th percentile of each turn",
    unit: "ms",
    measured: p99s(ours),
    promised: { of: "median", bound: "at most", value: 100 },
  } as const;
  return [
    compare(p99, beside, p99s(bare)),
    compare({ what: "due → answered", unit: "ms", measured: all(ours) }, beside, all(bare)),
    { what: "a flush of the same disk, meanwhile", unit: "ms", measured: summarize(flushesMs) },
    compare({ what: "CPU of the receiver", unit: "%", measured: cpu(ours) }, beside, cpu(bare)),
    lost("answered before kill -9, not in the store", crash.missing),
    lost("answered before kill -9, its project not due", crash.withoutNews),
  ];
}

type Sender = Child<SenderHandlers, never>;
type Load = typeof FULL;

async function withBareRoute<Result>(work: (receiver: Receiver) => Promise<Result>): Promise<Result> {
  const route = startChild<BareRouteHandlers>(join(import.meta.dirname, "../parts/bare-route-process.ts"));
  try {
    return await work({ url: await route.call("listen", undefined), pid: route.pid });
  } finally {
    await route.stop();
  }
}

async function withFireRunner<Result>(
  here: HookInstallation,
  work: (receiver: Receiver) => Promise<Result>,
): Promise<Result> {
  const { daemon, url } = await here.start();
  try {
    return await work({ url, pid: daemon.pid });
  } finally {
    await daemon.stop();
  }
}

function send({ signingKey, projectIds }: HookInstallation, sender: Sender, url: string, load: Load) {
  const { perSecond, seconds } = load;
  const key = signingKey.reveal();
  return sender.call("send", { url, key, projectIds, perSecond, seconds, connections: CONNECTIONS });
}

async function measureTurn(
  here: HookInstallation,
  sender: Sender,
  { url, pid }: Receiver,
  load: Load,
): Promise<Turn> {
  const before = { cpuMs: await cpuTimeMs(pid), at: performance.now() };
  const answers = await send(here, sender, url, load);
  const elapsedMs = performance.now() - before.at;
  refuseFailures(answers);
  const cpuPercent = (((await cpuTimeMs(pid)) - before.cpuMs) / elapsedMs) * 100;
  return { latenciesMs: answers.latenciesMs, cpuPercent };
}

/** A figure without those that were not taken would be a better one. */
function refuseFailures({ failures }: HookAnswers): void {
  const words = [...failures].map(([what, count]) => `${count} × ${what}`);
  if (words.length > 0) throw new Error(`not every delivery was taken: ${words.join(", ")}`);
}

async function crash(here: HookInstallation, sender: Sender, load: Load): Promise<Crash> {
  const { daemon, url } = await here.start();
  const sending = send(here, sender, url, load);
  // Somewhere between a third and two thirds of it.
  await sleep(((load.seconds * 1_000) / 3) * (1 + Math.random()));
  await daemon.kill9();
  await sender.call("giveUp", undefined);
  const { answered } = await sending;
  return { answered: answered.length, ...(await lookAfterCrash(here.state, answered)) };
}
