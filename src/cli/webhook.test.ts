import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { createServer, type IncomingHttpHeaders, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { text } from "node:stream/consumers";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { aControlPorts } from "../../test/builders/control-ports.ts";
import { aStore, type TestStore } from "../../test/builders/store.ts";
import { aWaitingJob, aWebhookPorts, aWebhookStatus } from "../../test/builders/webhook-ports.ts";
import { systemClock } from "../base/clock.ts";
import { silentLog } from "../base/log.ts";
import { Secret } from "../base/secret.ts";
import { createHookVerifier } from "../gitlab/webhook-signature.ts";
import { type ControlServer, openControlServer } from "../server/control/control-server.ts";
import type { ControlPorts, WebhookPorts } from "../server/routes/ports.ts";
import { createViews } from "../views/views.ts";
import { runCli } from "./program.ts";

const key = `whsec_${Buffer.alloc(32, 7).toString("base64")}`;

let directory: string;
let configFile: string;
let state: string;
let kept: TestStore | undefined;
let control: ControlServer | undefined;
let listener: Server | undefined;
let asked: string[];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "fr-cli-"));
  configFile = join(directory, "firerunner.yaml");
  state = join(directory, "state");
  asked = [];
  await mkdir(state);
  await writeFile(join(directory, "hook.key"), `${key}\n`, { mode: 0o600 });
  await configure();
});

afterEach(async () => {
  await control?.close();
  control = undefined;
  await kept?.[Symbol.asyncDispose]();
  kept = undefined;
  await new Promise((resolve) => (listener ? listener.close(resolve) : resolve(undefined)));
  listener = undefined;
  await rm(directory, { recursive: true, force: true });
});

interface Choice {
  readonly listen?: string;
  readonly gitlab?: string;
  readonly scope?: string;
}

async function configure({ listen, gitlab = "http://127.0.0.1:9", scope = "group: example" }: Choice = {}) {
  const config = `gitlab: { url: "${gitlab}" }
webhook:
  ${scope}
  apiToken: glpat-PLANTED
  signingKeyFile: hook.key
  url: https://firerunner.example.org/webhook
http: { listen: [${listen === undefined ? "" : `"${listen}"`}] }
state: ${state}
`;
  await writeFile(configFile, config, { mode: 0o600 });
}

async function firerunner(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const outputs = Promise.all([text(stdout), text(stderr)]);
  const env = { PATH: process.env["PATH"], FIRERUNNER_CONFIG: configFile };
  const surroundings = { version: "0.0.1", executable: [process.execPath] as [string] };
  const code = await runCli({ argv: args, env, stdout, stderr, ...surroundings });
  stdout.end();
  stderr.end();
  const [out, err] = await outputs;
  return { code, out, err };
}

async function openDaemon(change: Partial<WebhookPorts> = {}): Promise<TestStore["store"]> {
  kept = await aStore({ clock: systemClock });
  const ports: ControlPorts = {
    ...aControlPorts(),
    status: () => ({
      version: "1.2.3",
      pid: 42,
      startedAt: Date.now(),
      mode: "run",
      configFile: null,
      stateDirectory: state,
      gitlabUrl: "https://gitlab.example.com",
      gitlabProblem: null,
      pools: [],
      hosts: [],
      fetching: [],
      troubles: [],
      caches: [],
    }),
    reload: async () => {
      asked.push("reload");
      return [];
    },
    publicServer: {
      addresses: () => ["http://127.0.0.1:8080"],
      readiness: () => ({ ready: true, problems: [] }),
    },
    webhook: aWebhookPorts(asked, change),
  };
  const { explainPending = async () => [] } = change;
  const views = createViews({ store: kept.store, now: systemClock.now, explainPending });
  control = await openControlServer({
    stateDirectory: state,
    views,
    ports,
    clock: systemClock,
    log: silentLog,
  });
  return kept.store;
}

interface Received {
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
  readonly isProven: boolean;
}

/** What a server that knows the key received. It stores what is proven, as the true one does. */
async function openServer(store?: TestStore["store"], status = 200): Promise<Received[]> {
  const received: Received[] = [];
  const now = systemClock.now;
  const verifier = createHookVerifier({ signingKeys: () => [new Secret(key)], tokens: () => [], now });
  listener = createServer(async (request, response) => {
    const body = await text(request);
    const screening = verifier.screen(request.headers);
    if (screening.kind === "signed") screening.proof.update(Buffer.from(body));
    const isProven = screening.kind === "signed" && screening.proof.isValid();
    received.push({ headers: request.headers, body, isProven });
    const event = { event: "Job Hook", projectId: 7, jobId: 4711, status: "pending" };
    await store?.keepDeliveries([{ key: String(request.headers["webhook-id"]), ...event }]);
    response.writeHead(status).end(JSON.stringify({ message: "noted" }));
  });
  await new Promise<void>((resolve) => listener?.listen(0, "127.0.0.1", resolve));
  await configure({ listen: `http://127.0.0.1:${(listener.address() as AddressInfo).port}` });
  return received;
}

