import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { aControlPorts } from "../../../test/builders/control-ports.ts";
import { aHostPorts } from "../../../test/builders/host-ports.ts";
import { aStore, type TestStore } from "../../../test/builders/store.ts";
import { commandLine } from "../../../test/harness/command-line.ts";
import { systemClock } from "../../base/clock.ts";
import { silentLog } from "../../base/log.ts";
import { type ControlServer, openControlServer } from "../../server/control/control-server.ts";
import type { ControlPorts, HostPorts } from "../../server/routes/ports.ts";
import { createViews } from "../../views/views.ts";

let directory: string;
let config: string;
let kept: TestStore;
let server: ControlServer | undefined;
let calls: string[];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "fr-check-"));
  config = join(directory, "firerunner.yaml");
  const state = join(directory, "state");
  await mkdir(state);
  await writeFile(
    config,
    `gitlab: { url: http://127.0.0.1:9 }
pools:
  remote: { driver: flintlock, image: docker, size: { cpus: 2, memory: 2GiB }, runner: { token: glrt-PLANTED } }
state: ${state}
relay: { listen: [127.0.0.1:8444] }
vm:
  flintlock:
    hosts:
      metal-1: { address: 127.0.0.1:9090, token: PLANTED-TOKEN, cpus: 4, memory: 8GiB }
`,
    { mode: 0o600 },
  );
  calls = [];
  kept = await aStore();
});

afterEach(async () => {
  await server?.close();
  server = undefined;
  await kept[Symbol.asyncDispose]();
  await rm(directory, { recursive: true, force: true });
});

/** A running FireRunner, as far as a trial goes. */
async function open(hosts: Partial<HostPorts> = {}): Promise<void> {
  const unused = () => {
    throw new Error("not of this test");
  };
  const ports: ControlPorts = {
    ...aControlPorts(),
    status: unused,
    console: unused,
    followConsole: unused,
    drain: unused,
    resume: unused,
    reload: unused,
    hosts: { ...aHostPorts(calls), ...hosts },
  };
  const views = createViews({ store: kept.store, now: systemClock.now });
  server = await openControlServer({
    stateDirectory: join(directory, "state"),
    views,
    ports,
    clock: systemClock,
    log: silentLog,
  });
}

const check = (...args: string[]) => commandLine("--config", config, "hosts", "check", ...args);
const ordered = () => JSON.parse((calls[0] ?? "").replace(/^try /, "")) as unknown;

test("a host of the configuration is tried by the FireRunner that runs, with the image of its pools", async () => {
  await open();
  const { code, out, err } = await check("metal-1");

  expect([code, err]).toEqual([0, ""]);
  expect(out).toMatch(/ok {4}connect +connect went well \(1 ?ms\)\n/);
  expect(out).toContain("metal-1 is ready for jobs.");
  expect(ordered()).toMatchObject({
    image: "docker",
    host: { name: "metal-1", addresses: ["127.0.0.1:9090"], token: "PLANTED-TOKEN", tls: { ca: null } },
  });
});

test("a host by its address has what the options say", async () => {
  await open();
  const token = join(directory, "token");
  await writeFile(token, "PLANTED-OTHER\n", { mode: 0o600 });
  const plain = ["--plaintext", "--token-over-plaintext"];
  const options = [...plain, "--bridge", "fl0", "--token-file", token, "--image", "base"];
  const { code, out } = await check("metal-9.example.org:9090", ...options, "--json");

  expect(code).toBe(0);
  expect(JSON.parse(out)).toMatchObject({ host: "metal-9.example.org", ok: true, relayMs: null });
  expect(ordered()).toMatchObject({
    image: "base",
    host: {
      addresses: ["metal-9.example.org:9090"],
      tls: null,
      token: "PLANTED-OTHER",
      network: { bridge: "fl0" },
    },
  });
});

test("a step that fails is told with what to do, and is the exit code", async () => {
  await open({
    async *tryHost() {
      yield { name: "connect", level: "fail", message: "nobody there", hint: "start flintlockd", tookMs: 3 };
    },
  });
  const { code, out } = await check("metal-1");

  expect(code).toBe(1);
  expect(out).toMatch(/FAIL {2}connect +nobody there/);
  expect(out).toContain("→ start flintlockd");
  expect(out).toContain("metal-1 is not ready: connect.");
});

test("a trial that ends before its last step is no success", async () => {
  await open({
    async *tryHost() {
      yield { name: "connect", level: "ok", message: "there", tookMs: 3 };
    },
  });

  expect(await check("metal-1")).toMatchObject({ code: 1, out: expect.stringContaining("cut off") });
});

test.each<[readonly string[], string]>([
  [["metal-2"], "metal-1"],
  [["metal-1", "--plaintext"], "--plaintext"],
  [["127.0.0.1:9090", "--ca", "/no/such/ca.pem"], "/no/such/ca.pem"],
  [["127.0.0.1:9090", "--cert", "/some.pem"], "both of"],
  [["127.0.0.1:port"], "host:port"],
])("%j is refused in words, before anybody is asked", async (args, words) => {
  await open();
  const { code, err } = await check(...args);

  expect(code).toBe(2);
  expect(err).toContain(words);
  expect(calls).toEqual([]);
});

test("an order that makes no sense is refused", async () => {
  await open();
  const { request, Agent } = await import("undici");
  const dispatcher = new Agent({ connect: { socketPath: server?.socketPath ?? "" } });
  const headers = { "content-type": "application/json" };
  const { statusCode } = await request("http://control/v1/trials", {
    method: "POST",
    dispatcher,
    headers,
    body: "{}",
  });
  await dispatcher.close();

  expect(statusCode).toBe(400);
  expect(calls).toEqual([]);
});
