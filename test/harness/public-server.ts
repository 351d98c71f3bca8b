import { randomUUID } from "node:crypto";
import { utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Agent, request } from "undici";
import { systemClock } from "../../src/base/clock.ts";
import { type Log, silentLog } from "../../src/base/log.ts";
import { Secret } from "../../src/base/secret.ts";
import { createHookVerifier, newSigningKey, signDelivery } from "../../src/gitlab/webhook-signature.ts";
import { HttpConfig } from "../../src/server/config.ts";
import { openPublicServer, type PublicServer } from "../../src/server/public/public-server.ts";
import type { Readiness } from "../../src/views/readiness.ts";

const signingKey = newSigningKey();
export const secretToken = new Secret("a long secret token");

interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly text: string;
}

/** A real server on loopback in this process, with a receiver that notes what it is given. */
export interface TestPublicServer extends AsyncDisposable {
  readonly server: PublicServer;
  /** Of its first listener. */
  readonly address: string;
  /** Bodies that were taken; undefined for one that was not kept. */
  readonly taken: (Buffer | undefined)[];
  /** What the log was told, warnings and worse. */
  readonly warnings: readonly { readonly message: string; readonly fields: object }[];
  send(path: string, headers?: Record<string, string>, body?: Buffer, method?: string): Promise<Answer>;
}

export interface TestPublicServerOptions {
  readonly settings?: object;
  readonly readiness?: () => Readiness;
  /** Waited for before a delivery counts as durable. */
  readonly beforeTaken?: () => Promise<void>;
}

export async function openTestPublicServer(options: TestPublicServerOptions = {}): Promise<TestPublicServer> {
  const { settings = {}, readiness = () => ({ ready: true, problems: [] }) } = options;
  const verifier = createHookVerifier({
    signingKeys: () => [signingKey],
    tokens: () => [secretToken],
    now: systemClock.now,
  });
  const taken: (Buffer | undefined)[] = [];
  const warnings: { message: string; fields: object }[] = [];
  const note = (fields: object, message: string) => void warnings.push({ message, fields });
  const log: Log = { ...silentLog, warn: note, error: note, child: () => log };
  const server = await openPublicServer({
    config: serverConfig(settings),
    handler: {
      screen: (headers) => verifier.screen(headers),
      async take({ body }) {
        await options.beforeTaken?.();
        taken.push(body && Buffer.from(body));
        return "taken";
      },
    },
    ...{ readiness, clock: systemClock, log },
  });
  const agent = new Agent({ connect: { rejectUnauthorized: false } });
  const address = server.addresses[0] ?? "";
  return {
    ...{ server, address, taken, warnings },
    async send(path, headers = {}, body, method = "POST") {
      const sent = body === undefined ? {} : { body };
      const answer = await request(`${address}${path}`, { method, headers, dispatcher: agent, ...sent });
      return { status: answer.statusCode, headers: answer.headers, text: await answer.body.text() };
    },
    async [Symbol.asyncDispose]() {
      await agent.destroy();
      await server.close();
    },
  };
}

export function serverConfig(settings: object): HttpConfig {
  return HttpConfig.parse({ listen: ["http://127.0.0.1:0"], ...settings });
}

/** The headers that prove a body. */
export function signed(body: Buffer, signWith = signingKey): Record<string, string> {
  const [id, timestamp] = [randomUUID(), Math.floor(systemClock.now() / 1_000)];
  const signature = signDelivery(signWith, { id, timestamp, body });
  return { "webhook-id": id, "webhook-timestamp": String(timestamp), "webhook-signature": signature };
}

/** A POST to the webhook as it goes over the wire; `length` is what it says of its body. */
export function rawRequest(
  headers: Record<string, string>,
  body: Buffer | string = "",
  length: number | string = Buffer.byteLength(body),
): string {
  const all = { host: "server", "content-length": String(length), ...headers };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  return `POST /webhook HTTP/1.1\r\n${lines.join("")}\r\n${body.toString("latin1")}`;
}

/** Files of a certificate in `directory`; each `write` changes their time too, for file systems that count in seconds. */
export function certificateFiles(directory: string) {
  const tls = { certificateFile: join(directory, "cert.pem"), keyFile: join(directory, "key.pem") };
  let at = 1_700_000_000;
  return {
    tls,
    async write({ cert, key }: { readonly cert: string; readonly key: string }): Promise<void> {
      await writeFile(tls.certificateFile, cert);
      await writeFile(tls.keyFile, key, { mode: 0o600 });
      at += 10;
      for (const file of Object.values(tls)) await utimes(file, at, at);
    },
  };
}
