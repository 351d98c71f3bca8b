import { spawn } from "node:child_process";
import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { temporaryDirectory } from "../../../test/builders/temporary-directory.ts";
import { hostProcesses } from "./processes.ts";
import { claimUserRange, type RangeWish } from "./users.ts";

/** Of nobody on any computer. */
const LOWEST = 2_100_000_000;

describe("the user ids of installations", () => {
  let directory: Awaited<ReturnType<typeof temporaryDirectory>>;

  beforeEach(async () => {
    directory = await temporaryDirectory();
  });

  afterEach(async () => await directory[Symbol.asyncDispose]());

  async function installation(name: string, change: Partial<RangeWish> = {}): Promise<RangeWish> {
    const owner = join(directory.path, name);
    await mkdir(owner, { recursive: true });
    const registry = join(directory.path, "registry");
    return { registry, owner, settings: "vm.qemu", first: undefined, lowest: LOWEST, count: 100, ...change };
  }

  test("are never shared, and stay an installation's when it starts again", async () => {
    const [one, other] = [await installation("one"), await installation("other")];

    expect(await claimUserRange(one)).toMatchObject([{ first: LOWEST, count: 100 }]);
    expect(await claimUserRange(other)).toMatchObject([{ first: LOWEST + 100, count: 100 }]);
    expect(await claimUserRange(one)).toMatchObject([{ first: LOWEST, count: 100 }]);
  });

  test("are not shared by many that start at one time either", async () => {
    const wishes = await Promise.all(Array.from({ length: 20 }, (_, index) => installation(`m${index}`)));

    const firsts = (await Promise.all(wishes.map(claimUserRange))).map(([{ first }]) => first);

    expect(new Set(firsts).size).toBe(20);
  });

  test("that are asked for are refused where they belong to another, also in part", async () => {
    await claimUserRange(await installation("one"));
    const other = await installation("other", { first: LOWEST + 50 });

    await expect(claimUserRange(other)).rejects.toMatchObject({
      code: "vm_unusable",
      message: expect.stringContaining(join(directory.path, "one")),
      hint: expect.stringContaining("vm.qemu.firstUserId"),
    });
  });

  test("of a configuration before stay known", async () => {
    await claimUserRange(await installation("one"));

    const ranges = await claimUserRange(await installation("one", { first: LOWEST + 500, count: 10 }));

    expect(ranges).toMatchObject([
      { first: LOWEST + 500, count: 10 },
      { first: LOWEST, count: 100 },
    ]);
  });

  // Only root may start what runs as another user.
  test.skipIf(process.getuid?.() !== 0)("leave out those of machines that made no claim", async () => {
    const env = { PATH: process.env["PATH"], FIRERUNNER_MACHINE: "/elsewhere/machines/fr-aaaaaaaa" };
    const uid = String(LOWEST + 20_050);
    const child = spawn("setpriv", ["--reuid", uid, "--clear-groups", "--", "sleep", "60"], { env });
    const lowest = LOWEST + 20_000;
    try {
      const runs = () => hostProcesses((each) => each === LOWEST + 20_050);
      await expect.poll(runs, { timeout: 10_000 }).toHaveLength(1);

      const ranges = await claimUserRange(await installation("one", { lowest }));

      expect(ranges).toMatchObject([{ first: lowest + 100 }]);
    } finally {
      child.kill("SIGKILL");
    }
  });

  test("are given back when their installation is gone", async () => {
    const gone = await installation("gone");
    await claimUserRange(gone);
    await rm(gone.owner, { recursive: true });

    expect(await claimUserRange(await installation("next"))).toMatchObject([{ first: LOWEST, count: 100 }]);
    expect(await readdir(gone.registry)).toEqual([`${LOWEST}-100`]);
  });
});
