import { readdir, readFile, readlink } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { temporaryDirectory } from "../../../test/builders/temporary-directory.ts";
import { startSquash } from "./squash.ts";
import { tarEnd, tarFile } from "./tar-write.ts";

const isRoot = process.getuid?.() === 0;

/** The process that reads the archive, as soon as it is that program. */
async function squashProcess(): Promise<string> {
  const tasks = await readdir("/proc/self/task");
  const children = await Promise.all(
    tasks.map((task) => readFile(`/proc/self/task/${task}/children`, "utf8")),
  );
  for (const pid of children.join(" ").split(" ").filter(Boolean)) {
    const command = await readFile(`/proc/${pid}/comm`, "utf8").catch(() => "");
    if (command.trim() === "tar2sqfs") return pid;
  }
  throw new Error("it does not run yet");
}

test("tar2sqfs can do nothing but read its archive and write one disk of bounded size", async () => {
  await using directory = await temporaryDirectory();
  const target = join(directory.path, "disk");
  const squash = await startSquash({ target, bytesMax: 5_000_000, jobs: 1 });
  const pid = await expect.poll(squashProcess, { timeout: 20_000 }).toBeTruthy().then(squashProcess);

  const status = await readFile(`/proc/${pid}/status`, "utf8");
  const limits = await readFile(`/proc/${pid}/limits`, "utf8");
  const network = await readlink(`/proc/${pid}/ns/net`).catch(() => "nobody may look");
  await squash.write([tarFile("a", Buffer.from("b")), tarEnd]);
  const bytes = await squash.end();

  expect(status).toMatch(/NoNewPrivs:\t1/);
  expect(limits).toMatch(/Max file size +5000000 +5000000/);
  expect(limits).toMatch(/Max address space +\d+ +\d+/);
  expect(limits).toMatch(/Max cpu time +\d+ +\d+/);
  expect(bytes).toBeGreaterThan(100);
  if (!isRoot) return;
  expect(status).toMatch(/Uid:\t65534\t65534\t65534\t65534\nGid:\t65534\t65534\t65534\t65534\n/);
  expect(status).toMatch(/Groups:\t \n/);
  expect(status).toMatch(/CapEff:\t0+\nCapBnd:\t0+\n/);
  expect(network).not.toBe(await readlink("/proc/self/ns/net"));
});

test("what is too large for it is an error, and leaves nothing", async () => {
  await using directory = await temporaryDirectory();
  const squash = await startSquash({ target: join(directory.path, "disk"), bytesMax: 100, jobs: 1 });

  const writing = squash.write([tarFile("a", Buffer.alloc(3_000_000, "x")), tarEnd]).then(squash.end);

  await expect(writing).rejects.toMatchObject({ code: "container_compose_failed" });
  await squash.abandon();
  expect(await readdir(directory.path)).toEqual([]);
});
