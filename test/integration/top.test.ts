import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeEach, expect, test } from "vitest";
import { aClaim } from "../builders/job.ts";
import { aJobLogs } from "../builders/job-logs.ts";
import { aNewMachine } from "../builders/machine.ts";
import { aControlDaemon, type ControlDaemon } from "../harness/control-daemon.ts";

const run = promisify(execFile);
const main = join(import.meta.dirname, "../../src/main.ts");
const patient = { timeout: 30_000, interval: 100 };

let daemon: ControlDaemon;
/** A tmux server of this test's own. */
let server: string;

beforeEach(async () => {
  server = `fr-${randomUUID()}`;
  daemon = await aControlDaemon({ jobLogs: aJobLogs({ 4711: "compiling\u001b[31m\nlinking\n" }) });
  await daemon.store.claim(aClaim({ name: "compile", project: "group/app" }));
  await daemon.store.startJob(4711, aNewMachine({ id: "fr-aaaaaaaa" }));
  await daemon.store.markBooting("fr-aaaaaaaa");
  await daemon.store.handOver(4711, "fr-aaaaaaaa");
  await daemon.store.claim(aClaim({ jobId: 4712, name: "deploy", project: "group/app" }));
});

afterEach(async () => {
  await tmux("kill-server").catch(() => {});
  await daemon[Symbol.asyncDispose]();
});

async function tmux(...args: readonly string[]): Promise<string> {
  return (await run("tmux", ["-L", server, "-f", "/dev/null", ...args])).stdout;
}

/** The shell behind it shows whether the terminal was given back as it was. */
async function openTop(columns: number, rows: number): Promise<void> {
  const command = `'${process.execPath}' '${main}' top --config '${daemon.configFile}'; echo "left with $?"; exec cat`;
  await tmux("new-session", "-d", "-x", String(columns), "-y", String(rows), command);
}

const screen = async () => await tmux("capture-pane", "-p");
const press = async (...keys: readonly string[]) => {
  for (const key of keys) await tmux("send-keys", key);
};

async function seen(words: string | RegExp): Promise<string> {
  await expect.poll(screen, patient).toMatch(words);
  return await screen();
}

test("top shows what happens, answers keys, outlives a restart of FireRunner and leaves the terminal as it was", async () => {
  await openTop(80, 24);

  const first = await seen(/> 4712 +claimed .*deploy/);
  expect(first).toMatch(/takes jobs {2}1 running, 0 starting, 1 waiting/);
  expect(first).toMatch(/4711 +running .*compile/);
  await press("Down", "l");
  expect(await seen("linking")).toContain("compiling\n");
  await press("q", "Enter");
  await seen(/Job 4711 runs, for/);
  await press("Escape");
  await seen("> 4711");

  await press("/", "d", "e", "p");
  await seen("/dep_");
  expect(await screen()).not.toContain("compile");
  await press("Escape");
  await seen("q quit");
  await press("3");
  await seen(/> local +ready/);
  await press("d");
  await seen("Start nothing new on local? (y/n)");
  await press("n");
  await seen("Nothing was done.");
  expect(daemon.calls).toEqual([]);
  await press("d", "y");
  await expect.poll(() => daemon.calls, patient).toEqual(["drain qemu"]);

  await daemon.close();
  await seen(/no FireRunner runs/);
  expect(await screen()).toMatch(/> local +ready/);
  await daemon.open();
  await seen("takes jobs");

  await tmux("resize-window", "-x", "44", "-y", "12");
  await press("1");
  const narrow = await seen(/JOB +STATE/);
  expect(narrow.split("\n").filter((line) => line.length > 44)).toEqual([]);
  await seen(/q quit/);

  await press("q");
  const left = await seen("left with 0");
  expect(left).not.toContain("takes jobs");
});

test("top refuses politely where there is no terminal", async () => {
  const { code, out, err } = await daemon.firerunner("top");

  expect([code, out]).toEqual([2, ""]);
  expect(err).toContain("“top” draws on a terminal, and this is none");
  expect(err).toContain("firerunner status");
});