describe("webhook send", () => {
  test("delivers a signed sample and tells what became of it", async () => {
    const store = await openDaemon();
    const received = await openServer(store);
    await store.note("job:noticed", { jobId: 4711 }, { project: "g/p", name: "build", tags: [], hook: true });

    const { code, out } = await firerunner(
      "webhook",
      "send",
      "--job",
      "4711",
      "--project",
      "7",
      "--id",
      "one",
    );

    expect(code).toBe(0);
    expect(out).toMatch(/answered 200 in \d+ ms: noted/);
    expect(out).toContain("stored as one");
    expect(out).toContain("Job 4711 waits in GitLab");
    expect(received).toMatchObject([{ isProven: true, headers: { "x-gitlab-event": "Job Hook" } }]);
    expect(JSON.parse(received[0]?.body ?? "")).toMatchObject({ build_id: 4711, project_id: 7 });
  });

  test("takes the body from a file, byte for byte", async () => {
    const received = await openServer();
    const body = '{ "object_kind": "pipeline",\n "ü": 1 }';
    await writeFile(join(directory, "body.json"), body);

    const { code, out } = await firerunner(
      ...["webhook", "send", "-e", "pipeline", "-f", join(directory, "body.json")],
    );

    expect(code).toBe(0);
    expect(received).toMatchObject([
      { isProven: true, body, headers: { "x-gitlab-event": "Pipeline Hook" } },
    ]);
    expect(out).toContain("known to the FireRunner there only");
  });

  test("fails when the public server refuses it", async () => {
    await openServer(undefined, 401);

    expect(await firerunner("webhook", "send", "--json")).toMatchObject({ code: 1 });
  });

  test.each([
    [["--file", "nowhere.json"], "nowhere.json"],
    [["--event", "push"], "job, pipeline"],
    [["--job", "x"], "whole number"],
    [[], "http.listen names no address"],
  ])("with %j is refused", async (args, words) => {
    const { code, err } = await firerunner("webhook", "send", ...args);

    expect(code).toBe(2);
    expect(err).toContain(words);
  });
});

describe("webhook status", () => {
  test("tells what hooks brought, what they missed and what is wrong", async () => {
    const store = await openDaemon({
      status: () =>
        aWebhookStatus({
          missedByHooks: 2,
          hooks: [{ id: 9, url: "https://x", ok: false, words: "switched off by GitLab" }],
          requests: {
            since: 1,
            taken: { "Job Hook": 3 },
            duplicates: 1,
            unreadable: 0,
            refused: { "its X-Gitlab-Token is wrong": 5 },
          },
        }),
      waiting: () => [aWaitingJob({ problem: "GitLab refused to make a runner" })],
    });
    await store.keepDeliveries([
      { key: "first", event: "Job Hook", projectId: 7, jobId: 4711, status: "pending" },
    ]);

    const { code, out } = await firerunner("webhook", "status");

    expect(code).toBe(0);
    expect(out).toMatch(/^listener +listens on http:\/\/127\.0\.0\.1:8080; GitLab calls\n +https:/m);
    expect(out).toMatch(/^! hook 9: switched off by GitLab$/m);
    expect(out).toMatch(/^! 2 jobs were found by looking/m);
    expect(out).toMatch(/^refused: its X-Gitlab-Token is wrong +5$/m);
    expect(out).toMatch(/^4711 .*GitLab refused to make a runner$/m);
    expect(out).toMatch(/Job Hook +7 +4711 +pending +first$/m);
  });

  test("is part of the status of everything", async () => {
    await openDaemon({ waiting: () => [aWaitingJob()] });

    const { out } = await firerunner("status");

    expect(out).toMatch(/^ {2}hooks +1 in order, last delivery never$/m);
    expect(out).toMatch(/^ {2}runners +0 of at most 50$/m);
    expect(out).toMatch(/^Waiting in GitLab$/m);
  });

  test("needs a running FireRunner", async () => {
    expect(await firerunner("webhook", "status")).toMatchObject({ code: 3 });
  });
});

