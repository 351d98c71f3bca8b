/** The files of the servers for those who run this installation: metrics, the API. */
import { Secret } from "../base/secret.ts";
import type { ApiConfig, ApiSettings, ApiToken } from "../server/api/config.ts";
import type { MetricsConfig, MetricsSettings } from "../server/metrics/config.ts";
import { type Check, findTlsFiles, readSecretFile, type SecretOptions } from "./named-files.ts";
import type { PathProblem } from "./problems.ts";
import { oneLineProblem, otherKind } from "./token-text.ts";

interface Read<Value> {
  readonly value: Value;
  readonly problems: readonly PathProblem[];
}

export async function readMetrics(
  metrics: MetricsConfig,
  options: SecretOptions,
): Promise<Read<MetricsSettings>> {
  const found = await withTlsFiles("metrics", metrics, options);
  const { tokenFile } = metrics;
  const answer =
    tokenFile === undefined ? undefined : await readSecretFile(tokenFile, checkTokenOf(8), options);
  const token = answer && "value" in answer ? answer.value : undefined;
  const problem =
    answer && "problem" in answer ? [{ path: ["metrics", "tokenFile"], message: answer.problem }] : [];
  return { value: { ...found.value, token }, problems: [...found.problems, ...problem] };
}

/** Two names with one token are refused: the log would name either. */
export async function readApi(api: ApiConfig, options: SecretOptions): Promise<Read<ApiSettings>> {
  const found = await withTlsFiles("api", api, options);
  const problems = [...found.problems];
  const tokens = new Map<string, ApiToken>();
  const ownerOf = new Map<string, string>();
  for (const [name, { role, tokenFile }] of Object.entries(api.tokens)) {
    const path = ["api", "tokens", name, "tokenFile"];
    const answer = await readSecretFile(tokenFile, checkTokenOf(20), options);
    if ("problem" in answer) {
      problems.push({ path, message: answer.problem });
      continue;
    }
    const owner = ownerOf.get(answer.value.reveal());
    if (owner !== undefined)
      problems.push({ path, message: `${owner} and ${name} have the same token: give each its own` });
    ownerOf.set(answer.value.reveal(), name);
    tokens.set(name, { role, token: answer.value });
  }
  return { value: { ...found.value, tokens }, problems };
}

async function withTlsFiles<Section extends ApiConfig | MetricsConfig>(
  name: string,
  section: Section,
  options: SecretOptions,
): Promise<Read<Section>> {
  if (section.tls === undefined) return { value: section, problems: [] };
  const { files, problems } = await findTlsFiles([name, "tls"], section.tls, options);
  return { value: { ...section, tls: files }, problems };
}

/** What proves a client of ours. */
function checkTokenOf(shortest: number): Check<Secret> {
  return (text, where) => {
    if (text === "")
      return { problem: `${where} is empty: put a token into it, such as 32 random characters` };
    const problem = oneLineProblem(text, where);
    if (problem) return { problem };
    const other = otherKind(text, []);
    if (other)
      return { problem: `${where} holds ${other}: make a token for this alone, one that opens nothing else` };
    if (text.length < shortest)
      return { problem: `${where} is too short: use ${shortest} characters at least, better 32` };
    return { value: new Secret(text) };
  };
}
