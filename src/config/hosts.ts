import { Secret } from "../base/secret.ts";
import { flintlockHosts } from "../domain/drivers.ts";
import {
  type AddressRange,
  addressesIn,
  FlintlockConfig,
  type FlintlockHost,
  type HostSettings,
  type HostTls,
} from "../vm/flintlock/config.ts";
import { ConfigError } from "./errors.ts";
import {
  type Check,
  problemOfPem,
  type ReadFile,
  readLocalFile,
  readNamedFile,
  readSecret,
  type SecretOptions,
} from "./named-files.ts";
import type { PathProblem } from "./problems.ts";

/** The least that flintlockd gives to a machine. */
const LEAST_MEMORY_MIB = 1_024;

interface ReadHosts {
  /** Those that can be used, by name. */
  readonly hosts: ReadonlyMap<string, FlintlockHost>;
  readonly problems: readonly PathProblem[];
}

/** Hosts of the flintlock driver, with their tokens and certificates read and their capacity counted. */
export async function readHosts(
  settings: Readonly<Record<string, HostSettings>>,
  options: SecretOptions,
): Promise<ReadHosts> {
  const hosts = new Map<string, FlintlockHost>();
  const problems: PathProblem[] = [];
  for (const [name, host] of Object.entries(settings)) {
    const at = [...flintlockHosts, name];
    const reader = createReader(at, options);
    const token = await reader.token(host);
    const tls = host.plaintext ? undefined : await reader.tls(host.tls);
    const addresses = usableRange(host.network, [...at, "network", "addresses"], reader.problems);
    problems.push(...reader.problems);
    if (reader.problems.length === 0) hosts.set(name, { ...plain(name, host, addresses), token, tls });
  }
  return { hosts, problems };
}

/** What needs no reading. */
function plain(
  name: string,
  host: HostSettings,
  addresses: AddressRange | undefined,
): Omit<FlintlockHost, "token" | "tls"> {
  const cpus = Math.floor(host.cpus * host.cpuOvercommit);
  const { bridge, gateway, nameservers } = host.network;
  const wantedMachines = host.machines ?? cpus;
  const addressLimit = addresses ? addressesIn(addresses, gateway) : Number.POSITIVE_INFINITY;
  return {
    name,
    addresses: typeof host.address === "string" ? [host.address] : host.address,
    capacity: {
      cpus,
      memoryMib: host.memory,
      machines: Math.min(wantedMachines, addressLimit),
      diskMib: host.disk,
    },
    wantedMachines,
    labels: host.labels,
    network: { bridge, addresses, gateway, nameservers },
  };
}

function createReader(at: readonly string[], options: SecretOptions) {
  const problems: PathProblem[] = [];

  async function file(key: string, path: string | undefined, holds: "CERTIFICATE" | "PRIVATE KEY") {
    if (path === undefined) return undefined;
    const found = await readNamedFile(path, options);
    const problem = "problem" in found ? found.problem : problemOfPem(found.value, holds);
    if (problem) problems.push({ path: [...at, "tls", key], message: problem });
    return "value" in found ? found.value.text : undefined;
  }

  return {
    problems,
    async token(host: HostSettings): Promise<Secret | undefined> {
      if (host.token === undefined && host.tokenFile === undefined) return undefined;
      const answer = await readSecret({ at, key: "token", from: host }, checkToken, options);
      if ("value" in answer) return answer.value;
      const key = host.token === undefined ? "tokenFile" : "token";
      problems.push({ path: [...at, key], message: answer.problem });
      return undefined;
    },
    async tls({ caFile, certificateFile, keyFile, serverName }: HostSettings["tls"]): Promise<HostTls> {
      const key = await file("keyFile", keyFile, "PRIVATE KEY");
      return {
        ca: await file("caFile", caFile, "CERTIFICATE"),
        certificate: await file("certificateFile", certificateFile, "CERTIFICATE"),
        key: key === undefined ? undefined : new Secret(key),
        serverName,
      };
    },
  };
}

/** Any text may be flintlockd's token, but not one that no header can carry. */
const checkToken: Check<Secret> = (text, where) =>
  /^[\x21-\x7e]+$/.test(text)
    ? { value: new Secret(text) }
    : { problem: `${where} is no token: expected one word of printable characters` };

/** `10.77.0.10-10.77.0.250/24`: both ends in one network, the first before the last. */
function rangeOf(
  text: string | undefined,
  path: readonly string[],
  problems: PathProblem[],
): AddressRange | undefined {
  if (text === undefined) return undefined;
  const [ends = "", bits = ""] = text.split("/");
  const [first = "", last = ""] = ends.split("-");
  const prefixLength = Number(bits);
  const problem = rangeProblem(numberOf(first), numberOf(last), prefixLength);
  if (problem) problems.push({ path: [...path], message: `${text} is no range of addresses: ${problem}` });
  return { first, last, prefixLength };
}

