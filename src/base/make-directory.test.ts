import { mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { makeDirectory } from "./trusted-file.ts";

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "fr-test-"));
});

afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

describe("making a directory", () => {
  test("makes what is missing above it, and is content with what is there", async () => {
    const path = join(directory, "a/b/c");

    await makeDirectory(path, 0o711);
    await makeDirectory(path, 0o700);

    expect((await stat(path)).mode & 0o777).toBe(0o711);
  });

  test("fails at once where a file system takes none", { timeout: 10_000 }, async () => {
    await expect(makeDirectory("/proc/x/y", 0o700)).rejects.toMatchObject({
      code: "directory_failed",
      message: "the directory /proc/x/y cannot be made: its file system takes no directories",
    });
  });

  test("does not take a file for a directory", async () => {
    await writeFile(join(directory, "file"), "");

    for (const path of [join(directory, "file"), join(directory, "file/below")])
      await expect(makeDirectory(path, 0o700)).rejects.toMatchObject({ code: "directory_failed" });
  });

  test("several at once all succeed", async () => {
    for (let turn = 0; turn < 50; turn++) {
      const path = join(directory, `${turn}/y/z`);
      const making = Array.from({ length: 4 }, () => makeDirectory(path, 0o700));

      await expect(Promise.all(making)).resolves.toBeDefined();
    }
  });
});
