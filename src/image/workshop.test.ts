import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { moveIntoPlace, processMark } from "./durable.ts";
import { openWorkshop, removeStaleBuilds, requireSpace } from "./workshop.ts";

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "workshop-"));
});
afterEach(() => rmSync(directory, { recursive: true }));

describe("what a build leaves behind", () => {
  test("is removed when its process is gone, also when another has its number now", async () => {
    const ours = await processMark(process.pid);
    const other = `${process.pid}-1`;
    for (const mark of [ours, other, "999999999-5"]) mkdirSync(join(directory, `.build-${mark}-abc`));
    mkdirSync(join(directory, "0123456789ab"));

    await removeStaleBuilds(directory);

    expect(readdirSync(directory).sort()).toEqual([`.build-${ours}-abc`, "0123456789ab"]);
  });

  test("is removed when the next build begins, which others may look into", async () => {
    mkdirSync(join(directory, ".build-999999999-5-abc"));

    const workshop = await openWorkshop(directory);

    expect(readdirSync(directory).map((name) => join(directory, name))).toEqual([workshop]);
    expect(statSync(workshop).mode & 0o777).toBe(0o755);
  });
});

describe("a finished directory", () => {
  test("takes its place in one step", async () => {
    const made = join(directory, "made");
    mkdirSync(made);
    writeFileSync(join(made, "file"), "new");

    await moveIntoPlace(made, join(directory, "target"));

    expect(readdirSync(directory)).toEqual(["target"]);
  });

  test("gives way to one that another build has put there", async () => {
    for (const name of ["made", "target"]) {
      mkdirSync(join(directory, name));
      writeFileSync(join(directory, name, name), "x");
    }

    await moveIntoPlace(join(directory, "made"), join(directory, "target"));

    expect(existsSync(join(directory, "target/target"))).toBe(true);
    expect(existsSync(join(directory, "made"))).toBe(false);
  });
});

test("too little space is said before anything is done", async () => {
  await requireSpace(directory, 1);

  await expect(requireSpace(directory, 2 ** 60)).rejects.toMatchObject({
    code: "image_no_space",
    message: expect.stringContaining("left"),
  });
});
