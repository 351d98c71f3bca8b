import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Job, Project } from "@firerunner/gitlab-stand-in/model";
import { createStandInGitLab, type StandInGitLab } from "@firerunner/gitlab-stand-in/stand-in";
import { shellFeatures } from "@firerunner/gitlab-stand-in/test-clients";
import { stringify } from "yaml";
import type { JobDefinition } from "../../src/ci/definition.ts";
import { freePort } from "../../src/demo/workspace.ts";
import { shortDigest } from "../../src/image/manifest.ts";
import { remember } from "../../src/image/store-records.ts";
import type { HostStatus } from "../../src/views/api.ts";
import { storeImage } from "../builders/stored-image.ts";
import { aSpec, bareClient } from "../flintlockd/client.ts";
import { publishedImage } from "../flintlockd/harness.ts";
import { type Flintlockd, startFlintlockd } from "../flintlockd/stand-in.ts";
import { type CertificateAuthority, makeCertificateAuthority } from "../servers/certificates.ts";
import { commandLine, type Ended } from "./command-line.ts";
import { type Daemon, startDaemon } from "./daemon.ts";
import { eventually } from "./eventually.ts";
import { createFleetGuests, type FleetGuests } from "./fleet-guests.ts";

const DAY_MS = 86_400_000;
export const hostToken = "the-hosts-own-token";
const hostNames = ["metal-1", "metal-2"] as const;
type HostName = (typeof hostNames)[number];

/** A FireRunner without machines of its own: two stand-in hosts over TLS, a stand-in GitLab, and guests that play by the rules. */
export interface FleetInstallation extends AsyncDisposable {
  readonly gitlab: StandInGitLab;
  readonly project: Project;
  readonly hosts: Readonly<Record<HostName, Flintlockd>>;
  readonly guests: FleetGuests;
  readonly runnerToken: string;
  readonly apiToken: string;
  /** What the next configuration says of a host beyond the usual. */
  readonly more: Partial<Record<HostName, object>>;
  /** What it says beside all that. */
  readonly settings: Record<string, object>;
  /** Writes the configuration with these hosts. */
  configure(...names: HostName[]): Promise<void>;
  start(): Promise<Daemon>;
  /** `firerunner` with this configuration. */
  cli(...argv: string[]): Promise<Ended>;
  /** Somebody else makes a machine there whose id has a slash. Answers its uid. */
  poison(name: HostName): Promise<string>;
  addJobs(count: number, definition?: Partial<JobDefinition>): Promise<Job[]>;
  /** Waits until all have succeeded. */
  succeed(jobs: readonly Job[]): Promise<void>;
  hostStatus(daemon: Daemon, name: string): Promise<HostStatus | undefined>;
  /** Waits until no host has a machine any more. */
  empty(): Promise<void>;
}

