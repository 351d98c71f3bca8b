import { setImmediate as nextRound } from "node:timers/promises";
import { expect, test } from "vitest";
import { createFairQueue } from "./read-body.ts";

test("who had as much goes in the order of coming, a few in each round", async () => {
  const takeTurn = createFairQueue();
  const went: number[] = [];
  for (let index = 0; index < 5; index++) takeTurn(7, () => went.push(index));

  const rounds: number[] = [];
  for (let round = 0; round < 4; round++) {
    rounds.push(went.length);
    await nextRound();
  }

  expect(went).toEqual([0, 1, 2, 3, 4]);
  expect(rounds).toEqual([0, 2, 4, 5]);
});

test("who had least goes first, whoever comes back", async () => {
  const takeTurn = createFairQueue();
  const went: string[] = [];
  takeTurn(100, () => {
    went.push("long");
    takeTurn(200, () => went.push("long again"));
  });
  for (const bytes of [300, 150, 400, 50]) takeTurn(bytes, () => went.push(String(bytes)));
  for (let round = 0; round < 5; round++) await nextRound();

  expect(went).toEqual(["50", "long", "150", "long again", "300", "400"]);
});
