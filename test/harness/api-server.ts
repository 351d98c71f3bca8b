import { request } from "undici";
import { systemClock } from "../../src/base/clock.ts";
import { silentLog } from "../../src/base/log.ts";
import { Secret } from "../../src/base/secret.ts";
import { type ApiServer, openApiServer } from "../../src/server/api/api-server.ts";
import type { ApiSettings } from "../../src/server/api/config.ts";
import type { Role } from "../../src/server/roles.ts";
import { createEventFeed } from "../../src/server/routes/event-routes.ts";
import type { ControlPorts } from "../../src/server/routes/ports.ts";
import { createViews } from "../../src/views/views.ts";
import { aControlPorts } from "../builders/control-ports.ts";
import { aStore, type TestStore } from "../builders/store.ts";
import { aDaemonStatus } from "./control-daemon.ts";

interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly text: string;
}

interface Asking {
  readonly method?: "GET" | "POST" | "DELETE" | "PUT";
  /** Whose token is sent; another word is sent as it is, and null nothing. */
  readonly as?: Role | string | null;
  readonly body?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

/** The API on loopback, above a real store, with a token for each role. */
export interface TestApi extends AsyncDisposable {
  readonly server: ApiServer;
  readonly address: string;
  readonly kept: TestStore;
  readonly settings: ApiSettings;
  /** What was done, by whom. */
  readonly changes: readonly string[];
  ask(path: string, asking?: Asking): Promise<Answer>;
}

export const apiTokens: Readonly<Record<Role, string>> = {
  viewer: "a long token of the viewer",
  operator: "a long token of the operator",
  admin: "a long token of the admin",
};

export async function openTestApi(
  options: { readonly settings?: Partial<ApiSettings>; readonly ports?: Partial<ControlPorts> } = {},
): Promise<TestApi> {
  const kept = await aStore({ clock: systemClock });
  const changes: string[] = [];
  const tokens = new Map(
    Object.entries(apiTokens).map(([role, text]) => [
      `the-${role}`,
      { role: role as Role, token: new Secret(text.replaceAll(" ", "-")) },
    ]),
  );
  const settings = { listen: ["http://127.0.0.1:0"], allow: [], tls: undefined, tokens, ...options.settings };
  const ports: ControlPorts = {
    ...aControlPorts(),
    status: () => aDaemonStatus,
    events: createEventFeed(kept.store.onEvent),
    noteChange: async ({ name }, change) => void changes.push(`${name}: ${change}`),
    ...options.ports,
  };
  const views = createViews({ store: kept.store, now: systemClock.now });
  const server = await openApiServer({
    ...{ views, ports, config: settings, version: "1.2.3", clock: systemClock, log: silentLog },
  });
  const [address = ""] = server.addresses;
  return {
    ...{ server, address, kept, settings, changes },
    async ask(path, { method = "GET", as = "admin", body, headers = {} } = {}) {
      const token = apiTokens[as as Role]?.replaceAll(" ", "-") ?? as;
      const answer = await request(`${address}${path}`, {
        method,
        headers: {
          ...(token === null ? {} : { authorization: `Bearer ${token}` }),
          ...(body === undefined ? {} : { "content-type": "application/json" }),
          ...headers,
        },
        ...(body === undefined ? {} : { body }),
      });
      return { status: answer.statusCode, headers: answer.headers, text: await answer.body.text() };
    },
    async [Symbol.asyncDispose]() {
      await server.close();
      await kept[Symbol.asyncDispose]();
    },
  };
}
