/**
 * `vm.flintlock` of the configuration, what sizes the driver has, and a host ready for use. Needs nothing of gRPC: the configuration is read
 * without it.
 */
import { z } from "zod";
import type { Secret } from "../../base/secret.ts";
import { CpuOvercommit, durationMs, HostLabels, sizeMib } from "../../domain/config.ts";
import type { Capacity, Size } from "../../domain/size.ts";
import { unusableSize } from "../spec.ts";

const MOST_CPUS = 32;
const LEAST_MEMORY_MIB = 1_024;
const MOST_MEMORY_MIB = 32_768;

/** `host:port`; brackets around an IPv6 address. */
const hostPort = z
  .string()
  .regex(
    /^(\[[0-9a-f:.]+\]|[a-z0-9]([a-z0-9.-]*[a-z0-9])?):\d{1,5}$/i,
    "expected host:port, such as metal-1.example.org:9090",
  );

const Tls = z
  .strictObject({
    caFile: z.string().optional().meta({
      description: "PEM file with the authority that signed the host's certificate; else the system's.",
    }),
    certificateFile: z
      .string()
      .optional()
      .meta({ description: "PEM file with our certificate, where the host asks for one." }),
    keyFile: z.string().optional().meta({ description: "PEM file with the key of our certificate." }),
    serverName: z
      .string()
      .optional()
      .meta({ description: "The name in the host's certificate, when it is not the one in the address." }),
  })
  .refine(({ certificateFile, keyFile }) => (certificateFile === undefined) === (keyFile === undefined), {
    message: "give both of certificateFile and keyFile, or none",
  });

const Network = z.strictObject({
  bridge: z
    .string()
    .regex(/^[a-z0-9][a-z0-9._-]{0,14}$/i, "expected the name of a bridge, such as fl0")
    .optional()
    .meta({ description: "The host's bridge for machines, when it is not flintlockd's own --bridge-name." }),
  addresses: z
    .string()
    .regex(
      /^\d{1,3}(\.\d{1,3}){3}-\d{1,3}(\.\d{1,3}){3}\/\d{1,2}$/,
      "expected a range with its prefix, such as 10.77.0.10-10.77.0.250/24",
    )
    .optional()
    .meta({ description: "Addresses that machines get, first-last/prefix. Without it they ask by DHCP." }),
  gateway: z.ipv4().optional().meta({ description: "The machines' default gateway." }),
  nameservers: z.array(z.ipv4()).default([]).meta({ description: "The machines' name servers." }),
});

const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|\[::1\]):\d+$/i;

/** What goes to this computer itself is on no network. */
function exposesToken(host: {
  readonly address: string | readonly string[];
  readonly plaintext: boolean;
  readonly token?: string | undefined;
  readonly tokenFile?: string | undefined;
  readonly tokenOverPlaintext: boolean;
}): boolean {
  const hasToken = host.token !== undefined || host.tokenFile !== undefined;
  if (!host.plaintext || !hasToken || host.tokenOverPlaintext) return false;
  return ![host.address].flat().every((address) => LOOPBACK.test(address));
}

/** One entry of `vm.flintlock.hosts`. */
const Host = z
  .strictObject({
    address: z.union([hostPort, z.array(hostPort).min(1)]).meta({
      description: "Where its flintlockd answers; several addresses of one host are tried in turn.",
    }),
    tls: Tls.prefault({}).meta({ description: "How the connection is secured." }),
    plaintext: z
      .boolean()
      .default(false)
      .meta({ description: "No TLS at all, for a flintlockd that was started with --insecure." }),
    token: z
      .string()
      .min(1)
      .optional()
      .meta({ description: "flintlockd's --basic-auth-token.", secret: true }),
    tokenFile: z.string().optional().meta({ description: "A file that holds the token." }),
    tokenOverPlaintext: z.boolean().default(false).meta({
      description: "Send the token though nothing encrypts it: whoever is on the way can read and use it.",
    }),
    cpus: z.number().int().min(1).max(4_096).meta({ description: "CPUs of the host." }),
    cpuOvercommit: CpuOvercommit,
    memory: sizeMib().meta({ description: "Memory that machines of the host may have together." }),
    disk: sizeMib().optional().meta({
      description:
        "What the disks of the host's machines may take up together, each counted as size.disk; without it disk is no limit there.",
    }),
    machines: z
      .number()
      .int()
      .min(1)
      .max(10_000)
      .optional()
      .meta({ description: "Machines at one time; by default as many as there are virtual CPUs." }),
    labels: HostLabels.default({}).meta({
      description: "What pools and rules may ask for, such as zone: a.",
    }),
    network: Network.prefault({}).meta({ description: "How machines are joined to the network." }),
  })
  .refine(({ token, tokenFile }) => token === undefined || tokenFile === undefined, {
    message: "give only one of token and tokenFile",
  })
  .refine((host) => !exposesToken(host), {
    path: ["plaintext"],
    message:
      "the host's token would go over the network for all to read: give the host TLS, or say tokenOverPlaintext: true if nobody else is on the way",
  });

