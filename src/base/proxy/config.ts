import { z } from "zod";
import { parseProxy } from "./server.ts";
import { exceptionProblem } from "./ways.ts";

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
  });
export type ProxySettings = z.infer<typeof ProxySettings>;
