/** The API: the routes of the control socket for those who hold a token, each with its role. */
import type { FastifyInstance, FastifyRequest } from "fastify";
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import { createKeyedRateLimit } from "../../base/rates.ts";
import { isSecret } from "../../base/secret.ts";
import { MINUTE_MS, SECOND_MS } from "../../base/units.ts";
import type { ServerName } from "../network/listener.ts";
import { bearerIn, openPrivateServer, type PrivateServer, type Refusal } from "../network/private-server.ts";
import { answerProblems } from "../problem.ts";
import type { Caller } from "../roles.ts";
import type { RouteDeps } from "../routes/ports.ts";
import { registerRoutes } from "../routes/route.ts";
import type { ApiSettings } from "./config.ts";
import { API_PREFIX, apiRoutes, openApiDocument } from "./openapi.ts";

const limits = {
  headersTimeout: 10 * SECOND_MS,
  requestTimeout: 10 * SECOND_MS,
  /** Longer than a reader of events may hear nothing. */
  idleTimeout: MINUTE_MS,
  maxHeaderBytes: 16 * 1024,
};
const MOST_CONNECTIONS = 128;
const LONGEST_BODY_BYTES = 64 * 1024;
/** Of one client, without a token that is known. */
const UNPROVEN_PER_MINUTE = 120;

const apiServerName: ServerName = {
  words: "the API",
  section: "api",
  listenCode: "api_listen",
  certificateCode: "api_certificate",
};

export interface ApiServerDeps extends RouteDeps {
  readonly config: ApiSettings;
  /** Of this program. */
  readonly version: string;
  readonly clock: Clock;
  readonly log: Log;
}

export interface ApiServer extends Omit<PrivateServer, "reload"> {
  /** Takes over the tokens, the allow-list and the certificate. Says in words whether a certificate was taken or refused. Never rejects. */
  reload(config: ApiSettings): Promise<string[]>;
}

/** Throws HttpError `api_listen`, `api_certificate`. */
export async function openApiServer(deps: ApiServerDeps): Promise<ApiServer> {
  const { clock, log } = deps;
  let { tokens } = deps.config;
  const closing = new AbortController();
  const callers = new WeakMap<FastifyRequest["raw"], Caller>();
  const unproven = createKeyedRateLimit(clock, () => UNPROVEN_PER_MINUTE);

  function refusalOf(request: FastifyRequest, client: string): Refusal | undefined {
    const caller = callerWith(bearerIn(request), tokens);
    if (caller === undefined) return withoutToken(unproven.take(client));
    callers.set(request.raw, caller);
    return undefined;
  }

  const server = await openPrivateServer({
    ...{ name: apiServerName, settings: deps.config, limits, clock, log, refusalOf },
    mostConnections: MOST_CONNECTIONS,
    bodyLimitBytes: LONGEST_BODY_BYTES,
    addRoutes: (app) => addRoutes(app, deps, closing.signal, ({ raw }) => callers.get(raw)),
  });
  return {
    ...server,
    async reload(next) {
      tokens = next.tokens;
      return await server.reload(next);
    },
    async close() {
      closing.abort();
      await server.close();
    },
  };
}

/** Every token is looked at, so that the time tells nothing of which is near. */
function callerWith(given: string, tokens: ApiSettings["tokens"]): Caller | undefined {
  let found: Caller | undefined;
  for (const [name, { role, token }] of tokens) if (isSecret(given, token)) found = { name, role };
  return found;
}

function withoutToken(waitS: number): Refusal {
  if (waitS > 0) {
    const headers = { "retry-after": waitS };
    return { status: 429, code: "too_many", message: `ask again in ${waitS} s`, headers };
  }
  return {
    status: 401,
    code: "unauthorized",
    message: "no valid token: send one of api.tokens as Authorization: Bearer …",
    headers: { "www-authenticate": "Bearer" },
  };
}

/** A path that a route names word for word is no other's. */
function methodsAt(path: string): string[] {
  const parts = path.slice(API_PREFIX.length).split("/");
  const isLike = (wanted: readonly string[]) =>
    wanted.length === parts.length &&
    wanted.every((part, index) => part.startsWith(":") || part === parts[index]);
  const like = apiRoutes.filter((route) => isLike(route.path.split("/")));
  const same = like.filter((route) => `${API_PREFIX}${route.path}` === path);
  return (same.length > 0 ? same : like).map(({ method }) => method);
}

const nobody: Caller = { name: "nobody", role: "viewer" };

function addRoutes(
  app: FastifyInstance,
  { views, ports, version, log }: ApiServerDeps,
  closing: AbortSignal,
  callerOf: (request: FastifyRequest) => Caller | undefined,
): void {
  answerProblems(app, {
    log,
    unknownPath: `${API_PREFIX}/openapi.json describes what there is.`,
    internal: "FireRunner's log says why.",
    methodsAt,
  });
  let description: ReturnType<typeof openApiDocument> | undefined;
  app.get(`${API_PREFIX}/openapi.json`, async () => {
    description ??= openApiDocument(version);
    return description;
  });
  registerRoutes(app, {
    ...{ prefix: API_PREFIX, routes: apiRoutes, deps: { views, ports }, closing },
    callerOf: (request) => callerOf(request) ?? nobody,
  });
}
