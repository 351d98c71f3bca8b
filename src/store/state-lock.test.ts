import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { acquireStateLock } from "./installation-key.ts";

const holder = `
  const { acquireStateLock } = await import(${JSON.stringify(join(import.meta.dirname, "installation-key.ts"))});
  const lock = await acquireStateLock(process.argv[1]);
  console.log("held");
  setInterval(() => lock, 1_000);
`;

describe("state lock", () => {
  let directory: string;
  let child: ChildProcess | undefined;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "fr-lock-"));
  });
  afterEach(async () => {
    if (child && child.exitCode === null && child.signalCode === null) {
      child.kill("SIGKILL");
      await once(child, "exit");
    }
    await rm(directory, { recursive: true, force: true });
  });

  async function holdInAnotherProcess(): Promise<ChildProcess> {
    child = spawn(process.execPath, ["--input-type=module", "-e", holder, directory], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    if (!child.stdout) throw new Error("no output to wait for");
    await once(child.stdout, "data");
    return child;
  }

  test("a second one is refused with the process id of the first, and what to do", async () => {
    const first = await holdInAnotherProcess();

    await expect(acquireStateLock(directory)).rejects.toMatchObject({
      code: "store_locked",
      message: `another FireRunner (process ${first.pid}) already uses ${directory}`,
      hint: expect.stringContaining("stop it first"),
    });
  });

  test("a holder that was killed leaves nothing in the way", async () => {
    const first = await holdInAnotherProcess();
    first.kill("SIGKILL");
    await once(first, "exit");

    const lock = await acquireStateLock(directory);

    await lock.release();
  });

  test("it is refused within one process too, and free again after release", async () => {
    const lock = await acquireStateLock(directory);
    await expect(acquireStateLock(directory)).rejects.toMatchObject({ code: "store_locked" });
    await expect(acquireStateLock(directory)).rejects.toMatchObject({ code: "store_locked" });
    await lock.release();

    const again = await acquireStateLock(directory);

    await again.release();
  });

  test("the directory is made when it is missing, and the files are for the owner alone", async () => {
    const missing = join(directory, "a", "b");

    const lock = await acquireStateLock(missing);

    for (const name of await readdir(missing)) {
      expect((await stat(join(missing, name))).mode & 0o077).toBe(0);
    }
    await lock.release();
  });

  test("a directory that cannot be used is named", async () => {
    const file = join(directory, "file");
    await writeFile(file, "");

    await expect(acquireStateLock(file)).rejects.toMatchObject({
      code: "directory_failed",
      message: expect.stringContaining(file),
    });
  });
});
