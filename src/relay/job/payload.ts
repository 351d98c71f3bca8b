import type { IncomingHttpHeaders } from "node:http";
import type { GitLabHttp } from "../../gitlab/http.ts";
import { routeOf } from "../gateway/routes.ts";

/**
 * The job as the guest gets it: GitLab's own JSON, with the clone URL leading through the relay, as does for git whatever else lies on
 * GitLab, the relay exempt from the job's own proxies, and a few attempts added, so that a clone cut by a restart of this program is tried
 * again. Its caches are left out where nobody keeps them: the runner would pack them for nothing. Everything else is passed on as it came.
 */

/** Sections of a job that the runner may try again by itself; a job that sets one of these keeps its own value. */
const attempts = ["GET_SOURCES_ATTEMPTS", "ARTIFACT_DOWNLOAD_ATTEMPTS", "RESTORE_CACHE_ATTEMPTS"] as const;

export interface PayloadRewrite {
  /** GitLab's address as this program knows it (`https://gitlab.example.com`), without its path. */
  readonly origin: string;
  /** The path under which GitLab lives, or empty. */
  readonly basePath: string;
  /** `Host` of the guest's request: by that name it reaches the relay. */
  readonly relayHost: string;
  /** PEM of the authorities that GitLab's certificate is from, where they are private. */
  readonly authorities?: string | undefined;
  /** Nobody keeps its caches. */
  readonly withoutCaches?: boolean;
  /** Says where spans of the job's own belong, as the variable TRACEPARENT; undefined where the job is not to know. */
  readonly traceparent?: string | undefined;
  /** Its runner finds all images in the machine, whatever the job says of how they are to be got. */
  readonly hasImages?: boolean;
}

/** `raw` is a job payload that has been parsed before, so it is an object with an `id` and a `token`. */
export function rewritePayload(raw: string, rewrite: PayloadRewrite): string {
  const { origin, basePath, relayHost, authorities, withoutCaches } = rewrite;
  const payload = JSON.parse(raw) as Record<string, unknown>;
  const token = String(payload["token"]);
  const git = payload["git_info"];
  const bases = [`${origin}${basePath}`];
  if (isObject(git) && typeof git["repo_url"] === "string") {
    // GitLab's own word for where it is: gitlab.url may be another way to it.
    const named = URL.parse(git["repo_url"])?.origin;
    if (named !== undefined && named !== "null") bases.push(`${named}${basePath}`);
    git["repo_url"] = cloneUrl(git["repo_url"], { basePath, relayHost }, token);
  }
  if (Array.isArray(payload["cache"]) && withoutCaches) payload["cache"] = [];
  if (rewrite.hasImages) withoutPullPolicies(payload);
  const attempted = withTraceparent(withAttempts(payload["variables"]), rewrite.traceparent);
  const variables = withAuthorities(
    withRelayExempt(attempted, relayHost, serviceNames(payload["services"])),
    authorities,
  );
  payload["variables"] = withGitRewrites(variables, { bases, relayHost, token });
  return JSON.stringify(payload);
}

/** They were followed before there was a machine; the runner would go and ask registries that the machine may not reach. */
function withoutPullPolicies({ image, services }: Record<string, unknown>): void {
  for (const each of [image, ...(Array.isArray(services) ? services : [])])
    if (isObject(each)) delete each["pull_policy"];
}

type CloneWay = Pick<PayloadRewrite, "basePath" | "relayHost">;

function cloneUrl(repoUrl: string, { basePath, relayHost }: CloneWay, token: string): string {
  const original = URL.parse(repoUrl);
  if (original === null) return repoUrl;
  const path = pathBelow(basePath, original.pathname);
  return `http://gitlab-ci-token:${encodeURIComponent(token)}@${relayHost}${path}`;
}

/** `/gitlab/group/project.git` below the base `/gitlab` is `/group/project.git`. */
export function pathBelow(basePath: string, path: string): string {
  return path.startsWith(`${basePath}/`) ? path.slice(basePath.length) : path;
}

function withAttempts(variables: unknown): unknown[] {
  const given = Array.isArray(variables) ? variables : [];
  const keys = new Set(given.map((variable) => (isObject(variable) ? variable["key"] : undefined)));
  const added = attempts
    .filter((key) => !keys.has(key))
    .map((key) => ({ key, value: "3", public: true, masked: false }));
  return [...given, ...added];
}

/** A job that says itself where its spans belong keeps its own word. */
function withTraceparent(variables: readonly unknown[], value: string | undefined): unknown[] {
  const key = "TRACEPARENT";
  const isGiven = variables.some((each) => isObject(each) && each["key"] === key);
  if (value === undefined || isGiven) return [...variables];
  return [...variables, { key, value, public: true, masked: false }];
}

