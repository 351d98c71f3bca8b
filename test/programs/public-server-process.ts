/**
 * The public server with the receiver and the store behind it, as the program has them, in a process of its own: what it costs can be measured,
 * and what would end it ends this.
 */
import { join } from "node:path";
import { serveParent } from "../../bench/parts/child.ts";
import { systemClock } from "../../src/base/clock.ts";
import { type Log, silentLog } from "../../src/base/log.ts";
import { Secret } from "../../src/base/secret.ts";
import { createWebhookReceiver, type WebhookReceiver } from "../../src/discovery/webhook-receiver.ts";
import { createHookVerifier } from "../../src/gitlab/webhook-signature.ts";
import { HttpConfig } from "../../src/server/config.ts";
import { openPublicServer, type PublicServer } from "../../src/server/public/public-server.ts";
import type { RequestCounts } from "../../src/server/public/refusal.ts";
import { createStore } from "../../src/store/create-store.ts";
import type { Store } from "../../src/store/store.ts";

export interface PublicServerProcessOptions {
  readonly directory: string;
  readonly signingKey: string;
  readonly token: string;
  /** `http` of the configuration. */
  readonly settings: object;
}

export interface PublicServerReport {
  readonly counts: RequestCounts;
  /** Deliveries that could not be understood. */
  readonly unreadable: number;
  readonly warnings: number;
  readonly errors: readonly string[];
  /** Keys of what is in the store. */
  readonly stored: readonly string[];
}

const errors: string[] = [];
let warnings = 0;
const log: Log = {
  ...silentLog,
  warn: () => void warnings++,
  error: (fields, message) => void errors.push(`${message} ${JSON.stringify(fields)}`),
  child: () => log,
};
let store: Store | undefined;
let server: PublicServer | undefined;
let receiver: WebhookReceiver<unknown> | undefined;

async function open({
  directory,
  signingKey,
  token,
  settings,
}: PublicServerProcessOptions): Promise<string[]> {
  store = await createStore({
    database: join(directory, "firerunner.db"),
    keyFile: join(directory, "key"),
    clock: systemClock,
    log,
  });
  const verifier = createHookVerifier({
    signingKeys: () => [new Secret(signingKey)],
    tokens: () => [new Secret(token)],
    now: systemClock.now,
  });
  const reception = createWebhookReceiver({
    ...{ verifier, store, clock: systemClock, log },
    onHook: () => {},
    onJobEnded: () => {},
  });
  receiver = reception;
  server = await openPublicServer({
    config: HttpConfig.parse(settings),
    handler: reception,
    readiness: () => ({ ready: true, problems: [] }),
    ...{ clock: systemClock, log },
  });
  return [...server.addresses];
}

async function report(): Promise<PublicServerReport> {
  const rows = await store?.deliveries({ limit: 1_000_000 });
  return {
    ...{ counts: server?.counts() as RequestCounts, unreadable: receiver?.status().unreadable ?? 0 },
    ...{ warnings, errors, stored: (rows ?? []).map(({ key }) => key) },
  };
}

const handlers = { open, report };
export type PublicServerProcess = typeof handlers;

serveParent(handlers, async () => {
  await server?.close();
  await store?.close();
});
