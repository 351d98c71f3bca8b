import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { afterEach, describe, expect, test } from "vitest";
import { guestFile } from "../../src/base/guest-files.ts";
import { temporaryDirectory } from "../builders/temporary-directory.ts";

const program = guestFile("job-shell");
const open: ChildProcess[] = [];

afterEach(() => {
  for (const child of open.splice(0)) {
    try {
      // The whole group, as the runner does: what a script left behind is in it.
      if (child.pid) process.kill(-child.pid, "SIGKILL");
    } catch {
      // All of it has ended.
    }
  }
});

/** As the runner starts its shell: a group of its own, the script on a pipe, one pipe for all output. */
function start(script: string, shell = program): ChildProcess {
  const child = spawn("sh", ["-c", 'exec "$0" -l 2>&1', shell], {
    stdio: ["pipe", "pipe", "inherit"],
    detached: true,
    env: { ...process.env, CI_SERVER_TOKEN: "glrt-secret", RUNNER_ENV: "A=b" },
  });
  child.stdin?.on("error", () => {});
  child.stdin?.end(script);
  open.push(child);
  return child;
}

/** Waits for the end of the process and of its output, which is what the official runner waits for. */
async function run(script: string, shell?: string) {
  const child = start(script, shell);
  const ended = new Promise<number | string>((resolve) =>
    child.on("close", (code, signal) => resolve(code ?? signal ?? "")),
  );
  const output = await text(child.stdout ?? Readable.from([]));
  return { output, end: await ended };
}

describe("the shell that the runner starts", () => {
  test("ends when the script ends, whatever it left behind", async () => {
    const { output, end } = await run("sleep 300 & echo STARTED");

    expect([output, end]).toEqual(["STARTED\n", 0]);
  });

  test("ends though a background process never stops printing", async () => {
    const { output, end } = await run("(while :; do echo noise; sleep 0.1; done) & echo STARTED; exit 3");

    expect([output.includes("STARTED\n"), end]).toEqual([true, 3]);
  });

  test.each([
    ["exit 0", 0],
    ["exit 7", 7],
    ["set -e; false; echo never", 1],
    ["kill -TERM $$", "SIGTERM"],
    ["kill -KILL $$", "SIGKILL"],
  ])("ends as its script: %s", async (script, end) => {
    expect(await run(script)).toEqual({ output: "", end });
  });

  test("passes on everything, in order, both outputs in one", async () => {
    const script = "for ((i = 0; i < 20000; i++)); do echo out $i; ((i % 2)) || echo err $i >&2; done";

    const [ours, plain] = [await run(script), await run(script, "/bin/bash")];

    expect(createHash("sha256").update(ours.output).digest("hex")).toBe(
      createHash("sha256").update(plain.output).digest("hex"),
    );
  });

  test("waits for the last words of what a script's output goes through", async () => {
    const { output } = await run("exec > >(sleep 0.1; sed s/^/seen:/) 2>&1; seq 3");

    expect(output).toBe("seen:1\nseen:2\nseen:3\n");
  });

  test("ends on a signal to its group when its script does, after what the script does then", async () => {
    const child = start("trap 'echo bye; exit 9' TERM; echo ready; sleep 300 & wait");
    const ended = new Promise((resolve) => child.on("close", resolve));
    let output = "";
    child.stdout?.on("data", (chunk) => {
      output += chunk;
    });
    await expect.poll(() => output, { timeout: 10_000 }).toContain("ready");

    process.kill(-(child.pid ?? 0), "SIGTERM");

    expect(await ended).toBe(9);
    expect(output).toBe("ready\nbye\n");
  });

  test("hides what the runner alone is told, and its own place on the search path", async () => {
    await using directory = await temporaryDirectory();
    const own = join(directory.path, "bash");
    const { output } = await run(
      `cp ${program} ${own}; echo 'echo "$PATH|$CI_SERVER_TOKEN$RUNNER_ENV|$0"' | PATH=${directory.path}:/usr/bin:/bin bash | cat`,
    );
    rmSync(own);

    expect(output).toBe("/usr/bin:/bin||bash\n");
  });

  test("lets go of the script it was given when the shell has ended", async () => {
    const { output, end } = await run(`echo first; exit 4\n${"# never read\n".repeat(100_000)}`);

    expect([output, end]).toEqual(["first\n", 4]);
  });

  test("loads nothing that would take time", () => {
    const used = readFileSync(program, "utf8").match(/^use \w+/gm);

    expect(used).toEqual(["use strict", "use warnings"]);
  });
});
