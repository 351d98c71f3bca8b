/** What a text says of itself: whether it is one token, and of which kind of GitLab's. */

export function oneLineProblem(text: string, where: string): string | undefined {
  if (/^[\x21-\x7e]+$/.test(text)) return undefined;
  return `${where} holds more than a token: it must be one line without spaces`;
}

export const SIGNING_TOKEN = "a webhook's signing token";

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
export function otherKind(text: string, wanted: readonly string[]): string | undefined {
  return [...kinds].find(([prefix]) => text.startsWith(prefix) && !wanted.includes(prefix))?.[1];
}
