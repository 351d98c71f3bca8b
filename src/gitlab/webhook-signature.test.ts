import type { IncomingHttpHeaders } from "node:http";
import fc from "fast-check";
import { Webhook } from "standardwebhooks";
import { describe, expect, test } from "vitest";
import { Secret } from "../base/secret.ts";
import type { WebhookHandler } from "../server/public/webhook-route.ts";
import { createHookVerifier, newSigningKey, signDelivery, signingKeyProblem } from "./webhook-signature.ts";

const now = 1_790_000_000_500;
const timestamp = 1_790_000_000;
const key = newSigningKey();
const body = JSON.stringify({ object_kind: "build", build_id: 7 });
const id = "f5e5f430-f57b-4e6e-9fac-d9128cd7232f";

interface Given {
  readonly keys?: readonly Secret[];
  readonly tokens?: readonly string[];
  readonly now?: number;
}

function verifierWith({
  keys = [key],
  tokens = [],
  now: at = now,
}: Given = {}): Pick<WebhookHandler, "screen"> {
  const secrets = tokens.map((token) => new Secret(token));
  return createHookVerifier({ signingKeys: () => keys, tokens: () => secrets, now: () => at });
}

function signed(given: Partial<{ key: Secret; id: string; timestamp: number; body: string }> = {}) {
  const delivery = { id, timestamp, body, ...given };
  return {
    "webhook-id": delivery.id,
    "webhook-timestamp": String(delivery.timestamp),
    "webhook-signature": signDelivery(given.key ?? key, delivery),
  };
}

/** What the public server would come to: `proven`, `refused`, or what the body's proof says. */
function outcomeOf(
  verifier: Pick<WebhookHandler, "screen">,
  headers: IncomingHttpHeaders,
  sent: string | Uint8Array = body,
): "right" | "wrong" | "proven" | "refused" {
  const screening = verifier.screen(headers);
  if (screening.kind !== "signed") return screening.kind;
  screening.proof.update(typeof sent === "string" ? Buffer.from(sent) : sent);
  return screening.proof.isValid() ? "right" : "wrong";
}

function refusalOf(verifier: Pick<WebhookHandler, "screen">, headers: IncomingHttpHeaders): string {
  const screening = verifier.screen(headers);
  return screening.kind === "refused" ? screening.message : expect.fail(screening.kind);
}

