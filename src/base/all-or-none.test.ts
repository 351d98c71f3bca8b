import { expect, test } from "vitest";
import { allOrNone } from "./all-or-none.ts";

/** Goes on until its signal is aborted, and takes a moment to end then. */
function untilAborted(signal: AbortSignal, ended: () => void): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener("abort", () => {
      setImmediate(() => {
        ended();
        reject(signal.reason);
      });
    });
  });
}

test("gives all results in their order", async () => {
  const doubled = await allOrNone([3, 1, 2], new AbortController().signal, async (each) => each * 2);

  expect(doubled).toEqual([6, 2, 4]);
});

test("the first failure ends the others, is waited for, and is what is thrown", async () => {
  const ended: number[] = [];
  const all = allOrNone([1, 2, 3], new AbortController().signal, async (each, signal) => {
    if (each === 2) throw new Error("two");
    return await untilAborted(signal, () => ended.push(each));
  });

  await expect(all).rejects.toThrow("two");
  expect(ended).toEqual([1, 3]);
});

test("who gives it up hears the own reason", async () => {
  const giveUp = new AbortController();
  const all = allOrNone([1], giveUp.signal, async (_, signal) => await untilAborted(signal, () => {}));
  giveUp.abort(new Error("not wanted any more"));

  await expect(all).rejects.toThrow("not wanted any more");
});
