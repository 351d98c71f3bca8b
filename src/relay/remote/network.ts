import type { AddressInfo, Server, Socket } from "node:net";
import { type Clock, every } from "../../base/clock.ts";
import { describeError } from "../../base/errors.ts";
import { splitHostPort } from "../../base/host-port.ts";
import type { Log } from "../../base/log.ts";
import { createSampledLog } from "../../base/log.ts";
import { MINUTE_MS } from "../../base/units.ts";
import { advertisedAddress, type RelaySettings } from "../config.ts";
import type { RelayCertificate } from "./certificate.ts";
import { createConfiguredCertificate } from "./certificate.ts";
import { createOwnCertificate } from "./own-certificate.ts";
import { createRemoteListener, listenOn, type RemoteListenerOptions } from "./remote-listener.ts";

export interface NetworkOptions extends Omit<RemoteListenerOptions, "unauthenticatedLog"> {
  readonly clock: Clock;
  readonly log: Log;
  /** Where our own authority is kept. */
  readonly directory: string;
}

/** Where machines of other hosts come in. */
export interface Network {
  /** How guests find it. */
  readonly way: { readonly address: string; readonly serverName: string; readonly ca: string };
  /** Looks for a certificate that is new or has to be renewed. */
  look(): Promise<void>;
  /** Connections of guests end with their endpoints. */
  close(): Promise<void>;
}

/** Throws RelayError `relay_listen` or `relay_certificate`. */
export async function openNetwork(options: NetworkOptions): Promise<Network> {
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
    return { way: { address, serverName, ca }, look, close };
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
