/** The whole way of a job where a company's network is at its strictest: every byte for GitLab by CONNECT, and shown to it a certificate. */

import { mkdir, writeFile } from "node:fs/promises";
import { type AddressInfo, connect, type Socket } from "node:net";
import { join } from "node:path";
import { createServer, type TLSSocket } from "node:tls";
import { inspect } from "node:util";
import { createStandInGitLab, type StandInGitLab } from "@firerunner/gitlab-stand-in/stand-in";
import { createRunnerDouble, shellFeatures, traceSummary } from "@firerunner/gitlab-stand-in/test-clients";
import { afterEach, expect, test } from "vitest";
import { stringify } from "yaml";
import type { Cleanup } from "../../src/app/cleanups.ts";
import { type Components, composeApp } from "../../src/app/compose.ts";
import { systemClock } from "../../src/base/clock.ts";
import { loadConfig } from "../../src/config/load.ts";
import { createLog } from "../../src/telemetry/log.ts";
import { createFakeDriver } from "../../src/vm/fake/driver.ts";
import { createFakeHost, type FakeHost } from "../../src/vm/fake/host.ts";
import { createFleet } from "../../src/vm/fleet.ts";
import { temporaryDirectory } from "../builders/temporary-directory.ts";
import { commandLine } from "../harness/command-line.ts";
import { eventually } from "../harness/eventually.ts";
import { makeCertificateAuthority } from "../servers/certificates.ts";
import { startCompanyProxy } from "../servers/company-proxy.ts";
import { bridgeTo } from "./relay-bench.ts";

const USER = "firerunner";
const PASSWORD = "swordfish-of-the-proxy";
const WRONG = "mackerel-of-the-proxy";
const HOST = "gitlab.company.test";
const LOG = "built behind seven walls\n";
const bareImage = { digest: "sha256:0", architecture: "amd64", kernel: "", initramfs: "", layers: [] };
const runnerInfo = { name: "gitlab-runner", executor: "shell", shell: "bash", features: shellFeatures };

const cleanups: Cleanup[] = [];
afterEach(async () => {
  for (const cleanUp of cleanups.splice(0).reverse()) await cleanUp();
});

