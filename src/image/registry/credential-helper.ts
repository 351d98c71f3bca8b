import { execFile } from "node:child_process";
import { z } from "zod";
import { systemCode } from "../../base/errors.ts";
import { Secret } from "../../base/secret.ts";
import { parseJson } from "../json.ts";
import { RegistryError } from "./errors.ts";

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
export async function askCredentialHelper(
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
