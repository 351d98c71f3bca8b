import { z } from "zod";
import { exceptionProblem, type ProxyRoutes, type ProxyServer } from "./routes.ts";
import { parseProxy } from "./server.ts";

const proxyUrl = z.string().superRefine((text, context) => {
  if (text === "none") return;
  const problem = urlProblem(text);
  if (problem !== undefined) context.addIssue({ code: "custom", message: problem });
});

function urlProblem(text: string): string | undefined {
  const parsed = parseProxy(text, "it");
  if ("problem" in parsed) return parsed.problem;
  const { username, password } = parsed.server;
  if (username === undefined && password === undefined) return undefined;
  return "write user and password as proxy.username and proxy.passwordFile";
}

/** The `proxy` part of the configuration: the company's way out of its network. */
export const ProxySettings = z
  .strictObject({
    url: proxyUrl.optional().meta({
      description:
        "The company's HTTP proxy (http://HOST:PORT or https://HOST:PORT) for FireRunner's own requests and its guests'. `none`: no proxy, whatever the environment says. Default: that of HTTPS_PROXY, HTTP_PROXY or ALL_PROXY.",
    }),
    username: z
      .string()
      .regex(/^[^:\p{Cc}]+$/u, "a user's name has no colon and no control characters")
      .optional()
      .meta({ description: "The user to name to the proxy of “url”." }),
    password: z.string().min(1).optional().meta({ description: "Its password.", secret: true }),
    passwordFile: z.string().optional().meta({ description: "A file that holds the password." }),
    noProxy: z
      .array(
        z.string().superRefine((text, context) => {
          const problem = exceptionProblem(text);
          if (problem !== undefined) context.addIssue({ code: "custom", message: problem });
        }),
      )
      .default([])
      .meta({
        description:
          "What is reached without the proxy: names with all below them, addresses, networks (10.0.0.0/8), each perhaps with :port; `*` is all. Without “url” these are added to NO_PROXY. This computer itself is never behind a proxy.",
      }),
    caFile: z.string().min(1).optional().meta({
      description:
        "PEM file of authorities that sign the proxy's own certificate, or those it makes of others' when it looks into TLS. Machines trust them too.",
    }),
  })
  .refine(({ password, passwordFile }) => password === undefined || passwordFile === undefined, {
    message: "give only one of password and passwordFile",
  })
  .refine(({ url, username }) => username === undefined || (url !== undefined && url !== "none"), {
    message: "“username” belongs to a proxy that “url” names",
  })
  .refine((proxy) => proxy.username !== undefined || (proxy.password ?? proxy.passwordFile) === undefined, {
    message: "a password needs “username”",
  })
  .meta({ reload: "restart" });
export type ProxySettings = z.infer<typeof ProxySettings>;

interface EnvironmentProxies {
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
export function proxyVariables({ http, https, except }: ProxyRoutes): NodeJS.ProcessEnv {
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
