import type { Dispatcher } from "undici";
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
  const chunks: Buffer[] = [];
  let bytes = 0;
  let cut: unknown;
  try {
    for await (const chunk of response.body as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > maxBytes) {
        cut = new Error(`the answer is longer than ${maxBytes} bytes`);
        break;
      }
      chunks.push(chunk);
    }
  } catch (error) {
    cut = error;
  }
  const { statusCode: status, headers } = response;
  const text = Buffer.concat(chunks).toString("utf8");
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