export type HostSettings = z.infer<typeof Host>;

const hostName = z
  .string()
  .regex(/^[a-z0-9][a-z0-9-]{0,62}$/, "a host's name has up to 63 of a-z, 0-9 and -")
  .refine((name) => name !== "local", "“local” is this computer");

/** `vm.flintlock`: the hosts of the flintlock driver. */
export const FlintlockConfig = z.strictObject({
  hosts: z
    .record(hostName, Host)
    .default({})
    .meta({ description: "The hosts, by a name of your choice.", reload: "live" }),
  callTimeout: durationMs()
    .prefault("10s")
    .meta({ description: "Longest time for a host's answer to one call." }),
  pullTimeout: durationMs().prefault("10m").meta({
    description: "Longest time for a host to pull an image that it does not have yet.",
  }),
  deleteTimeout: durationMs().prefault("5m").meta({
    description: "How long a machine may take to go before its host counts as sick.",
  }),
});

export type FlintlockConfig = z.infer<typeof FlintlockConfig>;

/** Why no machine can have this size, in words. */
export function flintlockSizeProblem(size: Size): string | undefined {
  const problem = unusableSize("flintlock", size, { mostCpus: MOST_CPUS, leastMemoryMib: LEAST_MEMORY_MIB });
  if (problem !== undefined) return problem;
  if (size.cpus > 1 && size.cpus % 2 !== 0)
    return "the flintlock driver gives 1 CPU or an even number of CPUs";
  if (size.memoryMib > MOST_MEMORY_MIB) return "the flintlock driver gives at most 32 GiB of memory";
  return undefined;
}

/** One host of the fleet, ready for use: files read, capacity counted. */
export interface FlintlockHost {
  readonly name: string;
  /** `host:port`, tried in turn. */
  readonly addresses: readonly string[];
  /** Undefined: plain text, because the configuration says so. */
  readonly tls: HostTls | undefined;
  readonly token: Secret | undefined;
  /** CPUs after over-commit. */
  readonly capacity: Capacity;
  /** Machines that its settings allow before its addresses are counted; undefined where that does not matter. */
  readonly wantedMachines?: number;
  readonly labels: Readonly<Record<string, string>>;
  readonly network: HostNetwork;
}

export interface HostTls {
  /** PEM; undefined: the system's authorities. */
  readonly ca: string | undefined;
  /** PEM with its chain; for hosts that ask for one. */
  readonly certificate: string | undefined;
  /** PEM. */
  readonly key: Secret | undefined;
  /** The name in the host's certificate, when it is not the address's. */
  readonly serverName: string | undefined;
}

export interface HostNetwork {
  /** Undefined: flintlockd's own. */
  readonly bridge: string | undefined;
  /** Undefined: machines ask by DHCP. */
  readonly addresses: AddressRange | undefined;
  readonly gateway: string | undefined;
  readonly nameservers: readonly string[];
}

/** IPv4 addresses from `first` to `last`, both included. */
export interface AddressRange {
  readonly first: string;
  readonly last: string;
  readonly prefixLength: number;
}

/** Machines that a range has addresses for. */
export function addressesIn({ first, last }: AddressRange, gateway: string | undefined): number {
  const [from, to] = [numberOfAddress(first), numberOfAddress(last)];
  const at = gateway === undefined ? -1 : numberOfAddress(gateway);
  return to - from + 1 - (at >= from && at <= to ? 1 : 0);
}

/** An IPv4 address as a whole number. */
export function numberOfAddress(address: string): number {
  return address.split(".").reduce((sum, part) => sum * 256 + Number(part), 0);
}
