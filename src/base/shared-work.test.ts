import { expect, test } from "vitest";
import { createSharedWork } from "./shared-work.ts";

const never = new AbortController().signal;

test("work under one key is done once, and anew when it has ended", async () => {
  const shared = createSharedWork<number>();
  let runs = 0;
  const work = async () => {
    runs += 1;
    await Promise.resolve();
    return runs;
  };

  const together = await Promise.all([shared.run("a", never, work), shared.run("a", never, work)]);
  const other = await shared.run("b", never, work);
  const later = await shared.run("a", never, work);

  expect([together, other, later]).toEqual([[1, 1], 2, 3]);
});

test("it goes on for who still waits, ends with the last, and is begun anew by the next", async () => {
  const shared = createSharedWork<string>();
  const [first, second] = [new AbortController(), new AbortController()];
  const signals: AbortSignal[] = [];
  const work = (signal: AbortSignal) => {
    signals.push(signal);
    return new Promise<string>((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
  };
  const [one, two] = [shared.run("a", first.signal, work), shared.run("a", second.signal, work)];

  first.abort(new Error("first"));
  await expect(one).rejects.toThrow("first");
  const isGoingOn = signals[0]?.aborted === false;
  second.abort(new Error("second"));
  await expect(two).rejects.toThrow("second");
  const third = shared.run("a", never, async () => "new");

  expect(isGoingOn).toBe(true);
  expect(signals.map((signal) => signal.aborted)).toEqual([true]);
  expect(await third).toBe("new");
});