export async function createFleetInstallation(): Promise<FleetInstallation> {
  const directory = await mkdtemp(join(tmpdir(), "fr-fleet-"));
  const at = (...names: string[]) => join(directory, ...names);
  const authority = await makeCertificateAuthority();
  const guests = createFleetGuests();
  const gitlab = createStandInGitLab({ behaviour: { longPollMs: 2_000 } });
  await gitlab.listen();
  const project = await gitlab.projects.add({
    path: "group/project",
    variables: [{ key: "DEPLOY_KEY", value: "a-planted-variable-value", masked: true }],
  });
  const runnerToken = gitlab.runners.add({ runUntagged: true }).token;
  const apiToken = gitlab.tokens.add({ scopes: ["api"] }).token;
  const hosts = {
    "metal-1": await startHost("metal-1", authority, guests),
    "metal-2": await startHost("metal-2", authority, guests),
  };
  await storePublishedImage(at("images"));
  await writeFile(at("runner.token"), runnerToken, { mode: 0o600 });
  await writeFile(at("api.token"), apiToken, { mode: 0o600 });
  await writeFile(at("host.token"), hostToken, { mode: 0o600 });
  await writeFile(at("ca.pem"), authority.ca);
  const relayPort = await freePort();
  const configFile = at("firerunner.yaml");
  const more: FleetInstallation["more"] = {};
  const settingsBeside: FleetInstallation["settings"] = {};

  const hostSettings = (name: HostName) => ({
    address: hosts[name].address,
    tls: { caFile: at("ca.pem"), serverName: "localhost" },
    tokenFile: at("host.token"),
    ...{ cpus: 4, cpuOvercommit: 1, memory: "8GiB" },
    labels: { rack: name },
    ...more[name],
  });

  async function configure(...names: HostName[]): Promise<void> {
    const machine = { driver: "flintlock", image: "tiny" };
    const settings = {
      ...settingsBeside,
      gitlab: { url: gitlab.url },
      state: at("state"),
      images: { directory: at("images") },
      pools: {
        fleet: {
          ...machine,
          size: { cpus: 2, memory: "2GiB", disk: "2GiB" },
          runner: { tokenFile: at("runner.token") },
          ...{ concurrency: 8, egress: "none" },
        },
      },
      webhook: {
        project: "group/project",
        apiTokenFile: at("api.token"),
        machine,
        poll: { interval: "10s" },
      },
      relay: { listen: [`127.0.0.1:${relayPort}`] },
      vm: { flintlock: { hosts: Object.fromEntries(names.map((name) => [name, hostSettings(name)])) } },
    };
    await writeFile(configFile, stringify(settings), { mode: 0o600 });
  }

  await configure(...hostNames);
  return {
    ...{ gitlab, project, hosts, guests, runnerToken, apiToken, configure, more },
    settings: settingsBeside,
    start: () => startDaemon(configFile, at("state")),
    cli: (...argv) => commandLine("--config", configFile, ...argv),
    poison: async (name) => await makePoison(hosts[name].address, authority),
    addJobs: async (count, definition = {}) =>
      await Promise.all(Array.from({ length: count }, () => gitlab.addJob(project, definition))),
    async succeed(jobs) {
      const isOver = () => jobs.every(({ status }) => status === "success" || status === "failed");
      await eventually("jobs end", isOver, 60_000).catch(() => {});
      const bad = jobs.filter(({ status }) => status !== "success");
      if (bad.length === 0) return;
      const stories = await Promise.all(
        bad.map(({ id }) => commandLine("--config", configFile, "why", `${id}`)),
      );
      throw new Error([...stories.map(({ out, err }) => out + err), ...guests.failures].join("\n"));
    },
    async hostStatus(daemon, name) {
      const status = await daemon.get<{ hosts: HostStatus[] }>("/v1/status");
      return status.hosts.find(({ host }) => host === name);
    },
    async empty() {
      const left = () => Object.values(hosts).flatMap((host) => host.machines());
      await eventually("no machine is left", () => left().length === 0, 60_000);
    },
    async [Symbol.asyncDispose]() {
      for (const host of Object.values(hosts)) await host[Symbol.asyncDispose]();
      await gitlab.close();
      await authority[Symbol.asyncDispose]();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** A stand-in host over TLS that has the published image. */
export async function startHost(
  name: string,
  authority: CertificateAuthority,
  guests: FleetGuests,
): Promise<Flintlockd> {
  return await startFlintlockd({
    security: await authority.issue("localhost"),
    token: hostToken,
    localImages: Object.values(publishedImage.published),
    // As docs/flintlock.md wants it: a day, also where all else goes a hundred times faster.
    times: { resyncPeriodMs: 100 * DAY_MS },
    onBoot: guests.onBoot(name),
  });
}

async function makePoison(address: string, { ca }: CertificateAuthority): Promise<string> {
  const client = bareClient(address, { ca }, hostToken);
  const microvm = aSpec({ namespace: "somebody-elses", id: "a/b" });
  return (await client.createMicroVM({ microvm })).microvm?.spec?.uid ?? "";
}

/** The image under the name `tiny`, with the mark that it was pushed to where hosts pull it from. */
export async function storePublishedImage(directory: string): Promise<void> {
  await mkdir(directory);
  const runnerInfo = { name: "gitlab-runner", executor: "shell", shell: "bash", features: shellFeatures };
  const containerInfo = { ...runnerInfo, executor: "docker", features: { ...shellFeatures, image: true } };
  const content = { kernel: Buffer.from("no kernel at all"), containerInfo, runnerInfo };
  const { digest } = await storeImage(directory, "tiny", content);
  const publication = { registry: "localhost:5000", name: "fr", tags: ["latest"], pushedAt: 0 };
  await remember(join(directory, shortDigest(digest)), { ...publication, ...publishedImage.published });
}
