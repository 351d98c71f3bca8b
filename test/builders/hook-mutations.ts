import fc from "fast-check";

type Json = Record<string, unknown>;

/** What is done to a real webhook before it is sent. */
export interface HookMutations {
  readonly isPipeline: boolean;
  /** Changes of the JSON: at which of its values, and what to put there. */
  readonly values: readonly { readonly at: number; readonly change: Change }[];
  /** Changes of the bytes. */
  readonly bytes: readonly {
    readonly at: number;
    readonly kind: "flip" | "drop" | "insert";
    readonly byte: number;
  }[];
  /** Cuts the body to this share of its length. */
  readonly cut: number;
  readonly headers: readonly { readonly name: string; readonly value: string | undefined }[];
  readonly hasBody: boolean;
}

type Change =
  | { readonly kind: "replace"; readonly value: unknown }
  | { readonly kind: "remove" }
  /** Wraps it in so many lists. */
  | { readonly kind: "nest"; readonly depth: number }
  /** Repeats a text so often. */
  | { readonly kind: "long"; readonly times: number };

const oddValues = fc.constantFrom<unknown>(
  ...[
    null,
    true,
    false,
    0,
    -1,
    1.5,
    2 ** 53,
    -(2 ** 53),
    1e308,
    "",
    "7",
    "0x10",
    "pending",
    "\u0000",
    "\ud800",
  ],
  ...[[], {}, [[]], [{}], { id: null }, { id: "7" }, { __proto__: null }, { constructor: 1, toString: 2 }],
  ...["2021-02-23 02:41:37 UTC", "2021-02-23T02:41:37.000Z", "canceled", "build", "pipeline", "push"],
);

const change: fc.Arbitrary<Change> = fc.oneof(
  fc.record({
    kind: fc.constant("replace" as const),
    value: fc.oneof(oddValues, fc.jsonValue({ maxDepth: 2 })),
  }),
  fc.record({ kind: fc.constant("remove" as const) }),
  fc.record({ kind: fc.constant("nest" as const), depth: fc.integer({ min: 1, max: 400 }) }),
  fc.record({ kind: fc.constant("long" as const), times: fc.integer({ min: 1, max: 400 }) }),
);

const headerNames = [
  "x-gitlab-event",
  "webhook-id",
  "idempotency-key",
  "x-gitlab-event-uuid",
  "content-type",
];
const headerValue = fc.option(
  fc.oneof(fc.string(), fc.constantFrom("Job Hook", "Pipeline Hook", "Push Hook", "", "d".repeat(9_000))),
  { nil: undefined },
);
const rarely = <Value>(values: fc.Arbitrary<Value>, maxLength: number) =>
  fc.oneof(
    { weight: 2, arbitrary: fc.constant<Value[]>([]) },
    { weight: 1, arbitrary: fc.array(values, { maxLength }) },
  );

export const hookMutations: fc.Arbitrary<HookMutations> = fc.record({
  isPipeline: fc.boolean(),
  values: fc.array(fc.record({ at: fc.nat(), change }), { maxLength: 4 }),
  bytes: rarely(
    fc.record({
      at: fc.nat(),
      kind: fc.constantFrom("flip" as const, "drop" as const, "insert" as const),
      byte: fc.integer({ min: 0, max: 255 }),
    }),
    4,
  ),
  cut: fc.oneof(
    { weight: 9, arbitrary: fc.constant(1) },
    { weight: 1, arbitrary: fc.double({ min: 0, max: 1, noNaN: true }) },
  ),
  headers: rarely(fc.record({ name: fc.constantFrom(...headerNames), value: headerValue }), 3),
  hasBody: fc.oneof(
    { weight: 49, arbitrary: fc.constant(true) },
    { weight: 1, arbitrary: fc.constant(false) },
  ),
});

/** The request that comes of it. `real` is changed. */
export function mutate(
  headers: Record<string, string>,
  real: Json,
  mutations: HookMutations,
): { headers: Record<string, string>; body: Buffer | undefined } {
  for (const { at, change } of mutations.values) changeValue(real, at, change);
  let body = Buffer.from(JSON.stringify(real));
  for (const { at, kind, byte } of mutations.bytes)
    body = changeByte(body, at % Math.max(1, body.length), kind, byte);
  const sent: Record<string, string> = { ...headers };
  for (const { name, value } of mutations.headers) {
    if (value === undefined) delete sent[name];
    else sent[name] = value;
  }
  const length = Math.floor(body.length * mutations.cut);
  return { headers: sent, body: mutations.hasBody ? body.subarray(0, length) : undefined };
}

/** Half of the changes meet a value that is read, which are few among many. */
function changeValue(real: Json, at: number, change: Change): void {
  const read = ["object_kind", "build_id", "build_status", "project_id", "project", "object_attributes"];
  const places = at % 2 === 0 ? placesOf(real) : placesOf(real).filter(([, key]) => read.includes(key));
  const place = places[Math.floor(at / 2) % Math.max(1, places.length)];
  if (!place) return;
  const [owner, key] = place;
  if (change.kind === "remove") delete owner[key];
  else owner[key] = changed(owner[key], change);
}

function changed(value: unknown, change: Exclude<Change, { kind: "remove" }>): unknown {
  if (change.kind === "replace") return change.value;
  if (change.kind === "long") return (JSON.stringify(value) ?? "").slice(0, 40).repeat(change.times);
  let nested = value;
  for (let depth = 0; depth < change.depth; depth++) nested = [nested];
  return nested;
}

function placesOf(value: unknown, depth = 0): [Json, string][] {
  if (typeof value !== "object" || value === null || depth > 4) return [];
  const owner = value as Json;
  return Object.keys(owner).flatMap((key): [Json, string][] => [
    [owner, key],
    ...placesOf(owner[key], depth + 1),
  ]);
}

function changeByte(
  body: Buffer<ArrayBuffer>,
  at: number,
  kind: "flip" | "drop" | "insert",
  byte: number,
): Buffer<ArrayBuffer> {
  const after = kind === "insert" ? at : at + 1;
  const middle = kind === "drop" ? [] : [kind === "flip" ? (body[at] ?? 0) ^ byte : byte];
  return Buffer.concat([body.subarray(0, at), Buffer.from(middle), body.subarray(after)]);
}
