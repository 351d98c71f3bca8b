import type { Dispatcher } from "undici";
import { readBounded, TooLongError } from "../base/read-bounded.ts";
import { refusedCertificate } from "./client-certificate.ts";

/** An answer read to its end, or to where it broke. */
export interface Answer {
  readonly status: number;
  readonly headers: Dispatcher.ResponseData["headers"];
  readonly text: string;
  /** Why the body ended early; undefined when it is whole. */
  readonly cut: unknown;
}

/**
 * Reads at most `maxBytes` of a body. What arrived before a break is kept: it may name a job. Throws GitLabError
 * `gitlab_client_certificate` for an answer that asks for one.
 */
export async function readAnswer(response: Dispatcher.ResponseData, maxBytes: number): Promise<Answer> {
  const read = await readBounded(response.body, maxBytes);
  const tooLong = () => new Error(`the answer is longer than ${maxBytes} bytes`);
  const cut = read.cut instanceof TooLongError ? tooLong() : read.cut;
  const { statusCode: status, headers } = response;
  const text = read.bytes.toString("utf8");
  const refused = refusedCertificate(status, text);
  if (refused !== undefined) throw refused;
  return { status, headers, text, cut };
}

export function header(answer: Pick<Answer, "headers">, name: string): string | undefined {
  const value = answer.headers[name];
  return Array.isArray(value) ? value[0] : value;
}

/** The body as JSON, or undefined when it is none. */
export function jsonOf(answer: Answer): unknown {
  if (answer.cut !== undefined) return undefined;
  try {
    return JSON.parse(answer.text);
  } catch {
    return undefined;
  }
}
