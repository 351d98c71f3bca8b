import { describe, expect, test } from "vitest";
import { createKeyedMutex, createMutex } from "./keyed-mutex.ts";

/** Work that notes its begin and its end, and ends when told to. */
function aWork(events: string[], name: string) {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const work = async () => {
    events.push(`${name} begins`);
    await promise.finally(() => events.push(`${name} ends`));
    return name;
  };
  return { work, end: () => resolve(), fail: () => reject(new Error(`${name} failed`)) };
}

async function settle(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}

describe("a keyed mutex", () => {
  test.each([
    { keys: ["a", "a"], begun: ["1 begins"], why: "one key: the second waits" },
    { keys: ["a", "b"], begun: ["1 begins", "2 begins"], why: "two keys: neither waits" },
  ])("$why", async ({ keys: [first = "", second = ""], begun }) => {
    const events: string[] = [];
    const mutex = createKeyedMutex();
    const [one, two] = [aWork(events, "1"), aWork(events, "2")];
    const ended = [mutex.run(first, one.work), mutex.run(second, two.work)];
    await settle();
    expect(events).toEqual(begun);

    one.end();
    two.end();

    expect(await Promise.all(ended)).toEqual(["1", "2"]);
  });

  test("what failed holds nobody up, and is told to its own caller alone", async () => {
    const events: string[] = [];
    const mutex = createKeyedMutex();
    const [one, two] = [aWork(events, "1"), aWork(events, "2")];
    const failed = mutex.run("a", one.work);
    const good = mutex.run("a", two.work);

    one.fail();
    two.end();

    await expect(failed).rejects.toThrow("1 failed");
    expect(await good).toBe("2");
    expect(events).toEqual(["1 begins", "1 ends", "2 begins", "2 ends"]);
  });

  test("a mutex without keys lets one in at a time", async () => {
    const events: string[] = [];
    const run = createMutex();
    const [one, two] = [aWork(events, "1"), aWork(events, "2")];
    const ended = [run(one.work), run(two.work)];
    await settle();
    expect(events).toEqual(["1 begins"]);

    one.end();
    two.end();

    expect(await Promise.all(ended)).toEqual(["1", "2"]);
  });
});
