/**
 * Where guests on other hosts find the relay: the listener is opened with the certificate for its address as soon as a host needs one, and
 * each machine gets a link of its own.
 */
import type { AddressInfo, Server, Socket } from "node:net";
import { type Clock, every } from "../../base/clock.ts";
import { describeError } from "../../base/errors.ts";
import { splitHostPort } from "../../base/host-port.ts";
import { createSampledLog, type Log } from "../../base/log.ts";
import type { Secret } from "../../base/secret.ts";
import { MINUTE_MS } from "../../base/units.ts";
import type { MachineStore } from "../../store/store.ts";
import { advertisedAddress, type RelaySettings } from "../config.ts";
import { RelayError } from "../errors.ts";
import { createConfiguredCertificate, type RelayCertificate } from "./certificate.ts";
import { createOwnCertificate } from "./own-certificate.ts";
import {
  createRemoteListener,
  createTrialLinks,
  listenOn,
  type RemoteListenerOptions,
} from "./remote-listener.ts";

/** How a machine on another host finds the relay, and proves who it is. */
export interface RelayLink {
  /** `host:port` */
  readonly address: string;
  readonly serverName: string;
  /** PEM */
  readonly ca: string;
  readonly secret: Secret;
}

/** Machines that try a host out: they may prove themselves here, and there is nothing for them. */
export interface Trials {
  /** Whether any could come: false where the relay listens nowhere on the network. */
  arePossible(): boolean;
  /** Throws RelayError `relay_no_network`. */
  link(machineId: string): RelayLink;
  /** When it first proved itself (epoch ms). */
  firstWordAt(machineId: string): number | undefined;
  forget(machineId: string): void;
}

interface RelayAddressOptions extends Omit<NetworkOptions, "directory" | "trials"> {
  readonly store: Pick<MachineStore, "checkLink" | "issueLink">;
  /** Without one the relay listens nowhere on the network. */
  readonly directory: string | undefined;
}

/** The relay's side to machines on other hosts, which there may be none of. */
export interface RelayAddress {
  /** Listens, when that is configured. Throws RelayError. */
  start(): Promise<void>;
  /** Throws RelayError `relay_no_network` when no machine on another host could reach us. */
  require(machineId: string): Network;
  /** Throws RelayError `relay_no_network`, or `relay_no_link` for a machine that is not being created. */
  link(machineId: string): Promise<RelayLink>;
  readonly trials: Trials;
  look(): Promise<void>;
  /** Of the certificate that machines on other hosts are shown (epoch ms); undefined where there are none. */
  certificateEndsAt(): number | undefined;
  close(): Promise<void>;
}

export function createRelayAddress(options: RelayAddressOptions): RelayAddress {
  const { store, directory, settings } = options;
  const links = createTrialLinks(options.clock);
  let network: Network | undefined;

  function require(machineId: string): Network {
    if (network) return network;
    const message = `opening the relay for ${machineId}: it is on another host, and the relay listens nowhere on the network`;
    throw new RelayError("relay_no_network", message, { hint: "set relay.listen and relay.advertise" });
  }

  return {
    async start() {
      if (settings.listen.length > 0 && directory !== undefined) {
        network = await openNetwork({ ...options, directory, trials: links });
      }
    },
    require,
    async link(machineId) {
      const { way } = require(machineId);
      const secret = await store.issueLink(machineId);
      if (secret) return { ...way, secret };
      const message = `a way to the relay for ${machineId}: the machine is not being created any more`;
      throw new RelayError("relay_no_link", message);
    },
    trials: {
      arePossible: () => network !== undefined,
      link: (machineId) => ({ ...require(machineId).way, secret: links.issue(machineId) }),
      firstWordAt: links.firstWordAt,
      forget: links.forget,
    },
    look: async () => await network?.look(),
    certificateEndsAt: () => network?.certificateEndsAt(),
    async close() {
      await network?.close();
      network = undefined;
    },
  };
}

interface NetworkOptions extends Omit<RemoteListenerOptions, "unauthenticatedLog"> {
  readonly clock: Clock;
  readonly log: Log;
  /** Where our own authority is kept. */
  readonly directory: string;
}

/** Where machines of other hosts come in. */
interface Network {
  /** How guests find it. */
  readonly way: { readonly address: string; readonly serverName: string; readonly ca: string };
  /** Looks for a certificate that is new or has to be renewed. */
  look(): Promise<void>;
  certificateEndsAt(): number | undefined;
  /** Connections of guests end with their endpoints. */
  close(): Promise<void>;
}

/** Throws RelayError `relay_listen` or `relay_certificate`. */
async function openNetwork(options: NetworkOptions): Promise<Network> {
  const { settings, clock, log } = options;
  const unauthenticatedLog = createSampledLog({
    log,
    clock,
    leftOut: "more connections to the relay were refused",
  });
  const listener = createRemoteListener({ ...options, unauthenticatedLog });
  const servers: Server[] = [];
  let certificate: RelayCertificate | undefined;

  function onConnection(raw: Socket): void {
    raw.on("error", () => {});
    if (certificate === undefined) return void raw.destroy();
    listener.receive(raw, certificate.context).catch((error: unknown) => {
      const fields = { error: describeError(error) };
      unauthenticatedLog.write("error", "failed", fields, "a connection from the network failed");
      raw.destroy();
    });
  }

  async function look(): Promise<void> {
    unauthenticatedLog.tick();
    await certificate?.look();
  }

  async function close(): Promise<void> {
    stopLooking();
    unauthenticatedLog.flush();
    const closed = servers.map((server) => new Promise((resolve) => server.close(resolve)));
    listener.clear();
    await Promise.all(closed);
  }

  const stopLooking = every(clock, MINUTE_MS, () => void look());
  try {
    for (const text of settings.listen) servers.push(await listenOn(text, onConnection));
    const address = reachedAt(settings, servers[0]);
    const serverName = splitHostPort(address).host;
    certificate = await certificateFor(serverName, options);
    log.info({ listen: settings.listen, address }, "the relay listens for machines on other hosts");
    const { ca } = certificate;
    const certificateEndsAt = () => certificate?.endsAt();
    return { way: { address, serverName, ca }, look, certificateEndsAt, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Port 0 stands for whichever the system gave. */
function reachedAt(settings: RelaySettings, first: Server | undefined): string {
  const bound = first?.address() as AddressInfo | undefined;
  return (advertisedAddress(settings) ?? settings.listen[0] ?? "").replace(/:0$/, `:${bound?.port}`);
}

async function certificateFor(serverName: string, options: NetworkOptions): Promise<RelayCertificate> {
  const { settings, directory, clock, log } = options;
  const { tls: files } = settings;
  if (files) return await createConfiguredCertificate({ files, serverName, clock, log });
  return await createOwnCertificate({ directory, serverName, clock, log });
}
