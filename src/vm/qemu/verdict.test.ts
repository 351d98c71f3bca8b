import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { remembered } from "./accelerator.ts";

describe("the verdict of a trial boot", () => {
  let directory: string;
  let tests: number;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "fr-verdict-"));
    tests = 0;
  });

  afterEach(() => rm(directory, { recursive: true }));

  function ask(key: string, problem?: string) {
    return remembered(join(directory, "verdict.json"), key, async () => {
      tests += 1;
      return problem;
    });
  }

  test("is kept, good or bad, until what it depends on changes", async () => {
    const answers = [
      await ask("one", "hangs"),
      await ask("one"),
      await ask("two"),
      await ask("two", "hangs"),
    ];

    expect(answers).toEqual(["hangs", "hangs", undefined, undefined]);
    expect(tests).toBe(2);
  });

  test("is found again when the file is torn", async () => {
    await writeFile(join(directory, "verdict.json"), '{"key": "one", "prob');

    expect(await ask("one", "hangs")).toBe("hangs");
    expect(tests).toBe(1);
  });

  test("is not kept when the trial was cut off", async () => {
    const cut = remembered(join(directory, "verdict.json"), "one", () =>
      Promise.reject(new Error("stopped")),
    );

    await expect(cut).rejects.toThrow("stopped");
    await ask("one");
    expect(tests).toBe(1);
  });
});
