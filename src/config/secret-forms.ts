/** What each secret of the configuration looks like. Everything said here names a secret's place and never its text. */
import { Secret } from "../base/secret.ts";
import type { Checked } from "./named-files.ts";

/** The authentication token of a GitLab runner. */
export function checkRunnerToken(text: string, where: string): Checked<Secret> {
  if (text === "")
    return { problem: `${where} is empty: put the runner's authentication token (glrt-…) into it` };
  const problem = oneLineProblem(text, where);
  if (problem) return { problem };
  const other = otherKind(text, ["glrt-", "glrtr-"]);
  if (other === undefined) return { value: new Secret(text) };
  return {
    problem: `${where} holds ${other}: create a runner in GitLab (Settings → CI/CD → Runners) and use its authentication token (glrt-…)`,
  };
}

/** An access token of GitLab's API: personal, of a group, or of a project. */
export function checkApiToken(text: string, where: string): Checked<Secret> {
  if (text === "") return { problem: `${where} is empty: put an access token of GitLab's API into it` };
  const problem = oneLineProblem(text, where);
  if (problem) return { problem };
  const other = otherKind(text, ["glpat-"]);
  if (other === undefined) return { value: new Secret(text) };
  return {
    problem: `${where} holds ${other}: create an access token in GitLab (Settings → Access tokens) with the scope api`,
  };
}

/** 32 bytes in Base64, which is what GitLab makes and takes. */
const signingKey = /^whsec_[A-Za-z0-9+/]{43}=$/;

/** The signing tokens of a webhook, separated by white space. */
export function checkSigningKeys(text: string, where: string): Checked<readonly Secret[]> {
  const keys = wordsOf(text);
  if (keys.length === 0)
    return { problem: `${where} is empty: put the hook's signing token (whsec_…) into it` };
  if (keys.every((key) => signingKey.test(key))) return { value: keys.map((key) => new Secret(key)) };
  const which = keys.length === 1 ? where : `one of the keys in ${where}`;
  const other = keys.map((key) => otherKind(key, ["whsec_"])).find((each) => each !== undefined);
  return {
    problem: other
      ? `${where} holds ${other}: put the hook's signing token (whsec_…) into it`
      : `${which} is no signing token: expected whsec_ and 32 bytes in Base64, as GitLab shows it or “firerunner webhook install” makes it`,
  };
}

const SHORTEST_TOKEN = 8;

/** The plain secret tokens of a webhook, separated by white space. */
export function checkHookTokens(text: string, where: string): Checked<readonly Secret[]> {
  const tokens = wordsOf(text);
  if (tokens.length === 0) return { problem: `${where} is empty: put the hook's secret token into it` };
  const which = tokens.length === 1 ? where : `one of the tokens in ${where}`;
  if (tokens.some((token) => !/^[\x21-\x7e]+$/.test(token))) {
    return { problem: `${which} has letters that a header of HTTP does not carry: use ASCII` };
  }
  const other = tokens.map((token) => otherKind(token, [])).find((each) => each !== undefined);
  if (other) return { problem: `${where} holds ${other}: ${whatInstead(other)}` };
  if (tokens.some((token) => token.length < SHORTEST_TOKEN)) {
    return {
      problem: `${which} is too short, for it is all that proves a webhook: use ${SHORTEST_TOKEN} characters at least, better 32`,
    };
  }
  return { value: tokens.map((token) => new Secret(token)) };
}

function whatInstead(kind: string): string {
  return kind === SIGNING_TOKEN
    ? "put it into webhook.signingKeyFile"
    : "put a secret of the hook's own into it, never one that opens something else";
}

function wordsOf(text: string): string[] {
  return [...new Set(text.split(/\s+/).filter((word) => word !== ""))];
}

function oneLineProblem(text: string, where: string): string | undefined {
  if (/^[\x21-\x7e]+$/.test(text)) return undefined;
  return `${where} holds more than a token: it must be one line without spaces`;
}

const SIGNING_TOKEN = "a webhook's signing token";

/** What people paste by mistake. */
const kinds: ReadonlyMap<string, string> = new Map([
  ["glrt-", "a runner's authentication token"],
  ["glrtr-", "a runner's authentication token"],
  ["glpat-", "a personal access token"],
  ["gldt-", "a deploy token"],
  ["glptt-", "a pipeline trigger token"],
  ["glcbt-", "a job token"],
  ["GR1348941", "a runner registration token"],
  ["whsec_", SIGNING_TOKEN],
]);

/** What kind of secret this is by its prefix, unless it is one of those `wanted`. */
function otherKind(text: string, wanted: readonly string[]): string | undefined {
  return [...kinds].find(([prefix]) => text.startsWith(prefix) && !wanted.includes(prefix))?.[1];
}
