import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { text } from "node:stream/consumers";
import { stripVTControlCharacters } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parse } from "yaml";
import { aControlPorts } from "../../test/builders/control-ports.ts";
import { aClaim } from "../../test/builders/job.ts";
import { aNewMachine } from "../../test/builders/machine.ts";
import { aNewRunner } from "../../test/builders/managed-runner.ts";
import { aStore, type TestStore } from "../../test/builders/store.ts";
import { storeImage } from "../../test/builders/stored-image.ts";
import { aWaitingJob, aWebhookPorts, aWebhookStatus } from "../../test/builders/webhook-ports.ts";
import { unbroken } from "../../test/harness/unbroken.ts";
import { systemClock } from "../base/clock.ts";
import { silentLog } from "../base/log.ts";
import { visibleWidth } from "../base/text.ts";
import { type ControlServer, openControlServer } from "../server/control/control-server.ts";
import type { ControlPorts } from "../server/routes/ports.ts";
import type { DaemonStatus } from "../views/api.ts";
import { createViews } from "../views/views.ts";
import { runCli } from "./program.ts";

/** Long, but not so long that no line can take it. */
const NAME = "builds-of-engineering-research";
/** Names of jobs may have letters that are twice as wide. */
const WIDE = `${NAME}-測試-🚀`;
const SENTENCE =
  "the runner token of this pool could not be verified, since neither the proxy nor GitLab itself has answered within fifteen seconds";
const HINT = `look after “proxy.url” in the configuration, or try it by hand: firerunner doctor`;
const ADDRESS = "https://firerunner.engineering.example.org:8443/webhook";

let directory: string;
let configFile: string;
let kept: TestStore;
let server: ControlServer;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "fr-screens-"));
  configFile = join(directory, "c.yaml");
  await mkdir(join(directory, "state"));
  await writeFile(configFile, configText(), { mode: 0o600 });
  await storeImage(join(directory, "images"), NAME, { kernel: Buffer.alloc(64, 1) });
  kept = await aStore({ clock: systemClock });
  await fillStore(kept.store);
  const ports: ControlPorts = {
    ...aControlPorts(),
    status: () => status,
    reload: async () => [SENTENCE, `pool ${NAME}: ${SENTENCE}`],
    publicServer: {
      addresses: () => [ADDRESS, ADDRESS],
      readiness: () => ({ ready: false, problems: [SENTENCE] }),
    },
    webhook: aWebhookPorts([], { status: () => webhookStatus, waiting: () => [waiting] }),
  };
  const views = createViews({ store: kept.store, now: systemClock.now, explain: async () => [SENTENCE] });
  server = await openControlServer({
    ...{ stateDirectory: join(directory, "state"), views, ports },
    ...{ clock: systemClock, log: silentLog },
  });
});

afterAll(async () => {
  await server.close();
  await kept[Symbol.asyncDispose]();
  await rm(directory, { recursive: true, force: true });
});

const configText = () => `gitlab: { url: http://127.0.0.1:9 }
pools:
  ${NAME}: { runner: { token: glrt-PLANTED }, image: nowhere }
webhook: { group: "engineering/${NAME}", apiToken: glpat-PLANTED, token: ${"s".repeat(40)} }
http: { listen: ["http://127.0.0.1:0"] }
images: { directory: ${join(directory, "images")} }
state: ${join(directory, "state")}
`;

