import { rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { MIB_BYTES } from "../../src/base/units.ts";
import { type BenchContext, compare, type Figure, type Row } from "../core/figure.ts";
import { summarize } from "../core/statistics.ts";
import type { CacheTimes } from "../parts/guests-process.ts";
import { createFakeInstallation } from "../parts/installation.ts";

const JOBS = 10;

export const cache: Figure = {
  name: "cache",
  title: "Caches through the relay",
  about: `One cache of 256 MiB stored and fetched through the relay, beside a file of the same size on the same disk that the client writes (to the disk, as caches are) and reads by itself, in turns; what is read is taken out of the page cache before. Then ${JOBS} jobs at once, each with an artifact of 128 MiB up and a cache of the same size up and down, while the memory of the manager is looked at ten times a second. GitLab, FireRunner and the client are three processes that share the cores.`,
  machines: false,
  limitMs: 300_000,
  async measure(context) {
    const times = await measureSpeed(context, (context.quick ? 8 : 256) * MIB_BYTES, context.quick ? 2 : 8);
    const memoryMib = await measureMemory(context, (context.quick ? 4 : 128) * MIB_BYTES);
    return [...summarizeCaches(times.bytes, times.rounds), memoryOf(memoryMib)];
  },
};

async function measureSpeed(context: BenchContext, bytes: number, count: number) {
  const installation = await createFakeInstallation(context, { pools: [1], unpaced: true });
  const { directory, guests } = installation;
  const [cacheFiles, byHand] = [join(directory, "state/cache"), join(directory, "by-hand")];
  const { id: jobId } = await installation.addHeld(0);
  const rounds: CacheTimes[] = [];
  for (let round = 0; round < count; round++) {
    context.progress(`cache ${round + 1} of ${count}, both ways`);
    const relayFirst = round % 2 === 0;
    rounds.push(await guests.call("caches", { jobId, bytes, cacheFiles, byHand, relayFirst }));
    await rm(byHand);
  }
  await installation.stop();
  return { bytes, rounds };
}

export function summarizeCaches(bytes: number, rounds: readonly CacheTimes[]): Row[] {
  const rates = (of: keyof CacheTimes) =>
    summarize(rounds.map((times) => bytes / MIB_BYTES / (times[of] / 1_000)));
  const promised = { of: "ratio", bound: "at least", value: 0.6 } as const;
  const row = (what: string, of: keyof CacheTimes) =>
    ({ what, unit: "MiB/s", measured: rates(of), promised }) as const;
  return [
    compare(row("storing a cache", "up"), "the disk alone", rates("written")),
    compare(row("fetching a cache", "down"), "the disk alone", rates("read")),
  ];
}

async function measureMemory(context: BenchContext, bytes: number): Promise<number[]> {
  const { guests, manager, addHeld } = await createFakeInstallation(context, {
    pools: [JOBS],
    unpaced: true,
  });
  const jobs = await Promise.all(Array.from({ length: JOBS }, () => addHeld(0)));
  context.progress(`${JOBS} jobs with artifacts and caches`);
  const found: number[] = [];
  let isOver = false;
  const sampling = (async () => {
    while (!isOver) {
      found.push((await manager.call("sample", undefined)).rssMib);
      await sleep(100);
    }
  })();
  await guests.call("traffic", { jobIds: jobs.map(({ id }) => id), bytes });
  isOver = true;
  await sampling;
  return found;
}

function memoryOf(memoryMib: readonly number[]): Row {
  return {
    what: `memory of the manager, ${JOBS} jobs at once`,
    unit: "MiB",
    measured: summarize([...memoryMib]),
    promised: { of: "max", bound: "at most", value: 250 },
  };
}
