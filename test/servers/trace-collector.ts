/**
 * A collector of OpenTelemetry for tests: takes OTLP over HTTP in JSON as strictly as the specification allows (what a tolerant one would
 * pass over is a violation here), keeps spans by their ids as a store of traces does, and has faults on demand.
 */
import type { IncomingHttpHeaders, ServerResponse } from "node:http";
import { z } from "zod";
import { type SeenRequest, startHttpServer } from "./http-server.ts";

/** `fixed64` and `int64` are text in the JSON of protocol buffers; ids are in hex where that would have Base64 (OTLP/HTTP). */
const fixed64 = z.string().regex(/^(?:0|[1-9]\d{0,19})$/);
const int64 = z.string().regex(/^(?:0|-?[1-9]\d{0,18})$/);
const wellFormed = z.string().refine((text) => text.isWellFormed(), "no half letters");
const id = (digits: number) => z.string().regex(new RegExp(`^(?!0+$)[0-9a-f]{${digits}}$`));

const AnyValue = z.union([
  z.strictObject({ stringValue: wellFormed }),
  z.strictObject({ boolValue: z.boolean() }),
  z.strictObject({ intValue: int64 }),
  z.strictObject({ doubleValue: z.number() }),
]);

/** Keys of a list are not empty, and each is there once. */
const Attributes = z
  .array(z.strictObject({ key: wellFormed.min(1), value: AnyValue }))
  .refine((list) => new Set(list.map(({ key }) => key)).size === list.length, "a key twice");

/** `Span.SpanKind` and `Status.StatusCode` are numbers. */
const SpanKind = z.number().int().min(1).max(5);
const StatusCode = z.number().int().min(0).max(2);

export const OtlpSpan = z
  .strictObject({
    traceId: id(32),
    spanId: id(16),
    parentSpanId: id(16).optional(),
    name: wellFormed.min(1),
    kind: SpanKind,
    startTimeUnixNano: fixed64,
    endTimeUnixNano: fixed64,
    attributes: Attributes.optional(),
    status: z.strictObject({ code: StatusCode.optional(), message: wellFormed.optional() }).optional(),
  })
  .refine(
    ({ startTimeUnixNano, endTimeUnixNano }) => BigInt(startTimeUnixNano) <= BigInt(endTimeUnixNano),
    "ends before it begins",
  );
export type OtlpSpan = z.infer<typeof OtlpSpan>;

const Scope = z.strictObject({ name: wellFormed, version: wellFormed.optional() });

/** `ExportTraceServiceRequest` */
export const OtlpRequest = z.strictObject({
  resourceSpans: z
    .array(
      z.strictObject({
        resource: z.strictObject({ attributes: Attributes }),
        scopeSpans: z.array(z.strictObject({ scope: Scope, spans: z.array(OtlpSpan).min(1) })).min(1),
      }),
    )
    .min(1),
});
export type OtlpRequest = z.infer<typeof OtlpRequest>;

/** What becomes of the next request, instead of being taken. */
type CollectorFault =
  | { readonly status: number; readonly headers?: Record<string, string>; readonly body?: string }
  /** Taken, and the connection is cut before the answer. */
  | "taken, answer lost"
  | "cut"
  | "no answer";

export interface TraceCollector extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
  /** Each request that came, with what it was answered. */
  readonly requests: {
    readonly headers: IncomingHttpHeaders;
    readonly body: string;
    readonly fault: CollectorFault | undefined;
  }[];
  /** By span id; a span that came again must be the same. */
  readonly spans: ReadonlyMap<string, OtlpSpan>;
  /** How often each span was taken, by its id. */
  readonly timesTaken: ReadonlyMap<string, number>;
  /** What was no OTLP, or differed from what came before under the same id. */
  readonly violations: readonly string[];
  /** Faults of the next requests, in their order. */
  readonly faults: CollectorFault[];
  /** While set, of every request that has none of its own. */
  always: CollectorFault | undefined;
}

export async function startTraceCollector(port = 0): Promise<TraceCollector> {
  const requests: TraceCollector["requests"] = [];
  const spans = new Map<string, OtlpSpan>();
  const timesTaken = new Map<string, number>();
  const violations: string[] = [];
  const faults: CollectorFault[] = [];

  function take(body: unknown): void {
    const parsed = OtlpRequest.safeParse(body);
    if (!parsed.success) {
      violations.push(z.prettifyError(parsed.error));
      return;
    }
    const all = parsed.data.resourceSpans.flatMap(({ scopeSpans }) =>
      scopeSpans.flatMap((each) => each.spans),
    );
    for (const span of all) {
      const before = spans.get(span.spanId);
      if (before && JSON.stringify(before) !== JSON.stringify(span))
        violations.push(`the span ${span.spanId} (${span.name}) came again and was another`);
      spans.set(span.spanId, span);
      timesTaken.set(span.spanId, (timesTaken.get(span.spanId) ?? 0) + 1);
    }
  }

  function serve({ method, path, headers: sent, body, json }: SeenRequest, response: ServerResponse): void {
    const fault = faults.shift() ?? collector.always;
    requests.push({ headers: sent, body, fault });
    if (method !== "POST" || path !== "/v1/traces") violations.push(`${method} ${path}`);
    if (sent["content-type"] !== "application/json") violations.push("not application/json");
    if (fault === "no answer") return;
    if (fault === "cut") return void response.destroy();
    if (fault === undefined || fault === "taken, answer lost" || fault.status < 300) take(json);
    if (fault === "taken, answer lost") return void response.destroy();
    const { status = 200, headers = {}, body: text = "{}" } = fault ?? {};
    response.writeHead(status, { "content-type": "application/json", ...headers }).end(text);
  }

  const server = await startHttpServer(serve, undefined, port);
  const collector: TraceCollector = {
    ...{ url: server.url, port: server.port, requests, spans, timesTaken, violations, faults },
    always: undefined,
    [Symbol.asyncDispose]: server[Symbol.asyncDispose],
  };
  return collector;
}

/** The attributes of a span by their keys, as text and numbers. */
export function attributesOf({ attributes = [] }: OtlpSpan): Record<string, string | number | boolean> {
  return Object.fromEntries(
    attributes.map(({ key, value }) => [
      key,
      "intValue" in value ? Number(value.intValue) : (Object.values(value)[0] as string),
    ]),
  );
}
