/**
 * How long a guess takes must not tell how much of it is right. Measured in interleaved rounds, so that a busy computer slows all
 * kinds of guesses alike, and judged by medians of many. A comparison that stops at the first difference is measured beside, to
 * show that the measurement would see it.
 */
import { performance } from "node:perf_hooks";
import { expect, test, vi } from "vitest";
import { Secret } from "../base/secret.ts";
import { createHookVerifier, newSigningKey, signDelivery } from "./webhook-signature.ts";

/** Long, so that a difference at the end is far from one at the start. */
const token = "t".repeat(4_096);
const places = [0, 1, token.length / 2, token.length - 1];
const guesses = places.map((place) => `${token.slice(0, place)}x${token.slice(place + 1)}`);

const ROUNDS = 300;
const CALLS_IN_ROUND = 20;
/** A computer under load disturbs one measurement; a leak is in every one. */
const ATTEMPTS = 5;
const MOST_SPREAD = 0.1;
vi.setConfig({ testTimeout: 60_000 });

test("how long a wrong token takes does not depend on where it is wrong", () => {
  const verifier = createHookVerifier({
    signingKeys: () => [],
    tokens: () => [new Secret(token), new Secret(`${token}2`)],
    now: () => 0,
  });
  const screen = (guess: string) => verifier.screen({ "x-gitlab-token": guess }).kind === "proven";

  expect(smallestSpread(guesses, screen)).toBeLessThan(MOST_SPREAD);
});

test("how long a wrong signature takes does not depend on where it is wrong", () => {
  const key = newSigningKey();
  const verifier = createHookVerifier({ signingKeys: () => [key], tokens: () => [], now: () => 0 });
  const names = { "webhook-id": "1", "webhook-timestamp": "0" };
  const signature = signDelivery(key, { id: "1", timestamp: 0, body: "" });
  const right = Buffer.from(signature.slice("v1,".length), "base64");
  const signatures = [0, 15, 31].map((place) => {
    const wrong = Buffer.from(right);
    wrong[place] = (wrong[place] ?? 0) ^ 1;
    return `v1,${wrong.toString("base64")}`;
  });
  const check = (signature: string) => {
    const screening = verifier.screen({ ...names, "webhook-signature": signature });
    return screening.kind === "signed" && screening.proof.isValid();
  };

  expect(check(signature)).toBe(true);
  expect(smallestSpread(signatures, check)).toBeLessThan(MOST_SPREAD);
});

test("the measurement sees a comparison that stops at the first difference", () => {
  const stopsEarly = (guess: string) => {
    for (let index = 0; index < token.length; index++) {
      if (guess.charCodeAt(index) !== token.charCodeAt(index)) return false;
    }
    return true;
  };

  expect(smallestSpread(guesses, stopsEarly)).toBeGreaterThan(2 * MOST_SPREAD);
});

/** The difference between the slowest and the fastest kind of guess, as a part of the fastest; the best of some attempts. */
function smallestSpread(kinds: readonly string[], compare: (guess: string) => boolean): number {
  let smallest = Number.POSITIVE_INFINITY;
  for (let attempt = 0; attempt < ATTEMPTS && smallest >= MOST_SPREAD; attempt++) {
    const medians = measure(kinds, compare).map(median);
    const fastest = Math.min(...medians);
    smallest = Math.min(smallest, (Math.max(...medians) - fastest) / fastest);
  }
  return smallest;
}

function measure(kinds: readonly string[], compare: (guess: string) => boolean): number[][] {
  const times = kinds.map((): number[] => []);
  for (let round = 0; round < ROUNDS; round++) {
    for (let turn = 0; turn < kinds.length; turn++) {
      // Who begins changes, so that nobody always comes after the pause of a collection.
      const kind = (round + turn) % kinds.length;
      const guess = kinds[kind] ?? "";
      const startedAt = performance.now();
      for (let call = 0; call < CALLS_IN_ROUND; call++) compare(guess);
      times[kind]?.push(performance.now() - startedAt);
    }
  }
  return times;
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
}