describe("a signature", () => {
  test("is right over id, time and body", () => {
    expect(outcomeOf(verifierWith(), signed())).toBe("right");
  });

  test("is checked while the body arrives, in pieces of any size", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 5_000 }), fc.array(fc.nat(5_000)), (bytes, cuts) => {
        const headers = {
          ...signed(),
          "webhook-signature": signDelivery(key, { id, timestamp, body: bytes }),
        };
        const screening = verifierWith().screen(headers);
        if (screening.kind !== "signed") throw new Error("not asked for its body");
        const ends = [...cuts, bytes.length]
          .map((cut) => Math.min(cut, bytes.length))
          .toSorted((a, b) => a - b);
        for (const [index, end] of ends.entries())
          screening.proof.update(bytes.subarray(ends[index - 1] ?? 0, end));
        expect(screening.proof.isValid()).toBe(true);
      }),
    );
  });

  test("is wrong when a single bit of the body, the id, the time or itself differs", () => {
    const headers = signed();
    const bit = fc.record({ at: fc.nat(), bit: fc.nat(7) });
    fc.assert(
      fc.property(fc.constantFrom("body", "id", "timestamp", "signature"), bit, (part, flip) => {
        const other = { ...headers };
        const changed = Buffer.from(body);
        if (part === "body") flipIn(changed, flip);
        if (part === "id") other["webhook-id"] = `${headers["webhook-id"]}${flip.bit}`;
        if (part === "timestamp") other["webhook-timestamp"] = String(timestamp - 1 - flip.bit);
        if (part === "signature") {
          const digest = Buffer.from(headers["webhook-signature"].slice(3), "base64");
          flipIn(digest, flip);
          other["webhook-signature"] = `v1,${digest.toString("base64")}`;
        }
        expect(outcomeOf(verifierWith(), other, changed)).toBe("wrong");
      }),
    );
  });

  test("is right when one of several is, for one of several keys", () => {
    const [older, newer] = [newSigningKey(), newSigningKey()];
    const rotation = verifierWith({ keys: [older, newer] });
    const wrong = signed({ key: newSigningKey() })["webhook-signature"];

    for (const used of [older, newer]) {
      const right = signed({ key: used });
      expect(outcomeOf(rotation, right)).toBe("right");
      for (const list of [
        `${wrong} ${right["webhook-signature"]}`,
        `${right["webhook-signature"]} v1a,xyz ${wrong}`,
      ]) {
        expect(outcomeOf(rotation, { ...right, "webhook-signature": list })).toBe("right");
      }
    }
    expect(outcomeOf(rotation, { ...signed({ key: older }), "webhook-signature": `${wrong} ${wrong}` })).toBe(
      "wrong",
    );
  });

  test("counts within five minutes, both ways", () => {
    const at = (seconds: number) => outcomeOf(verifierWith(), signed({ timestamp: timestamp + seconds }));

    expect([-300, 0, 300].map(at)).toEqual(["right", "right", "right"]);
    expect([-301, 301, -86_400, 1e9].map(at)).toEqual(["refused", "refused", "refused", "refused"]);
    expect(refusalOf(verifierWith(), signed({ timestamp: timestamp - 301 }))).toContain("301 s old");
    expect(refusalOf(verifierWith(), signed({ timestamp: timestamp + 400 }))).toContain("400 s ahead");
  });

  test("that is wrong is not healed by the right token", () => {
    const verifier = verifierWith({ tokens: ["plain"] });
    const token = { "x-gitlab-token": "plain" };

    expect(outcomeOf(verifier, { ...signed({ key: newSigningKey() }), ...token })).toBe("wrong");
    expect(outcomeOf(verifier, { ...signed({ timestamp: 1 }), ...token })).toBe("refused");
    for (const signature of ["", " ", "v1,", "v1a,abc", "nonsense"]) {
      expect(outcomeOf(verifier, { ...signed(), "webhook-signature": signature, ...token })).toBe("refused");
    }
  });

  test("that nobody here can check leaves the token to decide", () => {
    const verifier = verifierWith({ keys: [], tokens: ["plain"] });

    expect(outcomeOf(verifier, { ...signed(), "x-gitlab-token": "plain" })).toBe("proven");
    expect(outcomeOf(verifier, { ...signed(), "x-gitlab-token": "other" })).toBe("refused");
  });

  test("by a key of bad form is nobody's: an empty key would let anybody sign", () => {
    const empty = new Secret("whsec_");
    const verifier = verifierWith({ keys: [empty] });

    expect(outcomeOf(verifier, signed({ key: empty }))).toBe("refused");
    expect(outcomeOf(verifierWith({ keys: [empty, key] }), signed({ key: empty }))).toBe("wrong");
    expect(outcomeOf(verifierWith({ keys: [empty, key] }), signed())).toBe("right");
  });
});

describe("the secret token", () => {
  test("proves a request, also while it is rotated and beside a signing key", () => {
    const verifier = verifierWith({ tokens: ["older", "newer"] });

    expect(["older", "newer"].map((token) => outcomeOf(verifier, { "x-gitlab-token": token }))).toEqual([
      "proven",
      "proven",
    ]);
    expect(outcomeOf(verifier, { "x-gitlab-token": "Older" })).toBe("refused");
  });

  test("is compared by its bytes", () => {
    const asNodeGivesIt = Buffer.from("schlüssel", "utf8").toString("latin1");

    expect(outcomeOf(verifierWith({ tokens: ["schlüssel"] }), { "x-gitlab-token": asNodeGivesIt })).toBe(
      "proven",
    );
  });

  test("is refused whatever else it is", () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 300 }), (text) => {
        fc.pre(text !== "plain");
        expect(outcomeOf(verifierWith({ tokens: ["plain"] }), { "x-gitlab-token": text })).toBe("refused");
      }),
    );
  });

  test("that is empty proves nothing", () => {
    expect(outcomeOf(verifierWith({ tokens: [""] }), { "x-gitlab-token": "" })).toBe("refused");
    expect(outcomeOf(verifierWith({ tokens: ["", "plain"] }), { "x-gitlab-token": "" })).toBe("refused");
  });
});

test.each<[Given, IncomingHttpHeaders, string]>([
  [{ keys: [] }, {}, "neither a signing token nor a secret token is configured"],
  [{}, { "x-gitlab-token": "plain" }, "no webhook-signature, and no secret token is configured"],
  [{ tokens: ["plain"] }, {}, "no webhook-signature and no X-Gitlab-Token"],
  [{ keys: [], tokens: ["plain"] }, {}, "it has no X-Gitlab-Token"],
  [{ tokens: ["plain"] }, { "x-gitlab-token": "guess" }, "X-Gitlab-Token is wrong"],
  [{}, { ...signed(), "webhook-id": undefined }, "webhook-id or webhook-timestamp"],
  [{ keys: [new Secret("whsec_")] }, signed(), "not of the form whsec_"],
])("a refusal says what is missing (%#)", (given, headers, words) => {
  const message = refusalOf(verifierWith(given), headers);

  expect(message).toContain(words);
  expect(message).not.toContain("guess");
});

