/** What went over the wire: every byte under the encryption, and every call decoded. */
import type { Message } from "@bufbuild/protobuf";

export type CallKind = "create" | "delete" | "get" | "list";

export interface CallRecord {
  readonly kind: CallKind;
  readonly at: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly request: Message;
  answer: Message | undefined;
  error: string | undefined;
}

export interface Wire {
  readonly calls: CallRecord[];
  count(kind: CallKind): number;
  /** Where the secret was seen, plain or in base64, in either direction; empty when nowhere. */
  find(secret: string): string[];
  clear(): void;
}

export interface WireRecorder extends Wire {
  record(direction: "in" | "out", connection: number, bytes: Buffer): void;
}

export function createWire(): WireRecorder {
  const calls: CallRecord[] = [];
  const streams = new Map<string, Buffer[]>();

  function find(secret: string): string[] {
    const forms = formsOf(secret);
    const has = (text: string | Buffer) => forms.some((form) => text.includes(form));
    const raw = [...streams].filter(([, chunks]) => has(Buffer.concat(chunks))).map(([name]) => name);
    const decoded = calls.flatMap((call) =>
      texts(call)
        .filter(([, text]) => has(text))
        .map(([place]) => `${call.kind}: ${place}`),
    );
    return [...raw, ...decoded];
  }

  return {
    calls,
    count: (kind) => calls.filter((call) => call.kind === kind).length,
    find,
    record(direction, connection, bytes) {
      const name = `bytes ${direction} of connection ${connection}`;
      const chunks = streams.get(name) ?? [];
      streams.set(name, chunks);
      chunks.push(bytes);
    },
    clear() {
      calls.length = 0;
      streams.clear();
    },
  };
}

/** Itself, and its base64 at each of the three places where it can begin in a longer text. */
function formsOf(secret: string): string[] {
  const inBase64 = [0, 1, 2].map((offset) => {
    const bytes = Buffer.concat([Buffer.alloc(offset), Buffer.from(secret)]);
    // The first and last characters depend on what stands beside it.
    const whole = Math.floor(bytes.length / 3) * 4;
    return bytes.toString("base64").slice(Math.ceil((offset * 4) / 3), whole);
  });
  return [secret, ...inBase64.filter((form) => form.length >= 4)];
}

function texts(call: CallRecord): [place: string, text: string][] {
  const headers = Object.entries(call.headers).map(([name, value]): [string, string] => [
    `header ${name}`,
    value,
  ]);
  return [...headers, ...strings("request", call.request), ...strings("answer", call.answer)];
}

function strings(place: string, value: unknown): [place: string, text: string][] {
  if (typeof value === "string") {
    // Metadata documents, some of which hold base64 in their turn.
    const decoded = Buffer.from(value, "base64").toString();
    return [
      [place, value],
      [`${place} (decoded)`, decoded],
    ];
  }
  if (value === null || typeof value !== "object") return [];
  return Object.entries(value).flatMap(([name, each]) => [
    [`${place}: a name`, name] as [string, string],
    ...strings(`${place}.${name}`, each),
  ]);
}
