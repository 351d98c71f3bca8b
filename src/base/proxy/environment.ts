import { parseProxy } from "./server.ts";
import { exceptionProblem, type ProxyServer, type ProxyWays } from "./ways.ts";

export interface EnvironmentProxies {
  readonly http: ProxyServer | undefined;
  readonly https: ProxyServer | undefined;
  readonly except: readonly string[];
  /** What cannot be used, by the name of its variable. */
  readonly problems: readonly { readonly variable: string; readonly message: string }[];
}

/**
 * The usual variables, as curl reads them: HTTPS_PROXY and HTTP_PROXY, else ALL_PROXY, and NO_PROXY; each in small letters first, and an
 * empty one counts as not there.
 */
export function proxiesOfEnvironment(env: NodeJS.ProcessEnv): EnvironmentProxies {
  const problems = new Map<string, string>();

  function proxy(...names: string[]): ProxyServer | undefined {
    const found = setVariable(env, names);
    if (found === undefined) return undefined;
    const parsed = parseProxy(found.value, found.name);
    if ("server" in parsed) return parsed.server;
    problems.set(found.name, `${parsed.problem}; “proxy.url: none” makes FireRunner ignore the environment`);
    return undefined;
  }

  const exceptions = setVariable(env, ["no_proxy", "NO_PROXY"])?.value ?? "";
  return {
    http: proxy("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"),
    https: proxy("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"),
    // Lists of other programs hold forms that mean nothing here; they except nothing, as everywhere.
    except: exceptions
      .split(/[\s,]+/)
      .filter((entry) => entry !== "" && exceptionProblem(entry) === undefined),
    problems: [...problems].map(([variable, message]) => ({ variable, message })),
  };
}

/**
 * The same for programs that we start, apt above all, in place of what the environment has. With user and password: for an environment,
 * never for arguments.
 */
export function proxyVariables({ http, https, except }: ProxyWays): NodeJS.ProcessEnv {
  const noProxy = ["localhost", "127.0.0.1", "::1", ...except].join(",");
  const values = {
    http_proxy: addressWithUser(http),
    https_proxy: addressWithUser(https),
    all_proxy: undefined,
    no_proxy: noProxy,
  };
  return Object.fromEntries(
    Object.entries(values).flatMap(([name, value]) => [
      [name, value],
      [name.toUpperCase(), value],
    ]),
  );
}

function addressWithUser(proxy: ProxyServer | undefined): string | undefined {
  if (proxy?.username === undefined) return proxy?.origin;
  const url = new URL(proxy.origin);
  url.username = encodeURIComponent(proxy.username);
  url.password = encodeURIComponent(proxy.password?.reveal() ?? "");
  return url.href;
}

function setVariable(env: NodeJS.ProcessEnv, names: readonly string[]) {
  for (const name of names) {
    const value = env[name]?.trim();
    if (value) return { name, value };
  }
  return undefined;
}
