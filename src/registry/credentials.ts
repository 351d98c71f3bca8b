/** Credentials where `docker login` and its like leave them: in docker's config.json, or with the credential helper that it names. */

import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { z } from "zod";
import { systemCode } from "../base/errors.ts";
import { parseJson } from "../base/json.ts";
import { Secret } from "../base/secret.ts";
import { RegistryError } from "./errors.ts";

const Login = z.object({
  auth: z.string().optional(),
  username: z.string().optional(),
  password: z.string().optional(),
  identitytoken: z.string().optional(),
});

const DockerConfig = z.object({
  auths: z.record(z.string(), Login).optional(),
  credHelpers: z.record(z.string(), z.string()).optional(),
  credsStore: z.string().optional(),
});
type DockerConfig = z.infer<typeof DockerConfig>;

/** Undefined when there are none: many registries let anyone in. Throws `registry_credentials`. */
export async function findCredentials(
  registry: string,
  configFile: string,
  signal?: AbortSignal,
): Promise<Credentials | undefined> {
  const config = await readConfig(configFile);
  if (!config) return undefined;
  const helper = config.credHelpers?.[registry] ?? config.credsStore;
  const answer = helper ? await askCredentialHelper(helper, registry, signal) : undefined;
  return answer ?? fromLogins(config.auths ?? {}, registry, configFile);
}

async function readConfig(path: string): Promise<DockerConfig | undefined> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    if (systemCode(cause) === "ENOENT" || systemCode(cause) === "ENOTDIR") return undefined;
    throw new RegistryError("registry_credentials", `${path} cannot be read`, {
      cause,
      hint: "let this user read it",
    });
  }
  const parsed = DockerConfig.safeParse(parseJson(text));
  if (parsed.success) return parsed.data;
  // Neither parser's own words are told: they may quote the file.
  throw broken(path, "is not a configuration of docker");
}

function fromLogins(
  auths: NonNullable<DockerConfig["auths"]>,
  registry: string,
  path: string,
): Credentials | undefined {
  const entry = Object.entries(auths).find(([key]) => hostOf(key) === registry)?.[1];
  if (!entry) return undefined;
  const login = loginOf(entry);
  if (login === "broken") throw broken(path, `has an entry for ${registry} that cannot be read`);
  return login;
}

/** Undefined for an entry that holds none. */
function loginOf(entry: z.infer<typeof Login>): Credentials | "broken" | undefined {
  if (entry.identitytoken) return { kind: "identity-token", token: new Secret(entry.identitytoken) };
  const decoded = entry.auth === undefined ? entry : decode(entry.auth);
  if (decoded === undefined) return "broken";
  const { username, password } = decoded;
  if (!username || password === undefined) return undefined;
  return { kind: "password", username, password: new Secret(password) };
}

/**
 * The logins in a text that is a docker configuration, by the names under which they stand; undefined when it is none. Credential
 * helpers are left out: whoever wrote the text does not choose what runs here.
 */
export function loginsIn(text: string): ReadonlyMap<string, Credentials | undefined> | undefined {
  const parsed = DockerConfig.safeParse(parseJson(text));
  if (!parsed.success) return undefined;
  const all = Object.entries(parsed.data.auths ?? {}).map(([name, entry]) => [name, loginOf(entry)] as const);
  return new Map(all.flatMap(([name, login]) => (login === "broken" ? [] : [[name, login]])));
}

/** Old versions wrote addresses with scheme and path. */
function hostOf(key: string): string {
  return key
    .replace(/^https?:\/\//, "")
    .replace(/\/.*$/, "")
    .toLowerCase();
}

function decode(auth: string): { username: string; password: string } | undefined {
  const text = Buffer.from(auth, "base64").toString("utf8").replace(/\0+$/, "");
  const colon = text.indexOf(":");
  if (colon <= 0) return undefined;
  return { username: text.slice(0, colon), password: text.slice(colon + 1) };
}

function broken(path: string, problem: string): RegistryError {
  return new RegistryError("registry_credentials", `${path} ${problem}`, {
    hint: "log in again, as with: docker login",
  });
}

export type Credentials =
  | { readonly kind: "password"; readonly username: string; readonly password: Secret }
  /** Exchanged for tokens at the registry's token service. */
  | { readonly kind: "identity-token"; readonly token: Secret };

const TIMEOUT_MS = 30_000;
const Answer = z.object({ Username: z.string(), Secret: z.string() });
/** What a helper gives as the user when its secret is an identity token. */
const TOKEN_USER = "<token>";

/**
 * Asks `docker-credential-<name>`, which keeps passwords elsewhere than in a file. Undefined when it knows the registry not.
 * Nothing that the helper writes gets into an error: it may be a secret.
 */
async function askCredentialHelper(
  name: string,
  registry: string,
  signal?: AbortSignal,
): Promise<Credentials | undefined> {
  const program = `docker-credential-${name}`;
  if (!/^[\w.-]+$/.test(name)) throw failed(`“${name}” is not the name of a credential helper`, undefined);
  const { error, stdout } = await get(program, registry, signal);
  signal?.throwIfAborted();
  if (error) {
    if (/credentials not found/i.test(stdout)) return undefined;
    const problem = systemCode(error) === "ENOENT" ? "is not installed" : "could not give the credentials";
    throw failed(`${program} ${problem}`, registry);
  }
  const answer = Answer.safeParse(parseJson(stdout));
  if (!answer.success) throw failed(`${program} gave something else than credentials`, registry);
  const secret = new Secret(answer.data.Secret);
  if (answer.data.Username === TOKEN_USER) return { kind: "identity-token", token: secret };
  return { kind: "password", username: answer.data.Username, password: secret };
}

function get(program: string, registry: string, signal: AbortSignal | undefined) {
  return new Promise<{ error: Error | null; stdout: string }>((resolve) => {
    const options = { timeout: TIMEOUT_MS, ...(signal ? { signal } : {}) };
    const child = execFile(program, ["get"], options, (error, stdout) => resolve({ error, stdout }));
    child.stdin?.on("error", () => {});
    child.stdin?.end(`${registry}\n`);
  });
}

function failed(problem: string, registry: string | undefined): RegistryError {
  return new RegistryError("registry_credentials", problem, {
    hint: `repair it, or change credHelpers and credsStore in docker's config.json${registry ? ` for ${registry}` : ""}`,
  });
}
