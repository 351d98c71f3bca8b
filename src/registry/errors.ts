/** What goes wrong with a registry: each failed exchange and each answer that is not what was asked for, as one error with a hint. */

import { z } from "zod";
import { codeIn, FireRunnerError } from "../base/errors.ts";
import { parseJson } from "../base/json.ts";
import { proxyErrorIn } from "../base/proxy/errors.ts";
import { certificateCode, unreachableProblems, wrongProtocolCode } from "../base/system-errors.ts";

type RegistryErrorCode =
  /** What was given is not the name of an image in a registry. */
  | "registry_bad_name"
  /** The registry cannot be reached, or breaks off. */
  | "registry_unreachable"
  /** The registry's certificate is not trusted, or one side speaks TLS and the other does not. */
  | "registry_tls"
  /** The registry does not know us, or does not let us write there. */
  | "registry_unauthorized"
  /** The file or the program that holds the registry's credentials cannot be used. */
  | "registry_credentials"
  /** The registry knows no repository of that name and does not make one. */
  | "registry_name_unknown"
  /** The registry's disk is full. */
  | "registry_no_space"
  /** The registry is overloaded, or has an internal problem. */
  | "registry_unavailable"
  /** The registry gave an answer that no registry should, or does not do what is needed. */
  | "registry_refused";

export class RegistryError extends FireRunnerError {
  declare readonly code: RegistryErrorCode;
  /** How long the registry wants to be left alone. */
  readonly retryAfterMs: number | undefined;

  constructor(
    code: RegistryErrorCode,
    message: string,
    options: ErrorOptions & { hint?: string; retryable?: boolean; retryAfterMs?: number | undefined } = {},
  ) {
    super(code, message, options);
    this.retryAfterMs = options.retryAfterMs;
  }
}

/** A failed exchange, from whatever the HTTP client threw. `server` is `https://host:port` of whom we spoke with. */
export function registryErrorFrom(cause: unknown, server: string, doing: string): FireRunnerError {
  const proxy = proxyErrorIn(cause);
  if (proxy !== undefined) return proxy;
  if (cause instanceof FireRunnerError) return cause;
  const code = codeIn(cause);
  if (certificateCode.test(code))
    return new RegistryError(
      "registry_tls",
      `${doing}: the certificate of ${server} is not trusted (${code})`,
      {
        cause,
        hint: certificateHint(code),
      },
    );
  if (wrongProtocolCode.test(code)) {
    const isTls = server.startsWith("https:");
    return new RegistryError("registry_tls", `${doing}: ${server} does not speak ${isTls ? "TLS" : "HTTP"}`, {
      cause,
      hint: isTls
        ? "if it speaks plain HTTP, say so with --plain-http; else check the port"
        : "check the port; if it speaks TLS, say so with --no-plain-http or --ca FILE",
    });
  }
  return new RegistryError(
    "registry_unreachable",
    `${doing}: ${server} cannot be reached, ${unreachableProblems[code] ?? "the exchange failed"}`,
    {
      cause,
      hint: "check the registry's host and port, and the network",
      retryable: code in unreachableProblems,
    },
  );
}

function certificateHint(code: string): string {
  if (code === "CERT_HAS_EXPIRED") return "renew the registry's certificate, and check this computer's clock";
  if (code === "ERR_TLS_CERT_ALTNAME_INVALID")
    return "use the host name that the registry's certificate was made for";
  return "name the PEM file of its certificate authority with --ca FILE";
}

const ErrorList = z.object({
  errors: z.array(z.object({ code: z.string(), message: z.string().optional() })).min(1),
});

export interface Answer {
  readonly status: number;
  readonly header: (name: string) => string | undefined;
  /** Its beginning. */
  readonly text: string;
}

/** Does the registry name this error in its answer? */
export function hasErrorCode({ text }: Answer, code: string): boolean {
  return errorsIn(text).some((error) => error.code === code);
}

/**
 * Does an answer to HEAD say that it is there? Such answers have no text: an unknown name, too, is a plain 404, and is told when
 * something is sent.
 */
export function isThere(answer: Answer, server: string, doing: string): boolean {
  if (answer.status === 200) return true;
  if (answer.status === 404 || (answer.status >= 300 && answer.status < 400)) return false;
  throw refusal(answer, server, doing);
}

/** An answer that is not what was asked for, as an error. */
export function refusal(answer: Answer, server: string, doing: string): RegistryError {
  const { status, text } = answer;
  const said = words(text);
  const message = `${doing}: ${server} answers ${status}${said ? ` (${said})` : ""}`;
  if (status === 507 || /no space left|"Err":\s*28\b/i.test(text))
    return new RegistryError("registry_no_space", `${doing}: the disk of ${server} is full`, {
      hint: "make room in the registry, and push again: what has arrived is not sent again",
    });
  if (/HTTP request (was sent )?to (an )?HTTPS/i.test(text))
    return new RegistryError("registry_tls", `${doing}: ${server} speaks TLS, not plain HTTP`, {
      hint: "leave --plain-http out; for a registry on this computer use --no-plain-http or --ca FILE",
    });
  if (status === 401 || status === 403)
    return new RegistryError("registry_unauthorized", message, {
      hint: "log in with a user who may push there (docker login), and check the name",
    });
  if (["NAME_UNKNOWN", "NAME_INVALID"].some((code) => hasErrorCode(answer, code)))
    return new RegistryError("registry_name_unknown", message, {
      hint: "make a project or repository of that name in the registry, or push to another name",
    });
  if (status === 429 || status >= 500)
    return new RegistryError("registry_unavailable", message, {
      hint: "try again later: what has arrived is not sent again",
      retryable: true,
      retryAfterMs: retryAfterMs(answer.header("retry-after")),
    });
  return new RegistryError("registry_refused", message, { hint: refusedHint(status) });
}

function refusedHint(status: number): string {
  if (status === 404) return "check that this is a registry (it answers at /v2/), and its port";
  if (status === 405) return "the registry is read-only";
  if (status === 413)
    return "a proxy before the registry takes no requests of 16 MiB: let it (client_max_body_size in nginx)";
  return "the answer has the registry's own words";
}

function retryAfterMs(header: string | undefined): number | undefined {
  const seconds = Number(header);
  return header !== undefined && seconds >= 0 ? seconds * 1_000 : undefined;
}

/** What the registry says, on one line and without what a terminal would obey. */
function words(text: string): string {
  const errors = errorsIn(text).map(({ code, message }) => (message ? `${code}: ${message}` : code));
  return errors
    .join("; ")
    .replace(/\p{Cc}/gu, " ")
    .slice(0, 300);
}

function errorsIn(text: string) {
  const parsed = ErrorList.safeParse(parseJson(text));
  return parsed.success ? parsed.data.errors : [];
}
