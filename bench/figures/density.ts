import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { hostProcesses } from "../../src/vm/local/processes.ts";
import { compare, type Figure, type Row } from "../core/figure.ts";
import { summarize } from "../core/statistics.ts";
import { benchSize } from "../parts/bare-machine.ts";
import { createRealInstallation } from "../parts/real-installation.ts";

const JOB_LIMIT_MS = 200_000;
const QUIET_MS = 15_000;

/** MiB of one machine: its share of memory (PSS) with that of its helpers, and how much of it is the guest's memory. */
interface Footprint {
  readonly wholeMib: number;
  readonly guestMib: number;
}

export const density: Figure = {
  name: "density",
  title: "Memory of an idle machine",
  about: `What real machines of ${benchSize.memoryMib} MiB take on the host while their jobs sleep: the proportional share (PSS) of the hypervisor and its helper processes, next to the memory the guest was given, and next to what of it the guest has touched. By emulation: with KVM the buffer of translated code falls away.`,
  machines: true,
  limitMs: 600_000,
  async measure(context) {
    const count = context.quick ? 1 : 10;
    const { here } = await createRealInstallation(context, {
      pool: { concurrency: count },
      settings: { vm: { cpuOvercommit: 16, memoryReserve: "1GiB" }, scheduler: { bootDeadline: "5m" } },
    });
    const { gitlab } = here;
    const project = await gitlab.projects.add({ path: "group/density" });
    for (let started = 0; started < count; started += 2) {
      context.progress(`${started} of ${count} machines sleep`);
      const jobs = await Promise.all(
        Array.from({ length: Math.min(2, count - started) }, () =>
          gitlab.addJob(project, {
            script: ["echo started", "sleep 3000"],
            variables: { GIT_STRATEGY: "none" },
          }),
        ),
      );
      for (const job of jobs)
        await gitlab.waitForJob(job, ({ trace }) => trace.text().includes("started\n"), JOB_LIMIT_MS);
    }
    await sleep(context.quick ? 1_000 : QUIET_MS);
    const footprints = await footprintsBelow(here.directory);
    context.progress(`measured ${footprints.length} machines; canceling their jobs`);
    for (const job of gitlab.jobs.all()) gitlab.jobs.cancel(job);
    await here.expectNothingLeft();
    return summarizeDensity(footprints);
  },
};

export function summarizeDensity(footprints: readonly Footprint[]): Row[] {
  const whole = summarize(footprints.map(({ wholeMib }) => wholeMib));
  const guest = summarize(footprints.map(({ guestMib }) => guestMib));
  const overhead = summarize(footprints.map(({ wholeMib, guestMib }) => wholeMib - guestMib));
  return [
    compare(
      { what: "memory of an idle machine", unit: "MiB", measured: whole },
      "given to the guest",
      summarize([benchSize.memoryMib]),
    ),
    compare(
      { what: "memory of an idle machine", unit: "MiB", measured: whole },
      "touched by the guest",
      guest,
    ),
    { what: "of it the hypervisor's own and its helpers'", unit: "MiB", measured: overhead },
  ];
}

async function footprintsBelow(directory: string): Promise<Footprint[]> {
  const processes = await hostProcesses(() => true);
  const machines = Map.groupBy(
    processes.filter(({ machine }) => machine?.startsWith(directory)),
    ({ machine }) => machine,
  );
  return await Promise.all(
    [...machines.values()].map(async (family) => {
      const shares = await Promise.all(family.map(({ pid }) => sharesOf(pid)));
      const sum = (of: keyof Footprint) => shares.reduce((total, share) => total + share[of], 0);
      return { wholeMib: sum("wholeMib"), guestMib: sum("guestMib") };
    }),
  );
}

/** The guest's memory is the one mapping of exactly its size. */
async function sharesOf(pid: number): Promise<Footprint> {
  const smaps = await readFile(`/proc/${pid}/smaps`, "utf8");
  const mappings = [...smaps.matchAll(/^Size: +(\d+) kB[\s\S]*?^Pss: +(\d+) kB/gm)].map(([, size, pss]) => ({
    sizeKib: Number(size),
    pssMib: Number(pss) / 1024,
  }));
  const sum = (some: typeof mappings) => some.reduce((total, { pssMib }) => total + pssMib, 0);
  return {
    wholeMib: sum(mappings),
    guestMib: sum(mappings.filter(({ sizeKib }) => sizeKib === benchSize.memoryMib * 1024)),
  };
}
