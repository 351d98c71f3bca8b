/** Guests of a fleet's machines: they come by the relay's TLS, run their job by the runner's protocol, and power off. */

import { setTimeout as delay } from "node:timers/promises";
import {
  type Answer,
  createRunnerDouble,
  type RunnerDouble,
  traceSummary,
} from "@firerunner/gitlab-stand-in/test-clients";
import type { Boot } from "../flintlockd/options.ts";
import { bridgeTo, dialLink, preambleOf } from "../integration/relay-bench.ts";
import { linkOfBoot } from "./metadata-guest.ts";

const RETRY_MS = 100;
/** As the official runner sends its log. */
const TRACE_INTERVAL_MS = 3_000;

/** What a guest was given, which nobody between may have seen but its payload's owner. */
interface GivenSecrets {
  readonly machineToken: string;
  readonly jobToken: string;
}

/** One job in one machine, as its guest knows it. Times are epoch ms. */
export interface GuestRun {
  readonly jobId: number;
  readonly machineId: string;
  /** The payload was there. */
  readonly givenAt: number;
  /** The script has run to its end. */
  workedAt: number | undefined;
}

export interface FleetGuests {
  /** For a stand-in of this name. */
  onBoot(host: string): (boot: Boot) => undefined;
  /** Boots so far, with the host. */
  readonly boots: readonly { readonly host: string; readonly boot: Boot }[];
  readonly given: readonly GivenSecrets[];
  readonly runs: readonly GuestRun[];
  /** What went wrong with a guest whose machine still ran. */
  readonly failures: readonly string[];
  /** Ids of jobs whose script is `hold`, and that wait now. */
  readonly holding: ReadonlySet<number>;
  release(): void;
}

interface GuestsOptions {
  /** A question without an answer is given up after so long, its connections cut, and asked again. */
  readonly patienceMs?: number;
}

/** What a job's log begins with, and has only once: a script that ran twice says so twice. */
const firstLineOf = (machineId: string) => `on ${machineId}\n`;
export const lastLine = "the script has ended\n";

/** How long the script of a job works for so long: `work 1500`. */
export const workFor = (ms: number) => `work ${ms}`;

export function createFleetGuests({ patienceMs }: GuestsOptions = {}): FleetGuests {
  const boots: { host: string; boot: Boot }[] = [];
  const given: GivenSecrets[] = [];
  const runs: GuestRun[] = [];
  const failures: string[] = [];
  const holding = new Set<number>();
  let released = Promise.withResolvers<void>();

  async function play(boot: Boot): Promise<void> {
    const link = linkOfBoot(boot);
    if (boot.number > 1) {
      // Its disk was booted before: it says so, and ends.
      dialLink(link, `${preambleOf(boot.id, link)} again`)
        .on("error", () => {})
        .resume();
      return boot.exit();
    }
    const bridge = await bridgeTo(() => dialLink(link, preambleOf(boot.id, link)));
    const runner = createRunnerDouble(bridge.url);
    const ask = asking(boot, { patienceMs, cut: bridge.cut });
    try {
      const asked = await ask(200, () => runner.call("GET", "/firerunner/boot"));
      const machineToken = /^token=(.*)$/m.exec(asked.text)?.[1] ?? "";
      const answer = await ask(201, () => runner.requestJob(machineToken));
      const { id, token, steps, image } = answer.json() as {
        id: number;
        token: string;
        steps: { script: string[] }[];
        image?: { name: string } | null;
      };
      given.push({ machineToken, jobToken: token });
      const run: GuestRun = { jobId: id, machineId: boot.id, givenAt: Date.now(), workedAt: undefined };
      runs.push(run);
      if (image?.name) await pull(image.name, ask, runner);
      await work({ boot, ask, runner, run, token, script: steps[0]?.script[0] ?? "" });
      boot.exit();
    } catch (error) {
      if (!(error instanceof JobIsOver)) throw error;
      boot.exit();
    } finally {
      await runner.close();
      await bridge.close();
    }
  }

  async function work(at: Work): Promise<void> {
    const { boot, ask, runner, run, token, script } = at;
    if (script === "hold") {
      holding.add(run.jobId);
      const gone = new Promise((resolve) => boot.gone.addEventListener("abort", resolve, { once: true }));
      await Promise.race([released.promise, gone]);
      holding.delete(run.jobId);
    }
    const log = createSentLog(at);
    await log.append(firstLineOf(boot.id));
    const workMs = Number(/^work (\d+)$/.exec(script)?.[1] ?? 0);
    for (let leftMs = workMs; leftMs > 0; leftMs -= TRACE_INTERVAL_MS) {
      await delay(Math.min(leftMs, TRACE_INTERVAL_MS), undefined, { signal: boot.gone });
      if (leftMs > TRACE_INTERVAL_MS) await log.append(`${leftMs} ms are left\n`);
    }
    run.workedAt = Date.now();
    if (workMs > 0) await log.append(lastLine);
    await ask(200, () => runner.update(run.jobId, token, "success", traceSummary(log.text())));
    await runner.call("POST", "/firerunner/end").catch(() => {});
  }

  return {
    boots,
    given,
    runs,
    failures,
    holding,
    onBoot: (host) => (boot) => {
      boots.push({ host, boot });
      void play(boot).catch((error: unknown) => {
        if (!boot.gone.aborted) failures.push(`${boot.id} on ${host}: ${String(error)}`);
      });
      return undefined;
    },
    release() {
      released.resolve();
      released = Promise.withResolvers();
    },
  };
}