async function fillStore(store: TestStore["store"]): Promise<void> {
  const project = `engineering/platform/${NAME}/${NAME}`;
  await store.claim(aClaim({ pool: NAME, name: WIDE.repeat(3), project }));
  await store.startJob(4711, aNewMachine({ id: "fr-aaaaaaaa", pool: NAME, host: NAME, image: NAME }));
  await store.markBooting("fr-aaaaaaaa");
  await store.stopMachine("fr-aaaaaaaa", SENTENCE);
  await store.claim(aClaim({ jobId: 15_000_000_000, name: WIDE, project, pool: NAME }));
  await store.failJob(15_000_000_000, { reason: SENTENCE, cause: "never-started" });
  await store.finishJob(15_000_000_000, "failed", { reason: SENTENCE });
  const tags = ["firecracker-16cpu-64gb", NAME, "gpu"];
  const runner = aNewRunner({ tags });
  await store.addRunner(runner);
  await store.retireRunner(runner.key, SENTENCE);
  const event = "Job Hook";
  const key = "0198f1c2-5d0e-7c52-b7b8-1d3d5f0d7a11";
  await store.keepDeliveries([
    { key, event, projectId: 70_000_000, jobId: 15_000_000_001, status: "pending" },
  ]);
}

const pool: DaemonStatus["pools"][number] = {
  name: NAME,
  origin: "configured",
  ok: true,
  problems: [{ problem: SENTENCE, hint: HINT }],
  ...{ accelerator: "tcg", driver: "flintlock", image: NAME },
  size: { cpus: 16, memoryMib: 65_536, diskMib: 1_048_576 },
  limit: 1_000,
  room: { machines: 2, byDisk: 2, note: SENTENCE },
  imageNote: { problem: `image ${NAME} ${SENTENCE}`, hint: HINT },
  tokenNote: { problem: `the token: ${SENTENCE}`, hint: HINT },
  claiming: SENTENCE,
};

const status: DaemonStatus = {
  ...{ version: "1.2.3", pid: 42, startedAt: 0, mode: "run", gitlabUrl: ADDRESS },
  configFile: "/etc/firerunner/engineering/and/research/config.yaml",
  stateDirectory: "/var/lib/firerunner/engineering/and/research",
  gitlabProblem: SENTENCE,
  pools: [pool, { ...pool, name: "small", ok: false, tokenNote: undefined }],
  hosts: [
    {
      ...{ key: `flintlock/${NAME}`, driver: "flintlock", host: NAME, drained: false },
      labels: { zone: NAME, disk: NAME },
      taken: { cpus: 128, memoryMib: 1_048_576, machines: 100, diskMib: 10_485_760 },
      capacity: { cpus: 256, memoryMib: 2_097_152, machines: 1_000, diskMib: null },
      ...{ problem: SENTENCE, hint: HINT },
    },
  ],
  fetching: [],
  troubles: [`destroy fr-bbbbbbbb: ${SENTENCE}`],
  caches: [
    {
      name: "images of jobs",
      directory: "/var/lib/firerunner/containers",
      usedBytes: 12e9,
      evictableBytes: 3e9,
    },
  ],
};

const waiting = aWaitingJob({
  ...{ id: 15_000_000_002, project: `engineering/${WIDE}`, name: WIDE },
  tags: ["firecracker-16cpu-64gb", NAME],
  problem: SENTENCE,
});

const webhookStatus = aWebhookStatus({
  scope: `group engineering/platform/${NAME}`,
  hooks: [{ id: 9, url: ADDRESS, ok: false, words: SENTENCE }],
  problems: [SENTENCE],
  missedByHooks: 3,
  unservable: [{ ...waiting, reason: SENTENCE }],
  leftAlone: 1,
  projectProblems: [{ project: `engineering/${NAME}`, problem: SENTENCE }],
  requests: { since: 1, taken: { "Job Hook": 3 }, duplicates: 1, unreadable: 0, refused: { [SENTENCE]: 5 } },
  token: { summary: `“${NAME}” of bot, ${SENTENCE}`, problems: [SENTENCE] },
});

