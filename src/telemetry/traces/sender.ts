/** One request to a collector of OpenTelemetry, and what its answer means (OTLP/HTTP). */
import { createSecureContext, type SecureContext } from "node:tls";
import { z } from "zod";
import type { Clock } from "../../base/clock.ts";
import { startDeadline } from "../../base/deadline.ts";
import { describeError } from "../../base/errors.ts";
import { retryAfterMs, single } from "../../base/headers.ts";
import { createProxiedAgent } from "../../base/proxy/agent.ts";
import { proxyErrorIn } from "../../base/proxy/errors.ts";
import type { ProxyRoutes } from "../../base/proxy/routes.ts";
import { readBounded } from "../../base/read-bounded.ts";
import { oneLine } from "../../base/text.ts";
import { trustContext } from "../../base/tls.ts";
import { HOUR_MS } from "../../base/units.ts";
import { spansUrl, type TracesAccess } from "./config.ts";

/** Where and how spans are sent. */
export interface Collector {
  readonly endpoint: string;
  readonly timeoutMs: number;
  readonly access: TracesAccess;
  readonly proxies: ProxyRoutes;
}

export type Outcome =
  /** The collector has them, but for `rejected` spans that it will never take, for the reason that it gives. */
  | { readonly kind: "taken"; readonly rejected: number; readonly note: string }
  /** It never will; `tooLarge` when fewer at once might be taken. */
  | { readonly kind: "refused"; readonly problem: string; readonly tooLarge: boolean }
  /** Not now: again after `waitMs` at the earliest. `isDoubtful`: it does not say that waiting helps. */
  | {
      readonly kind: "later";
      readonly problem: string;
      readonly waitMs: number;
      readonly isDoubtful: boolean;
    };

export interface Sender {
  /** `body`: one request in JSON. Never rejects; an answer that did not come is `later`, also when `signal` aborts. */
  send(body: string, signal: AbortSignal): Promise<Outcome>;
  close(): Promise<void>;
}

const LONGEST_ANSWER_BYTES = 64 * 1024;
const LONGEST_WORDS = 300;
/** A collector that names a later time is not believed. */
const LONGEST_WAIT_MS = HOUR_MS;
/** The answers after which OTLP asks for another try. */
const passing: ReadonlySet<number> = new Set([429, 502, 503, 504]);

export function createSender({ endpoint, timeoutMs, access, proxies }: Collector, clock: Clock): Sender {
  const url = spansUrl(endpoint);
  // All authorities of a system are read only where there is a certificate to be judged.
  const isJudged = url.protocol === "https:" || proxies.http !== undefined;
  let context: SecureContext | undefined;
  const dispatcher = createProxiedAgent({
    proxies,
    connectTimeoutMs: timeoutMs,
    secureContext() {
      context ??= isJudged ? trustContext([access.ca, proxies.ca]) : createSecureContext();
      return context;
    },
  });

  async function exchange(body: string, signal: AbortSignal): Promise<Outcome> {
    const {
      statusCode,
      headers,
      body: answer,
    } = await dispatcher.request({
      origin: url.origin,
      path: url.pathname + url.search,
      method: "POST",
      headers: {
        ...Object.fromEntries(access.headers.map(([name, value]) => [name, value.reveal()])),
        "content-type": "application/json",
      },
      body,
      signal,
    });
    // From the head on it is decided; a body that breaks off says less, and changes nothing.
    const { bytes } = await readBounded(answer, LONGEST_ANSWER_BYTES);
    answer.on("error", () => {}).destroy();
    const waitMs = retryAfterMs(single(headers["retry-after"]), clock.now());
    return outcomeOf(statusCode, bytes.toString("utf8"), Math.min(LONGEST_WAIT_MS, Math.max(0, waitMs)));
  }

  return {
    async send(body, signal) {
      const late = () => new Error(`no answer within ${timeoutMs} ms (traces.timeout)`);
      const deadline = startDeadline(clock, timeoutMs, signal, late);
      try {
        return await exchange(body, deadline.signal);
      } catch (error) {
        const problem = proxyErrorIn(error)?.message ?? describeError(error);
        return { kind: "later", problem: oneLine(problem), waitMs: 0, isDoubtful: false };
      } finally {
        deadline.clear();
      }
    },
    close: () => dispatcher.destroy(),
  };
}

const Answer = z.object({
  partialSuccess: z
    .object({
      rejectedSpans: z.union([z.string().regex(/^\d{1,15}$/), z.number().int().min(0)]).default(0),
      errorMessage: z.string().default(""),
    })
    .nullish(),
});

function outcomeOf(status: number, text: string, waitMs: number): Outcome {
  if (status >= 200 && status < 300) {
    const { rejectedSpans = 0, errorMessage = "" } = partialSuccessIn(text) ?? {};
    return { kind: "taken", rejected: Number(rejectedSpans), note: words(errorMessage) };
  }
  const said = words(text);
  const problem = `the collector answers ${status}${said === "" ? "" : ` (${said})`}`;
  if (passing.has(status)) return { kind: "later", problem, waitMs, isDoubtful: false };
  if (status >= 500) return { kind: "later", problem, waitMs, isDoubtful: true };
  return { kind: "refused", problem, tooLarge: status === 413 };
}

/** A collector may answer in another form, or with nothing: then it has taken all. */
function partialSuccessIn(text: string) {
  try {
    return Answer.safeParse(JSON.parse(text)).data?.partialSuccess;
  } catch {
    return undefined;
  }
}

/** What a server says, as far as it is meant for people. */
function words(text: string): string {
  return text.startsWith("<") ? "" : oneLine(text.slice(0, LONGEST_WORDS));
}