interface Work {
  readonly boot: Boot;
  readonly ask: Ask;
  readonly runner: RunnerDouble;
  readonly run: GuestRun;
  readonly token: string;
  readonly script: string;
}

/** As the machine's container engine: the tag's manifest, then all that it names, through the relay's mirror. */
async function pull(name: string, ask: Ask, runner: RunnerDouble): Promise<void> {
  const [, registry = "", repository = "", tag = ""] = /^([^/]+)\/(.+):([^:]+)$/.exec(name) ?? [];
  const at = (path: string) => `/v2/${registry.replace(":", "__")}/${repository}/${path}`;
  const headers = { accept: "application/vnd.oci.image.manifest.v1+json" };
  const answer = await ask(200, () => runner.call("GET", at(`manifests/${tag}`), { headers }));
  const { config, layers } = answer.json() as unknown as {
    config: { digest: string };
    layers: { digest: string }[];
  };
  for (const { digest } of [config, ...layers])
    await ask(200, () => runner.call("GET", at(`blobs/${digest}`)));
}

/** Sends what is new of a log, from where GitLab says that its own ends. */
function createSentLog({ ask, runner, run, token }: Work) {
  let text = "";
  let sentBytes = 0;
  return {
    text: () => text,
    async append(line: string): Promise<void> {
      text += line;
      while (sentBytes < text.length) {
        const from = sentBytes;
        const answer = await ask([202, 416], () =>
          runner.appendTrace(run.jobId, token, from, text.slice(from)),
        );
        const there = Number(/^0-(\d+)$/.exec(String(answer.headers["range"]))?.[1]);
        sentBytes = answer.status === 202 ? text.length : Math.min(there || 0, text.length);
      }
    },
  };
}

/** GitLab, or the relay in its name, wants no more of this job: it was canceled, or has ended otherwise. */
class JobIsOver extends Error {}

type Ask = (status: number | readonly number[], ask: () => Promise<Answer>) => Promise<Answer>;

/** As a runner: again and again, also while FireRunner is away. Ends with the machine. */
function asking(
  { gone }: Boot,
  { patienceMs, cut }: { readonly patienceMs: number | undefined; readonly cut: () => void },
): Ask {
  return async (status, ask) => {
    const hoped = [status].flat();
    for (;;) {
      gone.throwIfAborted();
      const timer = patienceMs === undefined ? undefined : setTimeout(cut, patienceMs);
      const answer = await ask().catch(() => undefined);
      clearTimeout(timer);
      if (answer && isOver(answer)) throw new JobIsOver();
      if (answer && hoped.includes(answer.status)) return answer;
      await delay(RETRY_MS);
    }
  };
}

function isOver({ status, headers }: Answer): boolean {
  const jobStatus = headers["job-status"];
  return jobStatus === "canceled" || (status === 403 && jobStatus !== undefined);
}
