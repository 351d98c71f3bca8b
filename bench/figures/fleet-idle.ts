import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { createStandInGitLab } from "@firerunner/gitlab-stand-in/stand-in";
import { freePort } from "../../src/demo/workspace.ts";
import { type BenchContext, compare, type Figure, type Row } from "../core/figure.ts";
import { summarize } from "../core/statistics.ts";
import { type Child, startChild } from "../parts/child.ts";
import type { FleetHandlers } from "../parts/fleet-process.ts";
import type { HostsHandlers } from "../parts/hosts-process.ts";
import type { Sample } from "../parts/sampler.ts";

const HOSTS = 50;
const MACHINES = 1_000;
const SAMPLE_MS = 10_000;

export const fleetIdle: Figure = {
  name: "fleet-idle",
  title: `A fleet at rest: ${MACHINES.toLocaleString("en")} machines on ${HOSTS} hosts`,
  about: `FireRunner in a process of its own, with every room and a flintlock driver for each of ${HOSTS} stand-ins for flintlockd (gRPC over loopback, in another process), after it has claimed ${MACHINES.toLocaleString("en")} jobs, made their machines and handed the jobs over. Their guests are silent, no job comes or ends, and there is room for one more machine on each host, so that GitLab is polled. For 60 s, in samples of 10 s; beside it the same program without hosts and jobs. CPU is that of one core, user and system.`,
  machines: false,
  limitMs: 600_000,
  async measure(context) {
    const [hosts, machines, samples] = context.quick ? [2, 10, 1] : [HOSTS, MACHINES, 6];
    const alone = await startManager(context, { hosts: [], machines: 0 });
    const idle = await takeSamples(alone.manager, samples, context.quick);
    await alone.stop();
    const simulated = startChild<HostsHandlers>(join(import.meta.dirname, "../parts/hosts-process.ts"));
    context.defer(() => simulated.stop());
    const addresses = await simulated.call("start", hosts);
    const fleet = await startManager(context, { hosts: addresses, machines });
    await untilAllRun(context, fleet.manager, machines);
    context.progress(`${await simulated.call("running", undefined)} machines run`);
    await sleep(context.quick ? 500 : SAMPLE_MS);
    const full = await takeSamples(fleet.manager, samples, context.quick);
    const left = await fleet.manager.call("running", undefined);
    if (left !== machines)
      throw new Error(`${machines - left} jobs ended while they should have been at rest`);
    await fleet.stop();
    return summarizeFleetIdle({ full, idle });
  },
};

export function summarizeFleetIdle({
  full,
  idle,
}: Readonly<Record<"full" | "idle", readonly Sample[]>>): Row[] {
  const series = (samples: readonly Sample[], of: keyof Sample) => summarize(samples.map((each) => each[of]));
  const beside = "without hosts and jobs";
  const promised = { of: "median", bound: "at most", value: 10 } as const;
  const cpu = {
    what: "CPU of the manager",
    unit: "%",
    measured: series(full, "cpuPercent"),
    promised,
  } as const;
  const memory = { what: "memory of the manager", unit: "MiB", measured: series(full, "rssMib") } as const;
  return [compare(cpu, beside, series(idle, "cpuPercent")), compare(memory, beside, series(idle, "rssMib"))];
}

async function untilAllRun(context: BenchContext, manager: Manager, machines: number): Promise<void> {
  for (let running = 0; running < machines; ) {
    await sleep(2_000);
    running = await manager.call("running", undefined);
    context.progress(`${running} of ${machines} jobs run`);
  }
}

type Manager = Child<FleetHandlers, never>;

/** A manager with a GitLab of its own, which has as many jobs for it as there are to be machines. */
async function startManager(
  context: BenchContext,
  { hosts, machines }: { readonly hosts: readonly string[]; readonly machines: number },
) {
  const directory = await mkdtemp(join(tmpdir(), "fr-bench-"));
  context.defer(() => rm(directory, { recursive: true, force: true, maxRetries: 3 }));
  const gitlab = createStandInGitLab();
  await gitlab.listen();
  context.defer(() => gitlab.close());
  const project = await gitlab.projects.add();
  const { token } = gitlab.runners.add({ tags: ["fleet"] });
  for (let job = 0; job < machines; job++)
    await gitlab.addJob(project, { tags: ["fleet"], script: ["sleep 3600"] });
  const manager: Manager = startChild<FleetHandlers>(join(import.meta.dirname, "../parts/fleet-process.ts"));
  context.defer(() => manager.stop());
  await manager.call("start", {
    ...{ gitlabUrl: gitlab.url, stateDirectory: join(directory, "state"), token, addresses: hosts },
    machinesPerHost: machines / Math.max(1, hosts.length) + 1,
    relayPort: await freePort(),
  });
  return { manager, stop: () => manager.stop() };
}

async function takeSamples(manager: Manager, count: number, quick: boolean): Promise<Sample[]> {
  const samples: Sample[] = [];
  await manager.call("sample", undefined);
  for (let taken = 0; taken < count; taken++) {
    await sleep(quick ? 1_000 : SAMPLE_MS);
    samples.push(await manager.call("sample", undefined));
  }
  return samples;
}
