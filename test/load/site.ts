/**
 * All that a FireRunner is joined to, without a hypervisor: the stand-in GitLab with its hooks, hosts with stand-ins for flintlockd over
 * TLS, and guests in their machines that come back over TLS. Any of it outlives the program. Between any two of them stands a link that
 * can be spoilt, where that is wanted.
 */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Project } from "@firerunner/gitlab-stand-in/model";
import { createStandInGitLab, type StandInGitLab } from "@firerunner/gitlab-stand-in/stand-in";
import { stringify } from "yaml";
import { freePort } from "../../src/demo/workspace.ts";
import { newSigningKey } from "../../src/gitlab/webhook-signature.ts";
import { imageOf, tarOf } from "../builders/layer.ts";
import type { Flintlockd } from "../flintlockd/stand-in.ts";
import { createFaultProxy, type FaultProxy } from "../harness/fault-proxy.ts";
import { createFleetGuests, type FleetGuests } from "../harness/fleet-guests.ts";
import { hostToken, startHost, storePublishedImage } from "../harness/fleet-installation.ts";
import { makeCertificateAuthority } from "../servers/certificates.ts";
import { startImageRegistry } from "../servers/image-registry.ts";

/** As GitLab knows it: by this name where names can be made to fail. */
export const gitlabName = "gitlab.load.test";
const GROUP = "load";
const PROJECTS = 12;
const PATIENCE_MS = 10_000;

/** Sizes that jobs ask for by tag, each a runner of its own in GitLab. */
export const tags = [
  "firecracker-1cpu-1gb",
  "firecracker-1cpu-1.25gb",
  "firecracker-1cpu-1.5gb",
  "firecracker-1cpu-2gb",
] as const;

export interface SiteOptions {
  readonly directory: string;
  readonly state: string;
  readonly hosts: number;
  readonly machinesPerHost: number;
  /** Laid over the configuration. */
  readonly settings?: Readonly<Record<string, unknown>>;
  /** Links can be spoilt: this says when a piece of what passes is lost. */
  readonly random?: () => number;
  /** GitLab has a name that must be looked up. */
  readonly named?: boolean;
}

/** Who speaks to whom: the manager to GitLab, to a registry and to a host, GitLab's hooks and guests to the manager. */
export type LinkName = "gitlab" | "registry" | "hooks" | "guests" | `metal-${number}`;

export interface Site extends AsyncDisposable {
  readonly gitlab: StandInGitLab;
  readonly projects: readonly Project[];
  readonly hosts: ReadonlyMap<string, Flintlockd>;
  readonly guests: FleetGuests;
  /** An image that jobs may name: its machine pulls it through the relay, from a registry on loopback. */
  readonly jobImage: string;
  /** Empty unless they can be spoilt. */
  readonly links: ReadonlyMap<LinkName, FaultProxy>;
  readonly configFile: string;
}

export async function createSite(options: SiteOptions): Promise<Site> {
  const { directory, state, random } = options;
  await using made = new AsyncDisposableStack();
  const guests = createFleetGuests({ patienceMs: PATIENCE_MS });
  const gitlab = createStandInGitLab({ behaviour: { longPollMs: 10_000 } });
  await gitlab.listen();
  made.defer(() => gitlab.close());
  const projects: Project[] = [];
  for (let count = 1; count <= PROJECTS; count++)
    projects.push(await gitlab.projects.add({ path: `${GROUP}/project-${count}` }));
  const authority = made.use(await makeCertificateAuthority());
  const hosts = new Map<string, Flintlockd>();
  for (let count = 1; count <= options.hosts; count++) {
    const name = `metal-${count}`;
    hosts.set(name, made.use(await startHost(name, authority, guests)));
  }
  const registry = made.use(await startImageRegistry());
  registry.put("team/tool", "1", imageOf([tarOf([{ path: "tool", content: "tool" }])]));
  const links = new Map<LinkName, FaultProxy>();
  /** Where a program finds the address: there, or where the link to it begins. */
  async function reach(link: LinkName, address: string): Promise<string> {
    if (!random) return address;
    const proxy = made.use(await createFaultProxy({ to: () => address, random }));
    links.set(link, proxy);
    return proxy.address;
  }
  const [http, relay] = [`127.0.0.1:${await freePort()}`, `127.0.0.1:${await freePort()}`];
  const gitlabAddress = await reach("gitlab", new URL(gitlab.url).host);
  const addresses: Record<string, string> = {};
  for (const [name, host] of hosts) addresses[name] = await reach(name as LinkName, host.address);
  const registryAt = await reach("registry", registry.host);
  const hooksAt = `http://${await reach("hooks", http)}/webhook`;
  const guestsAt = await reach("guests", relay);
  const signingKey = newSigningKey();
  addHook(gitlab, { group: GROUP, url: hooksAt, signingKey: signingKey.reveal() });

  await storePublishedImage(join(directory, "images"));
  await mkdir(state, { recursive: true, mode: 0o700 });
  await writeFile(join(directory, "ca.pem"), authority.ca);
  const gitlabHost = options.named ? gitlabAddress.replace("127.0.0.1", gitlabName) : gitlabAddress;
  const machines = options.machinesPerHost;
  const hostSettings = (address: string) => ({
    address,
    tls: { caFile: join(directory, "ca.pem"), serverName: "localhost" },
    token: hostToken,
    ...{ cpus: machines, cpuOvercommit: 1, memory: `${2 * machines}GiB`, machines },
  });
  const settings = {
    gitlab: { url: `http://${gitlabHost}` },
    state,
    images: { directory: join(directory, "images") },
    webhook: {
      group: GROUP,
      apiToken: gitlab.tokens.add({ scopes: ["api"], memberOf: GROUP }).token,
      signingKey: signingKey.reveal(),
      url: hooksAt,
      machine: { driver: "flintlock", image: "tiny", egress: "none", disk: "1GiB" },
    },
    http: { listen: [`http://${http}`] },
    relay: { listen: [relay], advertise: guestsAt },
    containers: { registries: { [registryAt]: { plaintext: true } } },
    vm: {
      flintlock: {
        hosts: Object.fromEntries(
          Object.entries(addresses).map(([name, address]) => [name, hostSettings(address)]),
        ),
      },
    },
    ...options.settings,
  };
  const configFile = join(directory, "firerunner.yaml");
  await writeFile(configFile, stringify(settings), { mode: 0o600 });
  const all = made.move();
  return {
    ...{ gitlab, projects, hosts, guests, links, configFile },
    jobImage: `${registryAt}/team/tool:1`,
    [Symbol.asyncDispose]: () => all.disposeAsync(),
  };
}

/** As `firerunner webhook install` makes it. */
export function addHook(
  gitlab: StandInGitLab,
  { group, url, signingKey }: { group: string; url: string; signingKey: string },
): void {
  gitlab.hooks.add({
    home: { group: gitlab.groups.at(group) },
    ...{ url, name: undefined, description: undefined, token: undefined },
    signingKey: Buffer.from(signingKey.replace(/^whsec_/, ""), "base64"),
    ...{ jobEvents: true, pipelineEvents: true, pushEvents: false, sslVerification: true },
  });
}
