/** Spans as OTLP/HTTP takes them in JSON: ids in hex, 64-bit numbers as text, enums as numbers. */
import type { Attributes, Span } from "./job-story.ts";

/** What makes the spans. */
export interface Producer {
  readonly version: string;
  /** Tells installations apart. */
  readonly installationId: string;
}

const INTERNAL = 1;
const FAILED = 2;
const NANOSECONDS = "000000";

/** The body of one `POST /v1/traces`. */
export function encodeSpans(spans: readonly Span[], { version, installationId }: Producer): string {
  const resource = {
    attributes: encodeAttributes({
      "service.name": "firerunner",
      "service.version": version,
      "service.instance.id": installationId,
    }),
  };
  const scope = { name: "firerunner", version };
  return JSON.stringify({
    resourceSpans: [{ resource, scopeSpans: [{ scope, spans: spans.map(encodeSpan) }] }],
  });
}

function encodeSpan({ traceId, spanId, parentSpanId, name, startAt, endAt, attributes, problem }: Span) {
  return {
    ...{ traceId, spanId },
    ...(parentSpanId === null ? {} : { parentSpanId }),
    name,
    kind: INTERNAL,
    startTimeUnixNano: `${startAt}${NANOSECONDS}`,
    endTimeUnixNano: `${endAt}${NANOSECONDS}`,
    attributes: encodeAttributes(attributes),
    status: problem === undefined ? {} : { code: FAILED, message: problem },
  };
}

function encodeAttributes(attributes: Attributes) {
  return Object.entries(attributes).map(([key, value]) => ({ key, value: encodeValue(value) }));
}

function encodeValue(value: string | number) {
  if (typeof value === "string") return { stringValue: value };
  return Number.isSafeInteger(value) ? { intValue: String(value) } : { doubleValue: value };
}
