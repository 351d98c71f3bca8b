import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { installationMark } from "./runner-mark.ts";

let directory: string;
let machineIdFile: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "fr-test-"));
  machineIdFile = join(directory, "machine-id");
});

afterEach(() => rm(directory, { recursive: true, force: true }));

const common = { configured: undefined, state: "/var/lib/firerunner", installationId: "own" };

test("a computer and a state directory always give the same mark, and others another", async () => {
  await writeFile(machineIdFile, `${"a".repeat(32)}\n`);
  const mark = await installationMark({ ...common, machineIdFile });

  expect(mark).toMatch(/^[0-9a-f]{12}$/);
  expect(await installationMark({ ...common, machineIdFile, installationId: "new store" })).toBe(mark);
  expect(await installationMark({ ...common, machineIdFile, state: "/srv/other" })).not.toBe(mark);
  await writeFile(machineIdFile, `${"b".repeat(32)}\n`);
  expect(await installationMark({ ...common, machineIdFile })).not.toBe(mark);
});

test.each([["uninitialized\n"], [""], [undefined]])(
  "without a machine id (%j) it is the store's",
  async (text) => {
    if (text !== undefined) await writeFile(machineIdFile, text);

    expect(await installationMark({ ...common, machineIdFile })).toBe("own");
  },
);

test("a configured name is taken as it is", async () => {
  expect(await installationMark({ ...common, configured: "ci-eu" })).toBe("ci-eu");
});
