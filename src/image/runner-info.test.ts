import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { guestFile } from "../base/guest-files.ts";
import { captureRunnerInfo } from "./runner-info.ts";

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "info-"));
});
afterEach(() => rmSync(directory, { recursive: true }));

function aRunner(script: string): string {
  const path = join(directory, "runner");
  writeFileSync(path, `#!/bin/sh\n${script}\n`);
  chmodSync(path, 0o755);
  return path;
}

describe("what a runner says of itself", () => {
  test("is what it sends when it asks for a job", async () => {
    const { version, info } = await captureRunnerInfo(guestFile("stand-in-runner"));

    expect(version).toBe("1.0.0");
    expect(info).toMatchObject({ executor: "shell", features: { refspecs: true, cache: false } });
  });

  test("cannot be had of a program that is none", async () => {
    await expect(captureRunnerInfo(aRunner("echo I am no runner; exit 3"))).rejects.toMatchObject({
      code: "image_runner_broken",
      message: expect.stringContaining("ended (3) without asking for a job; it said: I am no runner"),
    });
  });

  test("cannot be had of a file that does not run here", async () => {
    writeFileSync(join(directory, "data"), "\x7fELF nonsense", { mode: 0o755 });

    await expect(captureRunnerInfo(join(directory, "data"))).rejects.toMatchObject({
      code: "image_runner_broken",
    });
  });

  test("is not waited for without end", async () => {
    await expect(captureRunnerInfo(aRunner("exec sleep 60"), { deadlineMs: 200 })).rejects.toMatchObject({
      code: "image_runner_broken",
    });
  });
});
