import { isVariable } from "./job-variables.ts";

/**
 * GitLab by its own name, for the job's git: whatever a submodule or a script fetches from there goes through the relay, with the job's
 * token. Said in variables, as git reads them (`GIT_CONFIG_COUNT`), so that nothing of it is on a disk, and what a job says itself to git
 * about the same addresses comes first: its own rewriting counts where both are equally exact.
 */
export interface GitRewrites {
  /** Addresses by which jobs may know GitLab, with its path if it has one, without a slash at the end. */
  readonly bases: readonly string[];
  /** By that name the guest reaches the relay. */
  readonly relayHost: string;
  readonly token: string;
}

const COUNT = "GIT_CONFIG_COUNT";
/** More entries are a mistake, or no number that git would take. */
const MOST_OWN = 10_000;

/** The job's variables with git's added. Unchanged when what the job says itself about git's variables cannot be counted on. */
export function withGitRewrites(variables: readonly unknown[], rewrites: GitRewrites): readonly unknown[] {
  const given = new Map(variables.flatMap((each) => (isVariable(each) ? [[each.key, each.value]] : [])));
  const own = given.get(COUNT) ?? "0";
  const first = Number(own || "0");
  if (!/^\d{0,5}$/.test(own) || first > MOST_OWN) return variables;
  const prefixes = [...httpPrefixes(rewrites), ...sshPrefixes(given)];
  const { relayHost, token } = rewrites;
  const key = `url.http://gitlab-ci-token:${encodeURIComponent(token)}@${relayHost}/.insteadOf`;
  return [
    ...variables.filter((each) => !isVariable(each) || each.key !== COUNT),
    ...prefixes.flatMap((prefix, index) => [
      hidden(`GIT_CONFIG_KEY_${first + index}`, key),
      hidden(`GIT_CONFIG_VALUE_${first + index}`, prefix),
    ]),
    hidden(COUNT, String(first + prefixes.length)),
  ];
}

/** With the job's token written into the address too. Other credentials stay as they are: they are not ours to replace. */
function httpPrefixes({ bases, token }: GitRewrites): string[] {
  const userinfos = ["", `gitlab-ci-token:${token}@`];
  const all = bases.flatMap((base) => {
    const url = URL.parse(base);
    if (url === null) return [];
    const path = `${url.pathname.replace(/\/+$/, "")}/`;
    return originsLike(url).flatMap(([scheme, host]) =>
      userinfos.map((userinfo) => `${scheme}//${userinfo}${host}${path}`),
    );
  });
  return [...new Set(all)];
}

/** The same server as people write it: with the usual port or without, and by http where it answers with a redirect. */
function originsLike({ protocol, host, hostname, port }: URL): [string, string][] {
  if (port !== "") return [[protocol, host]];
  return protocol === "https:"
    ? [
        ["https:", host],
        ["https:", `${hostname}:443`],
        ["http:", host],
      ]
    : [
        ["http:", host],
        ["http:", `${hostname}:80`],
      ];
}

/** Where the job has asked the runner for it (`GIT_SUBMODULE_FORCE_HTTPS`), as the runner does for submodules. */
function sshPrefixes(given: ReadonlyMap<string, string>): string[] {
  if (!/^(?:1|t|true)$/i.test(given.get("GIT_SUBMODULE_FORCE_HTTPS") ?? "")) return [];
  const host = given.get("CI_SERVER_SHELL_SSH_HOST") || given.get("CI_SERVER_HOST");
  if (host === undefined || !/^[A-Za-z0-9.-]{1,253}$/.test(host)) return [];
  const port = given.get("CI_SERVER_SHELL_SSH_PORT") || "22";
  if (!/^\d{1,5}$/.test(port)) return [];
  if (port !== "22") return [`ssh://git@${host}:${port}/`];
  return [`git@${host}:`, `ssh://git@${host}/`, `ssh://git@${host}:22/`];
}

/** Not shown where GitLab shows a job's variables, and taken as it is: a `$` in it means nothing. */
function hidden(key: string, value: string) {
  return { key, value, public: false, masked: false, raw: true };
}
