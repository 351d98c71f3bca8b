import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { processMark } from "../base/durable-file.ts";
import { openBuildDirectory, removeStaleBuilds, requireSpace } from "./build-directory.ts";
import { mountPointsBelow, moveIntoPlace, removeTree } from "./durable.ts";

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

    const workshop = await openBuildDirectory(directory);

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

describe("removing a tree", () => {
  const mountinfo = [
    "27 1 254:0 / / rw - ext4 /dev/vda rw",
    "42 27 0:39 / /images/.build-1/root/dev/pts rw - devpts none rw",
    "43 27 0:27 / /images/.build-1/root/dev/shm rw - tmpfs tmpfs rw",
    "44 27 0:22 / /images/.build-10/sys ro - sysfs sys rw",
    "45 27 0:22 / /images/with\\040space/sys ro - sysfs sys rw",
  ].join("\n");

  test("sees every mount in it, and none beside it", () => {
    expect(mountPointsBelow("/images/.build-1", mountinfo)).toEqual([
      "/images/.build-1/root/dev/pts",
      "/images/.build-1/root/dev/shm",
    ]);
    expect(mountPointsBelow("/images/with space", mountinfo)).toEqual(["/images/with space/sys"]);
    expect(mountPointsBelow("/images/.build-2", mountinfo)).toEqual([]);
  });

  test("is refused where something is mounted, and nothing is touched", async () => {
    const tree = join(directory, "tree");
    mkdirSync(join(tree, "sys"), { recursive: true });
    writeFileSync(join(tree, "file"), "x");
    const table = join(directory, "mountinfo");
    writeFileSync(table, `44 27 0:22 / ${tree}/sys ro - sysfs sys rw\n`);

    await expect(removeTree(tree, table)).rejects.toMatchObject({
      code: "image_build_failed",
      hint: expect.stringContaining(`umount ${tree}/sys`),
    });

    expect(readdirSync(tree).sort()).toEqual(["file", "sys"]);
  });

  test("removes what is only files, also when it is gone already", async () => {
    mkdirSync(join(directory, "a/b"), { recursive: true });

    await removeTree(join(directory, "a"));
    await removeTree(join(directory, "a"));

    expect(readdirSync(directory)).toEqual([]);
  });
});

test("too little space is said before anything is done", async () => {
  await requireSpace(directory, 1, "trying");

  await expect(requireSpace(directory, 2 ** 60, "trying")).rejects.toMatchObject({
    code: "image_no_space",
    message: expect.stringContaining("left"),
  });
});
