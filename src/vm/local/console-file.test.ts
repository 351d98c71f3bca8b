import { appendFile, mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { systemClock } from "../../base/clock.ts";
import { createManualClock } from "../../base/manual-clock.ts";
import { createConsoles, lastLines } from "./console-file.ts";

describe("console files", () => {
  let directory: string;
  let path: string;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "fr-console-"));
    path = join(directory, "console.log");
    await writeFile(path, "");
  });

  afterEach(() => rm(directory, { recursive: true }));

  test("give their last bytes", async () => {
    const consoles = createConsoles(createManualClock(), 1_000);
    await writeFile(path, "one two three");

    expect(await consoles.tail(path, 5)).toBe("three");
    expect(await consoles.tail(path, 500)).toBe("one two three");
    expect(await consoles.tail(join(directory, "none"), 5)).toBe("");
    expect(await lastLines(join(directory, "none"), 5)).toBe("");
  });

  test("are cut to the newest half of the limit", async () => {
    const consoles = createConsoles(createManualClock(), 100);
    await writeFile(path, `${"old ".repeat(50)}newest`);

    await consoles.trim(path);
    await consoles.trim(join(directory, "none"));

    expect((await stat(path)).size).toBe(50);
    expect(await consoles.tail(path, 6)).toBe("newest");
  });

  test("are left alone below the limit", async () => {
    const consoles = createConsoles(createManualClock(), 100);
    await writeFile(path, "x".repeat(100));

    await consoles.trim(path);

    expect((await stat(path)).size).toBe(100);
  });

  test("are followed across a cut without losing or repeating a byte", async () => {
    const consoles = createConsoles(systemClock, 100);
    await writeFile(path, "before ");
    let running = true;
    let text = "";
    const following = (async () => {
      for await (const chunk of consoles.follow(path, () => running, AbortSignal.timeout(10_000)))
        text += chunk;
    })();
    await new Promise((resolve) => setTimeout(resolve, 50));

    await appendFile(path, "a".repeat(60));
    await expect.poll(() => text.length, { timeout: 5_000 }).toBe(60);
    await appendFile(path, "b".repeat(45));
    await consoles.trim(path);
    await appendFile(path, "é end");
    running = false;
    await following;

    expect(text).toBe(`${"a".repeat(60)}${"b".repeat(45)}é end`);
  });

  test("stop being followed when asked", async () => {
    const consoles = createConsoles(systemClock, 100);
    const stop = new AbortController();
    const following = consoles.follow(path, () => true, stop.signal).next();

    setTimeout(() => stop.abort(), 30);

    expect(await following).toMatchObject({ done: true });
  });
});