describe("webhook install", () => {
  test("makes the key first, lets FireRunner read it, and stops where GitLab cannot be reached", async () => {
    await openDaemon();
    await rm(join(directory, "hook.key"));

    const { code, out } = await firerunner("webhook", "install", "--json");

    const { ok, steps } = JSON.parse(out) as { ok: boolean; steps: { name: string; level: string }[] };
    expect({ code, ok, asked }).toEqual({ code: 1, ok: false, asked: ["reload"] });
    expect(steps.map(({ name, level }) => [name, level])).toEqual([
      ["signing key", "ok"],
      ["API token", "fail"],
    ]);
    expect(await readFile(join(directory, "hook.key"), "utf8")).toMatch(/^whsec_[\w+/]{43}=\n$/);
    expect((await stat(join(directory, "hook.key"))).mode & 0o777).toBe(0o600);
    expect(out).not.toMatch(/whsec_|PLANTED/);
  });

  test("keeps the key before when it is rotated", async () => {
    await firerunner("webhook", "install", "--rotate");

    expect((await readFile(join(directory, "hook.key"), "utf8")).trim().split("\n")).toEqual([
      expect.stringMatching(/^whsec_/),
      key,
    ]);
  });

  test("leaves a key that is there alone", async () => {
    await openDaemon();

    const { out } = await firerunner("webhook", "install");

    expect(out).toMatch(/^ok +signing key +taken from/m);
    expect(out).toContain("The hook does not work yet.");
    expect(asked).toEqual([]);
  });

  test.each([
    [["--url", "nonsense"], 2, "is not an address"],
    [["--group", "a", "--project", "b"], 2, "exclude each other"],
  ])("with %j ends with %i", async (args, code, words) => {
    const ended = await firerunner("webhook", "install", ...args);

    expect(ended.err).toContain(words);
    expect(ended.code).toBe(code);
  });

  test("asks for a configuration with webhook", async () => {
    await writeFile(
      configFile,
      `gitlab: { url: "http://127.0.0.1:9" }\npools: { a: { runner: { token: glrt-a } } }\n`,
      {
        mode: 0o600,
      },
    );

    expect(await firerunner("webhook", "install")).toMatchObject({
      code: 2,
      err: expect.stringContaining("docs/webhooks.md"),
    });
  });
});

describe("runner", () => {
  const size = { cpus: 2, memoryMib: 4096, diskMib: 1024 };
  const runner = { key: "r-abcd2345", pool: "tags:a", tags: ["a"], jobId: null, size };

  test("create, delete and prune are passed on", async () => {
    const store = await openDaemon();
    await store.addRunner(runner);

    const created = await firerunner("runner", "create", "--tags", "b, a,b");
    const deleted = await firerunner("runner", "delete", "r-abcd2345");
    const pruned = await firerunner("runner", "prune");

    expect(asked).toEqual(["create b,a", "retire r-abcd2345", "prune"]);
    expect(created.out).toBe("r-aaaaaaaa (GitLab's runner 81) serves jobs with b, a\n");
    expect(deleted.out).toContain("is out of use");
    expect(pruned.out).toBe("runner r-abcd2345 is deleted\n");
  });

  test("list is a table, also of what a FireRunner that does not run has left", async () => {
    kept = await aStore({ clock: systemClock, onDisk: true });
    await kept.store.addRunner(runner);
    state = kept.directory;
    await configure();

    const { code, out, err } = await firerunner("runner", "list");

    expect(code).toBe(0);
    expect(out).toMatch(/^r-abcd2345 +- +creating +a +2 CPU, 4 GiB +0 /m);
    expect(err).toContain("FireRunner does not run");
  });

  test.each([
    [["delete", "r-zzzz2345"], 4, "runner list"],
    [["delete", "my runner"], 2, "r-abcd2345"],
    [["create"], 2, "--tags"],
    [["create", "--tags", ","], 2, "firecracker-2cpu-4gb"],
  ])("%j ends with %i", async (args, code, words) => {
    await openDaemon();

    const ended = await firerunner("runner", ...args);

    expect(ended.err).toContain(words);
    expect(ended.code).toBe(code);
  });

  test("create, delete and prune need a running FireRunner", async () => {
    for (const args of [["create", "--tags", "a"], ["delete", "81"], ["prune"]]) {
      expect(await firerunner("runner", ...args)).toMatchObject({ code: 3 });
    }
  });
});

test("why tells of a job that waits, and of one that GitLab alone knows", async () => {
  const store = await openDaemon({ explainPending: async () => ["it has no tags"] });
  const about = { project: "g/p", name: "build", tags: ["firecracker-99cpu-4gb"] };
  await store.note("job:left-alone", { jobId: 4711 }, { ...about, reason: "too many CPUs" });

  const leftAlone = await firerunner("why", "4711");
  const unseen = await firerunner("why", "12");

  expect(leftAlone.out).toContain("g/p: build (tags: firecracker-99cpu-4gb)");
  expect(leftAlone.out).toContain("cause: too many CPUs; it has no tags");
  expect(unseen.out).toMatch(
    /^Job 12 was neither claimed nor seen waiting here\.\n {2}cause: it has no tags\n/,
  );
});
