/** All that one server listens on: every address of its configuration, or none, and the certificate of those that speak TLS. */
import { Server as TlsServer } from "node:https";
import type { FastifyInstance } from "fastify";
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import type { TlsFiles, TlsPair } from "../../base/tls.ts";
import { tlsOptions } from "./http-server.ts";
import {
  bind,
  type CertificateReloader,
  createCertificateReloader,
  parseListener,
  resolveListener,
  type ServerName,
} from "./listener.ts";

export interface ListenersOptions {
  readonly name: ServerName;
  readonly settings: { readonly listen: readonly string[]; readonly tls?: TlsFiles | undefined };
  /** The routes behind one address, with TLS when there is a pair. */
  readonly appOf: (pair: TlsPair | undefined) => FastifyInstance;
  /** Ends what the routes still answer, and them. */
  readonly closeAll: (apps: readonly FastifyInstance[]) => Promise<void>;
  readonly clock: Pick<Clock, "now">;
  readonly log: Log;
}

export interface Listeners {
  /** As bound, such as `https://0.0.0.0:8443`. */
  readonly addresses: readonly string[];
  /** Looks whether the certificate has changed. Says in words what came of it. Never rejects. */
  checkCertificate(tls: TlsFiles | undefined): Promise<string[]>;
  /** When the certificate in use ends (epoch ms); undefined without one. */
  certificateEndsAt(): number | undefined;
  close(): Promise<void>;
}

/** Throws HttpError of the codes that `name` has; nothing is open then. */
export async function openListeners(options: ListenersOptions): Promise<Listeners> {
  const { name, settings, closeAll, log } = options;
  const apps: FastifyInstance[] = [];
  const certificates = await watchCertificate(options, apps);
  const addresses: string[] = [];
  const close = () => closeAll(apps);
  try {
    for (const text of settings.listen) addresses.push(...(await openAll(options, text, certificates, apps)));
  } catch (error) {
    await close();
    throw error;
  }
  for (const address of addresses) log.info({ address }, `${name.words} is open`);
  return {
    addresses,
    async checkCertificate(tls) {
      const words = certificates && tls ? await certificates.refresh(tls) : undefined;
      return words === undefined ? [] : [words];
    },
    certificateEndsAt: () => certificates?.pair.validUntil,
    close,
  };
}

async function watchCertificate(
  { name, settings: { listen, tls }, clock, log }: ListenersOptions,
  apps: readonly FastifyInstance[],
): Promise<CertificateReloader | undefined> {
  if (tls === undefined || listen.every((text) => !parseListener(text).isTls)) return undefined;
  return await createCertificateReloader(tls, {
    ...{ log, server: name, now: clock.now },
    onPair(pair) {
      for (const { server } of apps)
        if (server instanceof TlsServer) server.setSecureContext(tlsOptions(pair));
    },
  });
}

/** Every address of one entry of `listen`; at least one of them must work. */
async function openAll(
  { name, appOf }: ListenersOptions,
  text: string,
  certificates: CertificateReloader | undefined,
  apps: FastifyInstance[],
): Promise<string[]> {
  const bound: string[] = [];
  const places = await resolveListener(parseListener(text), name);
  for (const [index, place] of places.entries()) {
    const app = appOf(place.isTls ? certificates?.pair : undefined);
    apps.push(app);
    const isOptional = bound.length > 0 || index < places.length - 1;
    const address = await bind(app, place, isOptional, name);
    if (address !== undefined) bound.push(address);
  }
  return bound;
}
