import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { simulate } from "./simulate.ts";

const BATCH = 50;
/** `SIMULATION_SEEDS=5000 SIMULATION_FIRST=1001 vitest run --project simulation` looks elsewhere. */
const count = Number(process.env["SIMULATION_SEEDS"] ?? 1_000);
const first = Number(process.env["SIMULATION_FIRST"] ?? 1);
const batches = Array.from({ length: Math.ceil(count / BATCH) }, (_, batch) => first + batch * BATCH);

let directory = "";
const keyFile = () => join(directory, "key");

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "fr-simulation-"));
});

afterAll(async () => {
  await rm(directory, { recursive: true, force: true });
});

describe.each(["host", "fleet"] as const)("whatever dies, and whenever: a %s", (world) => {
  test.each(batches)("seeds from %i on", async (from) => {
    for (let seed = from; seed < Math.min(from + BATCH, first + count); seed++) {
      const { broken, history } = await simulate(world, seed, keyFile());
      const again = `to see it again: npm run simulate -- --world ${world} --seed ${seed} --verbose`;
      expect(broken, `seed ${seed}; ${again}\n${history.slice(-40).join("\n")}`).toEqual([]);
    }
  });

  test("a seed is the same every time", async () => {
    const runs = [await simulate(world, 7, keyFile()), await simulate(world, 7, keyFile())];

    expect(runs[0]?.history.length).toBeGreaterThan(10);
    expect(runs[1]?.history).toEqual(runs[0]?.history);
  });
});
