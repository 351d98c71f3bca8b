/** Delivering to a public server, this computer's or another, with the trust in its certificate that the options say. */

import { readFile } from "node:fs/promises";
import { getCACertificates } from "node:tls";
import { Agent, request } from "undici";
import { z } from "zod";
import { systemClock } from "../../base/clock.ts";
import { describeError } from "../../base/errors.ts";
import { plainText } from "../../base/text.ts";
import type { Config } from "../../config/load.ts";
import { CliError } from "../errors.ts";

const ANSWER_LIMIT_MS = 15_000;
const LONGEST_ANSWER = 500;

const Message = z
  .string()
  .transform((text, { addIssue }): unknown => {
    try {
      return JSON.parse(text);
    } catch {
      addIssue("no JSON");
      return z.NEVER;
    }
  })
  .pipe(z.object({ message: z.string() }));

export interface ListenerOptions {
  /** Instead of the configured address. */
  readonly url?: string;
  /** PEM file of an authority to trust besides the system's. */
  readonly ca?: string;
  readonly insecure?: boolean;
}

export interface ListenerAnswer {
  readonly status: number;
  /** What it said, on one line. */
  readonly text: string;
  readonly tookMs: number;
}

export interface ListenerConnection {
  readonly url: string;
  deliver(headers: Record<string, string>, body: string): Promise<ListenerAnswer>;
  close(): Promise<void>;
}

type Trust = NonNullable<Agent.Options["connect"]>;

/** The public server of this configuration on this computer, or the one at `url`. Throws CliError `cli_usage` or `cli_door`. */
export async function connectListener(
  config: Pick<Config, "http">,
  options: ListenerOptions,
): Promise<ListenerConnection> {
  const url = options.url === undefined ? ownAddress(config.http.listen) : givenAddress(options.url);
  const connect = await trustFor(url, config, options);
  const agent = new Agent({ connect, headersTimeout: ANSWER_LIMIT_MS, bodyTimeout: ANSWER_LIMIT_MS });

  async function deliver(headers: Record<string, string>, body: string): Promise<ListenerAnswer> {
    const begin = systemClock.now();
    try {
      const answer = await request(url, { method: "POST", headers, body, dispatcher: agent });
      const text = wordsOf(await answer.body.text());
      return { status: answer.statusCode, text, tookMs: systemClock.now() - begin };
    } catch (cause) {
      throw new CliError("cli_door", `delivering to ${url} failed: ${describeError(cause)}`, {
        cause,
        hint: hintFor(cause),
      });
    }
  }

  return { url: url.href, deliver, close: () => agent.destroy() };
}

/** Our own server says `{"message": …}`; something else may say anything. */
function wordsOf(body: string): string {
  const parsed = Message.safeParse(body);
  const text = parsed.success ? parsed.data.message : body;
  return plainText(text).replace(/\s+/g, " ").trim().slice(0, LONGEST_ANSWER);
}

/** The first address of `http.listen`, as this computer reaches it. */
function ownAddress(listen: readonly string[]): URL {
  const [first] = listen;
  if (first === undefined) {
    throw new CliError("cli_usage", "there is no listener: http.listen names no address", {
      hint: "Name one, such as http://127.0.0.1:8080, or give the address of another FireRunner with --url.",
    });
  }
  const url = new URL(/^https?:\/\//i.test(first) ? first : `https://${first}`);
  if (url.hostname === "0.0.0.0") url.hostname = "127.0.0.1";
  if (url.hostname === "[::]") url.hostname = "[::1]";
  url.pathname = "/webhook";
  return url;
}

function givenAddress(text: string): URL {
  if (!URL.canParse(text) || !/^https?:$/.test(new URL(text).protocol)) {
    throw new CliError("cli_usage", `“${text}” is not an address`, {
      hint: "Give such as https://firerunner.example.org/webhook.",
    });
  }
  const url = new URL(text);
  if (url.pathname === "/") url.pathname = "/webhook";
  return url;
}

async function trustFor(
  url: URL,
  { http }: Pick<Config, "http">,
  { url: given, ca, insecure = false }: ListenerOptions,
): Promise<Trust> {
  if (url.protocol === "http:") return {};
  if (insecure) {
    if (isLoopback(url.hostname)) return { rejectUnauthorized: false };
    throw new CliError("cli_usage", "--insecure is for this computer's own addresses only", {
      hint: "Name the certificate of the public server's authority with --ca FILE.",
    });
  }
  if (ca !== undefined) return { ca: [...systemAuthorities(), await readPem(ca)] };
  if (given !== undefined || http.tls === undefined) return { ca: systemAuthorities() };
  // Our own server proves itself by the very certificate that it was given, whatever name that bears.
  return {
    ca: await readPem(http.tls.certificateFile),
    allowPartialTrustChain: true,
    checkServerIdentity: () => undefined,
  };
}

function systemAuthorities(): string[] {
  return [...new Set([...getCACertificates("default"), ...getCACertificates("system")])];
}

function isLoopback(hostname: string): boolean {
  return hostname === "localhost" || hostname === "[::1]" || hostname.startsWith("127.");
}

async function readPem(path: string): Promise<string> {
  return await readFile(path, "utf8").catch((cause: unknown) => {
    throw new CliError("cli_usage", `reading the certificates in ${path} failed: ${describeError(cause)}`, {
      cause,
    });
  });
}

function hintFor(cause: unknown): string {
  const words = describeError(cause);
  if (/certificate|self-signed|unable to verify/i.test(words)) {
    return "Name the certificate of the public server's authority with --ca FILE; on this computer --insecure does without.";
  }
  return "Is FireRunner running (“firerunner status” shows where it listens), and no firewall between?";
}
