import { Secret } from "../base/secret.ts";
import type { NamedRegistry, RegistrySettings } from "../containers/config.ts";
import { type Check, readAuthority, readSecretFile, type SecretOptions } from "./named-files.ts";
import type { PathProblem } from "./problems.ts";

interface ReadRegistries {
  /** By the host that images name. */
  readonly registries: ReadonlyMap<string, NamedRegistry>;
  readonly problems: readonly PathProblem[];
}

/** Registries with a login or an authority of their own, with what their files hold. */
export async function readRegistries(
  settings: Readonly<Record<string, RegistrySettings>>,
  options: SecretOptions,
): Promise<ReadRegistries> {
  const registries = new Map<string, NamedRegistry>();
  const problems: PathProblem[] = [];
  for (const [host, { usernameFile, passwordFile, caFile, mirror, plaintext }] of Object.entries(settings)) {
    const at = ["containers", "registries", host];
    const secret = async (key: "usernameFile" | "passwordFile", path: string | undefined) => {
      const answer = path === undefined ? undefined : await readSecretFile(path, checkPart, options);
      if (answer && "problem" in answer) problems.push({ path: [...at, key], message: answer.problem });
      return answer && "value" in answer ? answer.value : undefined;
    };
    const username = await secret("usernameFile", usernameFile);
    const password = await secret("passwordFile", passwordFile);
    const ca = await readAuthority([...at, "caFile"], caFile, options);
    if ("problem" in ca) problems.push(ca.problem);
    const login =
      username && password
        ? ({ kind: "password", username: username.reveal(), password } as const)
        : undefined;
    registries.set(host, { login, ca: "text" in ca ? ca.text : undefined, mirror, plaintext });
  }
  return { registries, problems };
}

/** HTTP has no room for other letters in a login. */
const checkPart: Check<Secret> = (text, where) => {
  if (text === "") return { problem: `${where} is empty: put the registry's user, or its password, into it` };
  if (/\p{Cc}/u.test(text)) return { problem: `${where} holds more than one line: put one word into it` };
  return { value: new Secret(text) };
};
