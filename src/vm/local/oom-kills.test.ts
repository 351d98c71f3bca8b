import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { temporaryDirectory } from "../../../test/builders/temporary-directory.ts";
import { oomKills } from "./processes.ts";

test.each([
  ["nr_free_pages 12\noom_kill 3\nnuma_hit 4\n", 3],
  ["oom_kill 0\n", 0],
  ["nr_oom_kill 7\n", undefined],
])("%j counts %s kills", async (text, count) => {
  await using directory = await temporaryDirectory();
  const file = join(directory.path, "vmstat");
  await writeFile(file, text);

  expect(await oomKills(file)).toBe(count);
});

test("a kernel that does not tell has no count", async () => {
  expect(await oomKills("/proc/nothing-of-this-name")).toBeUndefined();
});
