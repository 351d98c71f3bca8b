/** Credentials where `docker login` and its like leave them. */
import { readFile } from "node:fs/promises";
import { z } from "zod";
import { systemCode } from "../../base/errors.ts";
import { Secret } from "../../base/secret.ts";
import { parseJson } from "../json.ts";
import { askCredentialHelper, type Credentials } from "./credential-helper.ts";
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
  if (entry.identitytoken) return { kind: "identity-token", token: new Secret(entry.identitytoken) };
  const { username, password } = entry.auth === undefined ? entry : decode(entry.auth, registry, path);
  if (!username || password === undefined) return undefined;
  return { kind: "password", username, password: new Secret(password) };
}

/** Old versions wrote addresses with scheme and path. */
function hostOf(key: string): string {
  return key
    .replace(/^https?:\/\//, "")
    .replace(/\/.*$/, "")
    .toLowerCase();
}

function decode(auth: string, registry: string, path: string): { username: string; password: string } {
  const text = Buffer.from(auth, "base64").toString("utf8").replace(/\0+$/, "");
  const colon = text.indexOf(":");
  if (colon <= 0) throw broken(path, `has an entry for ${registry} that cannot be read`);
  return { username: text.slice(0, colon), password: text.slice(colon + 1) };
}

function broken(path: string, problem: string): RegistryError {
  return new RegistryError("registry_credentials", `${path} ${problem}`, {
    hint: "log in again, as with: docker login",
  });
}
