import { Secret } from "../base/secret.ts";
import type { CacheConfig, S3Access } from "../cache/config.ts";
import { type Check, readAuthority, readSecretFile, type SecretOptions } from "./named-files.ts";
import type { PathProblem } from "./problems.ts";

interface ReadAccess {
  /** Undefined without an S3 server, or with a problem. */
  readonly access: S3Access | undefined;
  readonly problems: readonly PathProblem[];
}

/** The keys of the S3 server that keeps caches, with what their files hold. */
export async function readCacheAccess({ s3 }: CacheConfig, options: SecretOptions): Promise<ReadAccess> {
  if (s3 === undefined) return { access: undefined, problems: [] };
  const at = ["cache", "s3"];
  const problems: PathProblem[] = [];
  const key = async (name: "accessKeyFile" | "secretKeyFile") => {
    const answer = await readSecretFile(s3[name], checkKey, options);
    if ("value" in answer) return answer.value;
    problems.push({ path: [...at, name], message: answer.problem });
    return undefined;
  };
  const accessKey = await key("accessKeyFile");
  const secretKey = await key("secretKeyFile");
  const ca = await readAuthority([...at, "caFile"], s3.caFile, options);
  if ("problem" in ca) problems.push(ca.problem);
  const access =
    accessKey && secretKey ? { accessKey, secretKey, ca: "text" in ca ? ca.text : undefined } : undefined;
  return { access: problems.length === 0 ? access : undefined, problems };
}

/** Keys of S3 servers are one word of ASCII. */
const checkKey: Check<Secret> = (text, where) => {
  if (text === "") return { problem: `${where} is empty: put the key of the S3 server into it` };
  if (!/^[\x21-\x7e]+$/.test(text))
    return { problem: `${where} holds more than a key: it must be one line without spaces` };
  return { value: new Secret(text) };
};
