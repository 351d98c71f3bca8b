/**
 * Logging in to a registry: what it asks for in `WWW-Authenticate` is read, and met with a password (basic) or with a token of its token
 * service (bearer), one for each set of scopes.
 */
import { z } from "zod";
import { parseJson } from "../base/json.ts";
import type { Credentials } from "./credentials.ts";
import { type Answer, RegistryError, refusal } from "./errors.ts";

/** A request to a token service. */
export interface TokenRequest {
  readonly url: URL;
  readonly authorization?: string;
  /** Sent by POST when there is one. */
  readonly form?: URLSearchParams;
}

interface Deps {
  /** `https://host:port` of the registry. */
  readonly origin: string;
  readonly credentials: () => Promise<Credentials | undefined>;
  readonly ask: (request: TokenRequest) => Promise<Answer>;
  /** What earlier sessions with this registry and these credentials have learnt. */
  readonly memory?: LoginMemory | undefined;
}

/** What a registry asks for, and the tokens that met it, by their scopes. For sessions with one registry and one login. */
export interface LoginMemory {
  current: Challenge | undefined;
  readonly tokens: Map<string, string>;
}

/** Of one registry. Who needs more asks again. */
const TOKENS_MAX = 100;

export function createLoginMemory(): LoginMemory {
  return { current: undefined, tokens: new Map() };
}

/** What goes into `Authorization`, found out from what the registry asks for. */
interface Authorization {
  /** For requests that need these scopes; undefined while the registry has asked for nothing. */
  header(scopes: readonly string[]): Promise<string | undefined>;
  /** The registry has answered 401: what was sent, if anything was, no longer counts. Throws `registry_unauthorized`. */
  learn(challenge: Challenge | undefined, scopes: readonly string[]): Promise<void>;
}

const TokenAnswer = z.union([
  z.object({ token: z.string().min(1) }).transform(({ token }) => token),
  z.object({ access_token: z.string().min(1) }).transform(({ access_token }) => access_token),
]);

export function createAuthorization({
  origin,
  credentials,
  ask,
  memory = createLoginMemory(),
}: Deps): Authorization {
  const { tokens } = memory;

  async function header(scopes: readonly string[]): Promise<string | undefined> {
    const { current } = memory;
    if (!current) return undefined;
    if (current.scheme === "basic") return await basic();
    const key = scopes.join(" ");
    const token = tokens.get(key) ?? (await fetchToken(current, scopes));
    if (tokens.size >= TOKENS_MAX) tokens.clear();
    tokens.set(key, token);
    return `Bearer ${token}`;
  }

  async function learn(challenge: Challenge | undefined, scopes: readonly string[]): Promise<void> {
    if (!challenge)
      throw unauthorized("asks for a kind of login that is not known here", "use another registry");
    memory.current = challenge;
    tokens.delete(scopes.join(" "));
  }

  async function basic(): Promise<string> {
    const known = await credentials();
    if (known?.kind !== "password") throw unauthorized("asks for a user and a password", logIn);
    return basicHeader(known.username, known.password.reveal());
  }

  async function fetchToken(
    challenge: Challenge & { scheme: "bearer" },
    scopes: readonly string[],
  ): Promise<string> {
    const url = realmUrl(challenge.realm);
    const answer = await ask(tokenRequest(url, challenge.service, scopes, await credentials()));
    if (answer.status !== 200) throw refusal(answer, url.origin, `asking for a token for ${origin}`);
    const token = TokenAnswer.safeParse(parseJson(answer.text));
    if (token.success) return token.data;
    throw new RegistryError("registry_refused", `the token service ${url.origin} gave no token`, {
      hint: "check the registry's configuration",
    });
  }

  /** Credentials never go in the clear where the registry itself is spoken with over TLS. */
  function realmUrl(realm: string): URL {
    const url = URL.canParse(realm, origin) ? new URL(realm, origin) : undefined;
    const isSafe = url?.protocol === "https:" || (url?.protocol === "http:" && origin.startsWith("http:"));
    if (url && isSafe) return url;
    throw new RegistryError("registry_refused", `${origin} names a token service that cannot be trusted`, {
      hint: "its realm must be an address with https",
    });
  }

  function unauthorized(problem: string, hint: string): RegistryError {
    return new RegistryError("registry_unauthorized", `${origin} ${problem}`, { hint });
  }

  return { header, learn };
}

const logIn = "log in, as with: docker login";

function tokenRequest(
  realm: URL,
  service: string | undefined,
  scopes: readonly string[],
  known: Credentials | undefined,
): TokenRequest {
  if (known?.kind === "identity-token") {
    const form = new URLSearchParams({
      grant_type: "refresh_token",
      client_id: "firerunner",
      scope: scopes.join(" "),
      ...(service === undefined ? {} : { service }),
      refresh_token: known.token.reveal(),
    });
    return { url: realm, form };
  }
  const url = new URL(realm);
  if (service !== undefined) url.searchParams.set("service", service);
  for (const scope of scopes) url.searchParams.append("scope", scope);
  if (!known) return { url };
  return { url, authorization: basicHeader(known.username, known.password.reveal()) };
}

function basicHeader(username: string, password: string): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}`;
}

/** What a registry asks for in `WWW-Authenticate`. */
type Challenge =
  | { readonly scheme: "basic" }
  | { readonly scheme: "bearer"; readonly realm: string; readonly service: string | undefined };

/** Bearer where both are offered. Undefined when neither is. */
export function parseChallenge(header: string | string[] | undefined): Challenge | undefined {
  const text = [header ?? []].flat().join(", ");
  const bearer = /\bbearer\s+(?=\w+\s*=)/i.exec(text);
  if (bearer) {
    const parameters = parametersOf(text.slice(bearer.index + bearer[0].length));
    const realm = parameters.get("realm");
    if (realm !== undefined) return { scheme: "bearer", realm, service: parameters.get("service") };
  }
  return /\bbasic\b/i.test(text.replace(/"(?:[^"\\]|\\.)*"/g, "")) ? { scheme: "basic" } : undefined;
}

function parametersOf(text: string): Map<string, string> {
  const parameters = new Map<string, string>();
  const pattern = /\s*(\w+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))\s*(?:,|$)/y;
  for (let found = pattern.exec(text); found; found = pattern.exec(text)) {
    const [, key = "", quoted, bare = ""] = found;
    parameters.set(key.toLowerCase(), quoted?.replace(/\\(.)/g, "$1") ?? bare);
  }
  return parameters;
}
