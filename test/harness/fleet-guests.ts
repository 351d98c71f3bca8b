/** Guests of a fleet's machines: they come by the relay's TLS, run their job by the runner's protocol, and power off. */

import { setTimeout as delay } from "node:timers/promises";
import {
  createRunnerDouble,
  type RunnerDouble,
  traceSummary,
} from "@firerunner/gitlab-stand-in/test-clients";
import type { Boot } from "../flintlockd/options.ts";
import { bridgeTo, dialLink, preambleOf } from "../integration/relay-bench.ts";
import { linkOfBoot } from "./metadata-guest.ts";

const RETRY_MS = 100;

/** What a guest was given, which nobody between may have seen but its payload's owner. */
interface GivenSecrets {
  readonly machineToken: string;
  readonly jobToken: string;
}

export interface FleetGuests {
  /** For a stand-in of this name. */
  onBoot(host: string): (boot: Boot) => undefined;
  /** Boots so far, with the host. */
  readonly boots: readonly { readonly host: string; readonly boot: Boot }[];
  readonly given: readonly GivenSecrets[];
  /** What went wrong with a guest whose machine still ran. */
  readonly failures: readonly string[];
  /** Ids of jobs whose script is `hold`, and that wait now. */
  readonly holding: ReadonlySet<number>;
  release(): void;
}

export function createFleetGuests(): FleetGuests {
  const boots: { host: string; boot: Boot }[] = [];
  const given: GivenSecrets[] = [];
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
    try {
      const asked = await until(boot, 200, () => runner.call("GET", "/firerunner/boot"));
      const machineToken = /^token=(.*)$/m.exec(asked.text)?.[1] ?? "";
      const answer = await until(boot, 201, () => runner.requestJob(machineToken));
      const { id, token, steps } = answer.json() as {
        id: number;
        token: string;
        steps: { script: string[] }[];
      };
      given.push({ machineToken, jobToken: token });
      await work(boot, runner, { id, token, holds: steps[0]?.script.includes("hold") ?? false });
      boot.exit();
    } finally {
      await runner.close();
      await bridge.close();
    }
  }

  async function work(
    boot: Boot,
    runner: RunnerDouble,
    { id, token, holds }: { id: number; token: string; holds: boolean },
  ): Promise<void> {
    if (holds) {
      holding.add(id);
      const gone = new Promise((resolve) => boot.gone.addEventListener("abort", resolve, { once: true }));
      await Promise.race([released.promise, gone]);
      holding.delete(id);
    }
    const log = `on ${boot.id}\n`;
    await until(boot, 202, () => runner.appendTrace(id, token, 0, log));
    await until(boot, 200, () => runner.update(id, token, "success", traceSummary(log)));
    await runner.call("POST", "/firerunner/end").catch(() => {});
  }

  return {
    boots,
    given,
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

/** As a runner: again and again, also while FireRunner is away. Ends with the machine. */
async function until<Answer extends { status: number; text: string }>(
  { gone }: Boot,
  status: number,
  ask: () => Promise<Answer>,
): Promise<Answer> {
  for (;;) {
    gone.throwIfAborted();
    const answer = await ask().catch(() => undefined);
    if (answer?.status === status) return answer;
    await delay(RETRY_MS);
  }
}