test("odd headers are refused quietly, whatever they are", () => {
  const names = ["webhook-id", "webhook-timestamp", "webhook-signature", "x-gitlab-token"];
  const odd = fc.oneof(
    fc.string({ maxLength: 50 }),
    fc.string({ unit: "binary", maxLength: 50 }),
    fc.constant("v1,".repeat(20_000)),
    fc.constant(`${signed()["webhook-signature"]} `.repeat(2_000)),
    fc.constant("1e9"),
    fc.constant("-1790000000"),
    fc.constant(" 1790000000"),
    fc.constant("01790000000"),
    fc.constant("9".repeat(400)),
    fc.array(fc.string({ maxLength: 10 }), { maxLength: 3 }),
    fc.constant([id, id]),
    fc.constant(undefined),
  );
  const verifier = verifierWith({ tokens: ["plain"] });
  fc.assert(
    fc.property(fc.constantFrom(...names), odd, fc.boolean(), (name, value, hasSignature) => {
      const base: Record<string, unknown> = hasSignature ? signed() : {};
      const headers = { ...base, [name]: value } as IncomingHttpHeaders;
      // A time or id that reads otherwise than it was signed, or no signature at all: never a proof.
      const outcome = outcomeOf(verifier, headers);
      if (name === "x-gitlab-token" && hasSignature) expect(outcome).toBe("right");
      else expect(["refused", "wrong"]).toContain(outcome);
    }),
    { numRuns: 2_000 },
  );
});

test("keys are asked for with each request", () => {
  let keys = [key];
  const verifier = createHookVerifier({ signingKeys: () => keys, tokens: () => [], now: () => now });
  expect(outcomeOf(verifier, signed())).toBe("right");

  keys = [newSigningKey()];

  expect(outcomeOf(verifier, signed())).toBe("wrong");
});

describe("the library of Standard Webhooks", () => {
  const anyBody = fc.string({ unit: "grapheme", maxLength: 2_000 }).map((text) => JSON.stringify({ text }));
  const anyId = fc.stringMatching(/^[\x21-\x7e]{1,100}$/);

  test("agrees with what is signed here", () => {
    fc.assert(
      fc.property(anyBody, anyId, (text, name) => {
        const seconds = Math.floor(Date.now() / 1_000);
        const headers = signed({ body: text, id: name, timestamp: seconds });

        expect(new Webhook(key.reveal()).verify(text, headers)).toEqual(JSON.parse(text));
      }),
    );
  });

  test("signs what is proven here", () => {
    fc.assert(
      fc.property(anyBody, anyId, (text, name) => {
        const signature = new Webhook(key.reveal()).sign(name, new Date(timestamp * 1_000), text);
        const headers = { ...signed({ id: name }), "webhook-signature": signature };

        expect(outcomeOf(verifierWith(), headers, text)).toBe("right");
        expect(outcomeOf(verifierWith({ keys: [newSigningKey()] }), headers, text)).toBe("wrong");
      }),
    );
  });

  test("signs the same bytes", () => {
    const theirs = new Webhook(key.reveal()).sign(id, new Date(timestamp * 1_000), body);

    expect(signDelivery(key, { id, timestamp, body })).toBe(theirs);
  });
});

function flipIn(bytes: Buffer, { at, bit }: { at: number; bit: number }): void {
  const index = at % bytes.length;
  bytes[index] = (bytes[index] ?? 0) ^ (1 << bit);
}

test("new keys are well formed, and no two are the same", () => {
  const keys = Array.from({ length: 50 }, () => newSigningKey().reveal());

  expect(keys.map(signingKeyProblem)).toEqual(keys.map(() => undefined));
  expect(new Set(keys).size).toBe(50);
});

const keyOf = (bytes: number) => `whsec_${Buffer.alloc(bytes, 3).toString("base64")}`;

test.each([
  ["", "begins with whsec_"],
  ["glpat-abcdefgh", "begins with whsec_"],
  [` ${keyOf(32)}`, "begins with whsec_"],
  [`${keyOf(32)}\n`, "not base64"],
  ["whsec_", "32 bytes, not 0"],
  [keyOf(24), "32 bytes, not 24"],
  [keyOf(33), "32 bytes, not 33"],
  ["whsec_neither this nor that!", "not base64"],
  [keyOf(32).replace("=", ""), "not base64"],
])("%j is no signing token", (text, words) => {
  const problem = signingKeyProblem(text);

  expect(problem).toContain(words);
  if (text.length > 20) expect(problem).not.toContain(text.slice(-10, -1));
});
