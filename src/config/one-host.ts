import { FlintlockConfig } from "../vm/flintlock/config.ts";
import type { FlintlockHost } from "../vm/flintlock/host.ts";
import { ConfigError } from "./errors.ts";
import { readHosts } from "./hosts.ts";
import { type ReadFile, readLocalFile } from "./secret-file.ts";

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