/** As GitLab's runner tells of a server whose certificate it was given authorities for: a file's path, once it is in the job. */
function withAuthorities(variables: readonly unknown[], authorities: string | undefined): unknown[] {
  const key = "CI_SERVER_TLS_CA_FILE";
  const isGiven = variables.some((each) => isObject(each) && each["key"] === key);
  if (authorities === undefined || isGiven) return [...variables];
  return [...variables, { key, value: authorities, public: true, masked: false, file: true }];
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/**
 * GitLab by its own name, for the job's git: whatever a submodule or a script fetches from there goes through the relay, with the job's
 * token. Said in variables, as git reads them (`GIT_CONFIG_COUNT`), so that nothing of it is on a disk, and what a job says itself to git
 * about the same addresses comes first: its own rewriting counts where both are equally exact.
 */
interface GitRewrites {
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

/**
 * Proxies that a job sets itself, or the machine's. The runner's git and its uploads go by them too, and must reach the relay all the same,
 * and a job its services (docker's command line asks a proxy for `tcp://docker:2375`): what the job exempts is given on, in both
 * spellings, with these added.
 */

const PROXY = /^(?:https?|all|ftp)_proxy$/i;
const EXEMPT = /^no_proxy$/i;

/** What a container calls itself and its machine. */
const OF_CONTAINERS = ["localhost", "127.0.0.1", "host.docker.internal"];

/** The variables, and behind them, where later ones count, what the job exempts from its proxies. */
export function withRelayExempt(
  variables: readonly unknown[],
  relayHost: string,
  services: readonly string[] = [],
): readonly unknown[] {
  const own = plainOnes(variables);
  if (services.length === 0 && !own.some(({ key }) => PROXY.test(key) || EXEMPT.test(key))) return variables;
  const host = URL.parse(`http://${relayHost}`)?.hostname ?? relayHost;
  const relay = services.length === 0 ? host : [host, ...OF_CONTAINERS, ...services].join(",");
  const exempt = (key: "no_proxy" | "NO_PROXY") => {
    const said = own.findLast((each) => each.key === key) ?? own.findLast((each) => EXEMPT.test(each.key));
    const value = said?.value ? `${said.value},${relay}` : relay;
    return { public: true, masked: false, ...said, key, value };
  };
  return [...variables, exempt("no_proxy"), exempt("NO_PROXY")];
}

/** A job may have more; those it then calls by a proxy that does not know them. */
const MOST_SERVICES = 50;
const HOST_NAME = /^[a-z0-9]([a-z0-9_.-]{0,251}[a-z0-9])?$/i;

/** What a job calls its services: by their aliases, and by their images' names. */
export function serviceNames(services: unknown): string[] {
  const list = Array.isArray(services) ? services.slice(0, MOST_SERVICES).filter(isObject) : [];
  const names = list.flatMap(({ name, alias }) => {
    const path = typeof name === "string" ? name.replace(/@.*$/s, "").replace(/:[^:/]*$/, "") : "";
    // Whatever port the registry has: the runner leaves it out.
    const host = path.replace(/:\d+(?=\/|$)/, "");
    const aliases = typeof alias === "string" ? alias.split(/[\s,]+/) : [];
    return [...aliases, host.replaceAll("/", "__"), host.replaceAll("/", "-")];
  });
  return [...new Set(names)].filter((name) => HOST_NAME.test(name));
}

/** Proxies of the job's own that are neither the relay nor in the job itself, as `name (host)`. */
export function foreignProxies(variables: readonly unknown[], relayAddress: string): string[] {
  return plainOnes(variables).flatMap(({ key, value }) => {
    if (!PROXY.test(key) || value.trim() === "") return [];
    const url = URL.parse(/^[a-z0-9]+:\/\//i.test(value) ? value : `http://${value}`);
    if (url === null) return [key];
    const isOwn = /^(?:localhost|127\..*|\[::1\])$/.test(url.hostname) || url.hostname === relayAddress;
    return isOwn ? [] : [`${key} (${url.host})`];
  });
}

/** A variable of the kind `file` holds a path, which is no proxy. */
function plainOnes(variables: readonly unknown[]): JobVariable[] {
  return variables.filter(isVariable).filter(({ file }) => file !== true);
}

/** A variable of a job, as GitLab's payload has it; what else it says of it stays with it. */
interface JobVariable {
  readonly key: string;
  readonly value: string;
  readonly file?: unknown;
}

/** Others are passed on as they came, and nothing is concluded from them. */
function isVariable(each: unknown): each is JobVariable {
  return (
    typeof each === "object" &&
    each !== null &&
    "key" in each &&
    "value" in each &&
    typeof each.key === "string" &&
    typeof each.value === "string"
  );
}

/** How a place on GitLab is named for a guest, which knows only the relay. */
interface RelayLinks {
  readonly relayHost: string;
  readonly http: Pick<GitLabHttp, "origin" | "basePath">;
}

/** A renamed project answers with its new address: for the guest that lies behind the relay too. */
export function withRelayLocation(headers: IncomingHttpHeaders, links: RelayLinks): IncomingHttpHeaders {
  const { location } = headers;
  if (location === undefined) return headers;
  return { ...headers, location: viaRelay(location, links) ?? location };
}

/** The same place by way of the relay; undefined for what the relay does not serve. */
export function viaRelay(link: string, { relayHost, http }: RelayLinks): string | undefined {
  const url = URL.parse(link, http.origin);
  if (url === null) return undefined;
  const path = pathBelow(http.basePath, url.pathname);
  const isServed = ["GET", "POST", "PUT"].some((method) => routeOf(method, path) !== undefined);
  return isServed ? `http://${relayHost}${path}${url.search}` : undefined;
}
