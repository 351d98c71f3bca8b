import { cp, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createStandInGitLab } from "@firerunner/gitlab-stand-in/stand-in";
import { compare, type Figure, type Row } from "../core/figure.ts";
import { summarize } from "../core/statistics.ts";
import { startChild } from "../parts/child.ts";
import { type Counts, fillStore } from "../parts/filled-store.ts";
import { managerFile } from "../parts/installation.ts";
import type { FirstRound, MachineStarted, ManagerHandlers } from "../parts/manager-process.ts";

const POOL = "small";

export const restart: Figure = {
  name: "restart",
  title: "Starting with a full store",
  about:
    "From the start of the process until the first round of the scheduler is done, with 10,000 finished and 200 running jobs in the store, whose machines are there and have to be adopted; beside it the same start with an empty store. In turns, each on a fresh copy of the state directory.",
  machines: false,
  limitMs: 180_000,
  async measure(context) {
    const full: Counts = context.quick ? { finished: 200, live: 20 } : { finished: 10_000, live: 200 };
    const count = context.quick ? 2 : 10;
    const directory = await mkdtemp(join(tmpdir(), "fr-bench-"));
    context.defer(() => rm(directory, { recursive: true, force: true, maxRetries: 3 }));
    const gitlab = createStandInGitLab();
    await gitlab.listen();
    context.defer(() => gitlab.close());
    context.progress("filling a store");
    const machines = await fillStore(join(directory, "full"), POOL, full);
    await fillStore(join(directory, "empty"), POOL, { finished: 0, live: 0 });

    async function startWith(kind: "full" | "empty"): Promise<FirstRound> {
      const state = join(directory, "state");
      await cp(join(directory, kind), state, { recursive: true });
      const manager = startChild<ManagerHandlers, MachineStarted>(managerFile);
      context.defer(() => manager.stop());
      const result = await manager.call("start", {
        gitlabUrl: gitlab.url,
        stateDirectory: state,
        pools: [{ name: POOL, token: "glrt-nobody-has-this-token", concurrency: 300 }],
        unpaced: false,
        running: kind === "full" ? machines : [],
        claims: false,
      });
      await manager.stop();
      await rm(state, { recursive: true, force: true, maxRetries: 3 });
      return result;
    }

    const starts = { full: [] as FirstRound[], empty: [] as FirstRound[] };
    for (let turn = 0; turn < count; turn++) {
      context.progress(`start ${turn + 1} of ${count}, both stores`);
      for (const kind of ["empty", "full"] as const) starts[kind].push(await startWith(kind));
    }
    return summarizeRestarts(starts);
  },
};

export function summarizeRestarts({
  full,
  empty,
}: {
  readonly full: readonly FirstRound[];
  readonly empty: readonly FirstRound[];
}): Row[] {
  const row = (what: string, of: keyof FirstRound) =>
    compare(
      { what, unit: "ms", measured: summarize(full.map((each) => each[of])) },
      "empty store",
      summarize(empty.map((each) => each[of])),
    );
  return [
    row("process started → first round done", "firstRoundMs"),
    row("of it, without loading the program", "ownMs"),
    row("process started → every machine adopted", "allAdoptedMs"),
  ];
}