/** GitLab as the company shows it: TLS, for those alone who have a certificate of its authority. */
async function startStrictFront(
  gitlab: StandInGitLab,
  security: { readonly key: string; readonly cert: string; readonly ca: string },
) {
  const callers: string[] = [];
  const sockets = new Set<Socket>();
  const server = createServer(
    { ...security, requestCert: true, rejectUnauthorized: true },
    (caller: TLSSocket) => {
      callers.push(`${caller.getPeerCertificate().subject.CN}`);
      const inner = connect(Number(new URL(gitlab.url).port), "127.0.0.1");
      for (const [from, to] of [
        [caller, inner],
        [inner, caller],
      ] as const) {
        sockets.add(from);
        from.on("error", () => to.destroy()).on("close", () => to.destroy());
        from.pipe(to);
      }
    },
  );
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  cleanups.push(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
  return { port: (server.address() as AddressInfo).port, callers };
}

/** All that such a network has, and the files that an operator writes for it. */
async function strictNetwork() {
  const directory = await temporaryDirectory();
  cleanups.push(() => directory[Symbol.asyncDispose]());
  const authority = await makeCertificateAuthority();
  cleanups.push(() => authority[Symbol.asyncDispose]());
  const gitlab = createStandInGitLab({ behaviour: { longPollMs: 1_000 } });
  await gitlab.listen();
  cleanups.push(() => gitlab.close());
  const front = await startStrictFront(gitlab, { ...(await authority.issue(HOST)), ca: authority.ca });
  const routes = { [`${HOST}:443`]: front.port };
  const tls = await authority.issue("127.0.0.1");
  const proxy = await startCompanyProxy({ user: USER, password: PASSWORD, routes, tls });
  cleanups.push(() => proxy[Symbol.asyncDispose]());
  const own = await authority.issue("firerunner.company.test");
  const file = async (name: string, text: string) => {
    const path = join(directory.path, name);
    await writeFile(path, text, { mode: 0o600 });
    return path;
  };
  const state = join(directory.path, "state");
  await mkdir(state, { mode: 0o700 });
  const caFile = await file("ca.pem", authority.ca);
  const clientCertificateFile = await file("own.pem", own.cert);
  const clientKeyFile = await file("own.key", own.key);
  const tokenFile = await file("token", gitlab.runners.add({ runUntagged: true }).token);
  const configure = async (password: string) =>
    await file(
      "firerunner.yaml",
      stringify({
        gitlab: { url: `https://${HOST}`, caFile, clientCertificateFile, clientKeyFile },
        proxy: {
          ...{ url: proxy.url, username: USER, caFile },
          passwordFile: await file("password", password),
        },
        state,
        pools: { small: { driver: "fake", egress: "internet", runner: { tokenFile } } },
        log: { level: "debug", format: "json" },
      }),
    );
  return { gitlab, front, proxy, own, configure, machines: join(directory.path, "m") };
}

type Network = Awaited<ReturnType<typeof strictNetwork>>;

interface Running {
  readonly components: Components;
  /** Every line that was logged. */
  readonly logged: string[];
  /** All that guests were told. */
  readonly given: string[];
  readonly guestProblems: unknown[];
}

/** FireRunner's own components on this configuration, with machines in memory. */
async function run(configFile: string, { machines }: Network): Promise<Running> {
  const config = await loadConfig({ file: configFile, env: {} });
  const logged: string[] = [];
  const destination = { write: (line: string) => void logged.push(line) };
  const { log } = createLog({ settings: config.log, terminal: false, destination });
  const host = createFakeHost(systemClock);
  const driver = createFakeDriver({ host, directory: machines });
  const images = { resolve: async () => ({ ...bareImage, runnerInfo }) };
  const overrides = { fleet: createFleet([driver]), images };
  const components = await composeApp({ config: () => config, log, version: "0", overrides }, cleanups);
  const [given, guestProblems]: [string[], unknown[]] = [[], []];
  playGuests(host, driver.relaySocket, given, guestProblems);
  cleanups.push(async () => {
    components.scheduler.drain();
    await components.claimer.stop();
    await components.scheduler.stop();
  });
  components.scheduler.start();
  components.claimer.start();
  return { components, logged, given, guestProblems };
}

/** Each does what the official runner does: boot data, payload, log, artifact, result. */
function playGuests(
  host: FakeHost,
  socketOf: (machineId: string) => string,
  given: string[],
  problems: unknown[],
): void {
  host.onCreate = async ({ spec: { id }, end }) => {
    const bridge = await bridgeTo(() => connect(socketOf(id)));
    const runner = createRunnerDouble(bridge.url);
    try {
      const boot = await runner.call("GET", "/firerunner/boot");
      const job = await runner.claim(/^token=(.*)$/m.exec(boot.text)?.[1] ?? "");
      given.push(boot.text, JSON.stringify(job.payload));
      const answers = [
        await runner.appendTrace(job.id, job.token, 0, LOG),
        await runner.upload(job.id, job.token, "built.zip", "what was built"),
        await runner.update(job.id, job.token, "success", traceSummary(LOG)),
      ];
      given.push(...answers.map(({ headers, text }) => JSON.stringify(headers) + text));
      end("orderly");
    } catch (error) {
      problems.push(error);
      end("killed");
    } finally {
      await runner.close();
      await bridge.close();
    }
  };
}

/** The proxy's password in every form in which it goes about, and the lines of the key. */
function secretsOf({ own }: Network): string[] {
  const keyLines = own.key.split("\n").filter((line) => line !== "" && !line.startsWith("-----"));
  const passwords = [PASSWORD, WRONG].flatMap((password) => [
    password,
    Buffer.from(`${USER}:${password}`).toString("base64"),
  ]);
  return [...passwords, ...keyLines];
}

function expectNoSecret(network: Network, texts: Readonly<Record<string, string>>): void {
  const found = Object.entries(texts).flatMap(([where, text]) =>
    secretsOf(network).flatMap((secret) => (text.includes(secret) ? [`${where}: ${secret}`] : [])),
  );
  expect(Object.values(texts)).not.toContain("");
  expect(found).toEqual([]);
}

test("a job's log, artifact and result arrive through a proxy and with a client certificate, and neither's secret anywhere else", async () => {
  const network = await strictNetwork();
  const { gitlab, front, proxy } = network;
  const configFile = await network.configure(PASSWORD);
  const project = await gitlab.projects.add({ path: "group/project" });
  const job = await gitlab.addJob(project, {
    artifacts: { paths: ["built"], exclude: [], untracked: false, when: "on_success" },
  });
  const { components, logged, given, guestProblems } = await run(configFile, network);

  await gitlab.waitForJob(job, "success", 60_000);
  await eventually("the job is over here too", async () => {
    const [ours] = await components.store.jobs();
    return ours?.state === "finished";
  });

  expect(guestProblems).toEqual([]);
  expect(job.trace.text()).toContain(LOG);
  expect(job.artifacts).toMatchObject([{ type: "archive", filename: "built.zip", sizeBytes: 14 }]);
  expect(gitlab.violations).toEqual([]);
  expect(new Set(proxy.asked)).toEqual(new Set([`CONNECT ${HOST}:443`]));
  expect(proxy.unproven()).toBe(0);
  expect(new Set(front.callers)).toEqual(new Set(["firerunner.company.test"]));
  const show = await commandLine("--config", configFile, "config", "show");
  const json = await commandLine("--config", configFile, "config", "show", "--json");
  expect([show.code, json.code]).toEqual([0, 0]);
  expectNoSecret(network, {
    ...{ log: logged.join(""), boot: given.join("\n"), show: show.out, json: json.out },
    configuration: inspect(await loadConfig({ file: configFile, env: {} }), { depth: 20 }),
  });
});

test("a proxy that does not take the password is told so in the log and in the error, without the password", async () => {
  const network = await strictNetwork();
  const configFile = await network.configure(WRONG);
  const { components, logged } = await run(configFile, network);
  const [pool] = components.pools().values();
  if (!pool) throw new Error("the configuration has no pool");

  const error: unknown = await components.api.verify(pool.runnerToken).catch((problem: unknown) => problem);
  const words = () => logged.filter((line) => line.includes("does not take the user and password given"));
  await eventually("the log says why nothing is claimed", () => words().length > 0);

  expect(error).toMatchObject({ code: "gitlab_proxy" });
  expect(network.front.callers).toEqual([]);
  expectNoSecret(network, {
    log: logged.join(""),
    error: inspect(error, { depth: 30, showHidden: true }) + (error instanceof Error ? error.stack : ""),
  });
});