async function firerunner(columns: number | undefined, ...argv: readonly string[]) {
  const screen = () =>
    Object.assign(new PassThrough(), columns === undefined ? {} : { isTTY: true, columns });
  const [stdout, stderr] = [screen(), screen()];
  const outputs = Promise.all([text(stdout), text(stderr)]);
  const env = { PATH: process.env["PATH"], FIRERUNNER_CONFIG: configFile };
  const surroundings = { version: "0.0.1", executable: [process.execPath] as [string] };
  await runCli({ argv, env, stdout, stderr, ...surroundings });
  stdout.end();
  stderr.end();
  const [out, err] = await outputs;
  // What a line of progress was before it was drawn anew is not on the screen any more.
  // biome-ignore lint/suspicious/noControlCharactersInRegex: it is how the line is cleared
  return stripVTControlCharacters((out + err).replaceAll(/[^\n]*\r\u001b\[K/g, ""));
}

const words = (line: string) => line.split(" ").filter((word) => word !== "");

const screens: readonly (readonly [command: string, holds: string])[] = [
  ["status", "its token is not verified"],
  ["hosts", "avoided"],
  ["jobs", "15000000000"],
  ["logs 4711", "has no log yet"],
  ["machines --all", "fr-aaaaaaaa"],
  ["why 4711", "→"],
  ["why 15000000000", "→"],
  ["why 77", "not known here"],
  ["runner list --all", "retiring"],
  ["runner delete r-abcd2345", "there is no runner"],
  ["webhook status", "Last deliveries"],
  ["image list", "stand-in"],
  ["image verify nowhere", "there is no image"],
  ["image build --runner /nowhere/at/all", "/nowhere/at/all"],
  ["config check", "is in order"],
  ["doctor", "must be put right"],
  ["reload", SENTENCE],
  ["jobs --lmit 3", "Did you mean --limit?"],
  ["jobs -n many", "is invalid"],
  ["init --url https://gitlab.example.org", "there is no terminal"],
  [`status --config /nowhere/${NAME}.yaml`, "does not exist"],
];

describe.each([
  ["a pipe", undefined, 80],
  ["a terminal of 80 columns", 80, 80],
  ["a narrow one", 72, 72],
])("on %s", (_name, columns, width) => {
  test.each(columns === 72 ? screens.filter(([command]) => command !== "doctor") : screens)(
    "“firerunner %s” keeps to it",
    async (command, holds) => {
      const lines = (await firerunner(columns, ...command.split(" "))).split("\n");
      const wide = lines.filter((line) => visibleWidth(line) > width);

      expect(unbroken(lines.join("\n"))).toContain(holds);
      expect(wide.filter((line) => words(line).length > 1)).toEqual([]);
    },
  );
});

test("every command's help keeps to 80 columns", async () => {
  const commands = (help: string) =>
    [...(help.split("\nCommands:\n")[1] ?? "").matchAll(/^ {2}([a-z]+) /gm)].flatMap(([, name = ""]) =>
      name === "help" ? [] : name,
    );
  const seen: string[] = [];
  const look = async (path: readonly string[]): Promise<string[]> => {
    const help = await firerunner(undefined, ...path, "--help");
    seen.push(path.join(" "));
    const below = await Promise.all(commands(help).map((name) => look([...path, name])));
    return [...help.split("\n").filter((line) => visibleWidth(line) > 80), ...below.flat()];
  };

  expect(await look([])).toEqual([]);
  expect(seen).toEqual(
    expect.arrayContaining(["", "status", "webhook install", "image build", "hosts check"]),
  );
});

test("a setting and its origin stand beside or below each other, and can be used again", async () => {
  const shown = await firerunner(undefined, "config", "show");

  expect(shown.split("\n").filter((line) => line.includes("  # ") && visibleWidth(line) > 80)).toEqual([]);
  expect(parse(shown)).toMatchObject({ http: { listen: ["http://127.0.0.1:0"] } });
  expect(shown).toMatch(/^ {2}tick: 1s +# default$/m);
  expect(shown).toMatch(/^ {2}# \S+c\.yaml:\d+:\d+\n {2}group: \S+$/m);
});

test("status tells once of pools that share a fault, and what to do about a token", async () => {
  const shown = unbroken(await firerunner(undefined, "status"));

  expect(shown).toContain(`! ${NAME}: the token: ${SENTENCE} → ${HINT}`);
  expect(shown).toContain(`! ${NAME}, small: ${SENTENCE} → ${HINT}`);
});
