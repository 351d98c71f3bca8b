import type { ProxySettings } from "../base/proxy/config.ts";
import { proxiesOfEnvironment } from "../base/proxy/config.ts";
import type { ProxyRoutes, ProxyServer } from "../base/proxy/routes.ts";
import { parseProxy } from "../base/proxy/server.ts";
import { Secret } from "../base/secret.ts";
import type { ConfigProblem } from "./errors.ts";
import {
  authoritiesProblem,
  type Check,
  readNamedFile,
  readSecret,
  type SecretOptions,
} from "./named-files.ts";
import type { PathProblem } from "./problems.ts";
import type { ConfigValue } from "./values.ts";

export interface ReadProxy {
  readonly proxies: ProxyRoutes;
  /** Where `proxy.caFile` was found. */
  readonly caFile: string | undefined;
  readonly problems: readonly PathProblem[];
  /** What cannot be used of the environment. */
  readonly ofEnvironment: readonly ConfigProblem[];
}

/** The routes through a company's proxy: what the configuration says, else what the environment says. */
export async function readProxy(
  settings: ProxySettings,
  env: NodeJS.ProcessEnv,
  options: SecretOptions,
): Promise<ReadProxy> {
  const problems: PathProblem[] = [];
  const { ca, caFile } = await readAuthorities(settings.caFile, problems, options);
  const own = { except: settings.noProxy, ca };
  if (settings.url === "none") return { proxies: { ...direct, ...own }, caFile, problems, ofEnvironment: [] };
  if (settings.url !== undefined) {
    const server = await readServer(settings.url, settings, problems, options);
    return { proxies: { http: server, https: server, ...own }, caFile, problems, ofEnvironment: [] };
  }
  const found = proxiesOfEnvironment(env);
  const { http, https } = found;
  const proxies = { http, https, ca, except: [...found.except, ...settings.noProxy] };
  const ofEnvironment = found.problems.map(({ variable, message }) => ({ where: variable, message }));
  return { proxies, caFile, problems, ofEnvironment };
}

const direct = { http: undefined, https: undefined };

async function readServer(
  url: string,
  settings: ProxySettings,
  problems: PathProblem[],
  options: SecretOptions,
): Promise<ProxyServer | undefined> {
  const parsed = parseProxy(url, "proxy.url");
  if ("problem" in parsed) return undefined;
  const { username, password, passwordFile } = settings;
  if (username === undefined) return parsed.server;
  if (password === undefined && passwordFile === undefined) return { ...parsed.server, username };
  const answer = await readSecret({ at: ["proxy"], key: "password", from: settings }, checkPassword, options);
  if ("value" in answer) return { ...parsed.server, username, password: answer.value };
  problems.push({
    path: ["proxy", password === undefined ? "passwordFile" : "password"],
    message: answer.problem,
  });
  return undefined;
}

const checkPassword: Check<Secret> = (text, where) => {
  if (text === "") return { problem: `${where} is empty: put the proxy's password into it` };
  return /\p{Cc}/u.test(text)
    ? { problem: `${where} holds more than a password: it must be one line` }
    : { value: new Secret(text) };
};

async function readAuthorities(path: string | undefined, problems: PathProblem[], options: SecretOptions) {
  if (path === undefined) return { ca: undefined, caFile: undefined };
  const found = await readNamedFile(path, options);
  const problem = "problem" in found ? found.problem : authoritiesProblem(found.value);
  if (problem !== undefined) problems.push({ path: ["proxy", "caFile"], message: problem });
  if ("problem" in found) return { ca: undefined, caFile: path };
  return { ca: problem === undefined ? found.value.text : undefined, caFile: found.value.place };
}

/** For `config show`: a proxy that the environment names is a setting like any other. */
export function proxyValues(settings: ProxySettings, { http, https }: ProxyRoutes): ConfigValue[] {
  if (settings.url !== undefined) return [];
  const named = new Map(
    [https, http].flatMap((each) => (each ? [[each.namedBy, each.origin] as const] : [])),
  );
  return [...named].map(([origin, value]) => ({ path: ["proxy", "url"], value, origin }));
}