function rangeProblem(first: number | undefined, last: number | undefined, bits: number): string | undefined {
  if (first === undefined || last === undefined) return "each number of an address is 0 to 255";
  if (bits < 8 || bits > 30) return "the prefix is 8 to 30";
  if (first > last) return "the first address is behind the last";
  const block = 2 ** (32 - bits);
  if (Math.floor(first / block) !== Math.floor(last / block)) return `it is not within one /${bits} network`;
  if (first % block === 0 || last % block === block - 1)
    return "it holds the network's own address, or that of all";
  return undefined;
}

function numberOf(address: string): number | undefined {
  const parts = address.split(".").map(Number);
  if (parts.length !== 4 || parts.some((part) => !Number.isInteger(part) || part < 0 || part > 255))
    return undefined;
  return parts.reduce((sum, part) => sum * 256 + part, 0);
}

/** As `rangeOf`, with an address for one machine at least. */
function usableRange(
  { addresses, gateway }: HostSettings["network"],
  path: readonly string[],
  problems: PathProblem[],
): AddressRange | undefined {
  const before = problems.length;
  const range = rangeOf(addresses, path, problems);
  if (range && problems.length === before && addressesIn(range, gateway) < 1)
    problems.push({ path: [...path], message: `${addresses} has no address beside the gateway's` });
  return range;
}

/** What is in order and may not be what was meant, in words. */
export function hostNotes(hosts: ReadonlyMap<string, FlintlockHost>): { problem: string; hint: string }[] {
  return [...hosts.values()].flatMap(({ name, capacity, wantedMachines = capacity.machines, network }) => {
    if (!network.addresses) return [];
    const addresses = addressesIn(network.addresses, network.gateway);
    const others = Math.min(wantedMachines, capacity.cpus, Math.floor(capacity.memoryMib / LEAST_MEMORY_MIB));
    if (addresses >= others) return [];
    const problem = `the host ${name} has no more than ${addresses} machines at one time: its network.addresses has no more addresses`;
    const hint = `its other settings allow ${others}: widen vm.flintlock.hosts.${name}.network.addresses, or say machines: ${addresses} there`;
    return [{ problem, hint }];
  });
}

/** True when nothing of a host has changed, its secrets and the content of its files included. */
export function isSameHost(a: FlintlockHost, b: FlintlockHost): boolean {
  return fingerprint(a) === fingerprint(b);
}

function fingerprint(host: FlintlockHost): string {
  return JSON.stringify([host, host.token?.reveal(), host.tls?.key?.reveal()]);
}

/** What the configuration would say of a host, given in another way. */
export interface HostOptions {
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
  readonly serverName?: string;
  readonly tokenFile?: string;
  readonly plaintext?: boolean;
  readonly tokenOverPlaintext?: boolean;
  readonly bridge?: string;
}

/** A host that no configuration names, for a look at it. Throws ConfigError with what is wrong. */
export async function hostAt(
  address: string,
  options: HostOptions,
  readFile: ReadFile = readLocalFile,
): Promise<FlintlockHost> {
  const {
    ca: caFile,
    cert: certificateFile,
    key: keyFile,
    serverName,
    tokenFile,
    plaintext,
    tokenOverPlaintext,
    bridge,
  } = options;
  const host = {
    address,
    tls: given({ caFile, certificateFile, keyFile, serverName }),
    network: given({ bridge }),
    ...given({ tokenFile, plaintext, tokenOverPlaintext }),
    // A trial needs no capacity.
    ...{ cpus: 1, memory: "1GiB" },
  };
  const parsed = FlintlockConfig.safeParse({ hosts: { given: host } });
  if (!parsed.success)
    throw unusable(
      address,
      parsed.error.issues.map(({ message }) => message),
    );
  const nothingInline = {
    besideFile: undefined,
    credentialsDirectory: undefined,
    inlineProblem: () => undefined,
  };
  const { hosts, problems } = await readHosts(parsed.data.hosts, { readFile, ...nothingInline });
  const found = hosts.get("given");
  if (!found)
    throw unusable(
      address,
      problems.map(({ message }) => message),
    );
  return { ...found, name: address.slice(0, address.lastIndexOf(":")) };
}

function given<Settings extends object>(settings: Settings): object {
  return Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined));
}

function unusable(address: string, problems: readonly string[]): ConfigError {
  return new ConfigError("config_invalid", `the host at ${address} cannot be used: ${problems.join("; ")}`, {
    hint: "firerunner hosts check --help",
  });
}
