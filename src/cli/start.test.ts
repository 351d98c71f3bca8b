import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { unbroken } from "../../test/harness/unbroken.ts";

const main = join(import.meta.dirname, "../main.ts");
const patience = { timeout: 30_000, interval: 50 };

let directory: string;
let configFile: string;
let started: Program[];

interface Program {
  readonly child: ChildProcess;
  out(): string;
  err(): string;
  ended(): Promise<number | null>;
}

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "fr-start-"));
  configFile = join(directory, "firerunner.yaml");
  await configure(4);
  started = [];
});

afterEach(async () => {
  for (const { child } of started) child.kill("SIGKILL");
  await rm(directory, { recursive: true, force: true, maxRetries: 5 });
});

/** GitLab's address leads nowhere: starting does not depend on it. */
async function configure(concurrency: number | string): Promise<void> {
  const text = `gitlab: { url: "http://127.0.0.1:9" }
pools: { small: { runner: { token: glrt-PLANTED }, concurrency: ${concurrency} } }
state: ${join(directory, "state")}
log: { format: json }
`;
  await writeFile(configFile, text, { mode: 0o600 });
}

function firerunner(...args: string[]): Program {
  const child = spawn(process.execPath, [main, ...args, "--config", configFile], {
    env: { PATH: process.env["PATH"] },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let [out, err] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    out += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    err += text;
  });
  const closed = once(child, "close") as Promise<[number | null]>;
  const program = { child, out: () => out, err: () => err, ended: async () => (await closed)[0] };
  started.push(program);
  return program;
}

async function running(): Promise<Program> {
  const program = firerunner("start");
  await expect.poll(program.out, patience).toContain('"started"');
  return program;
}

test("SIGTERM ends it in order, and what it logged holds no secret", async () => {
  const program = await running();

  program.child.kill("SIGTERM");

  expect(await program.ended()).toBe(0);
  expect(program.out()).toContain("stopping: no new jobs");
  expect(program.out()).toContain('"stopped"');
  expect(program.out() + program.err()).not.toContain("PLANTED");
  for (const line of program.out().trim().split("\n")) JSON.parse(line);
}, 60_000);

test("SIGHUP takes over a changed configuration, and keeps the old one when the new has mistakes", async () => {
  const program = await running();

  await configure(9);
  program.child.kill("SIGHUP");
  await expect.poll(program.out, patience).toContain("pools.small.concurrency: 4 → 9");
  await configure("many");
  program.child.kill("SIGHUP");
  await expect.poll(program.out, patience).toContain("the old one stays in force");

  expect(program.out()).toContain("pools.small.concurrency is “many”: expected a number");
  expect(program.child.exitCode).toBeNull();
}, 60_000);

test("status tells that a token could not be verified, and what to do", async () => {
  await running();

  await expect
    .poll(async () => {
      const status = firerunner("status");
      await status.ended();
      return unbroken(status.out());
    }, patience)
    .toMatch(/! small: verifying the runner token: GitLab cannot be reached, .* → Check gitlab\.url/);
}, 60_000);

test("a second one on the same state directory is refused with the reason", async () => {
  await running();

  const second = firerunner("start");

  expect(await second.ended()).toBe(1);
  expect(unbroken(second.err())).toMatch(/another FireRunner \(process \d+\) already uses .*state/);
  expect(second.err()).toContain("→ ");
}, 60_000);

test("a running one answers on its socket", async () => {
  await running();

  const status = firerunner("status", "--json");

  expect(await status.ended()).toBe(0);
  expect(JSON.parse(status.out())).toMatchObject({ mode: "run", pools: [{ name: "small", limit: 4 }] });
}, 60_000);

test("a configuration with mistakes does not start", async () => {
  await configure("many");

  const program = firerunner("start");

  expect(await program.ended()).toBe(2);
  expect(program.err()).toContain("firerunner.yaml:2:52");
}, 60_000);
