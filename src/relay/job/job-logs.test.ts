import { describe, expect, test } from "vitest";
import { createJobLogs } from "./job-logs.ts";

const bytes = (text: string) => Buffer.from(text);
const KEPT = 64 * 1024;

async function collect(parts: AsyncIterable<string>): Promise<string> {
  let all = "";
  for await (const part of parts) all += part;
  return all;
}

describe("the log of a running job", () => {
  test("is what has come by, once, however often a runner repeats itself", () => {
    const logs = createJobLogs();
    logs.add(7, 0, bytes("one\n"));
    logs.add(7, 0, bytes("one\ntwo\n"));
    logs.add(7, 4, bytes("two\n"));

    expect(logs.tail(7, 1_000)).toBe("one\ntwo\n");
    expect(logs.tail(8, 1_000)).toBeUndefined();
  });

  test("keeps no more than its last 64 KiB, from the beginning of a line", () => {
    const logs = createJobLogs();
    const line = `${"x".repeat(99)}\n`;
    for (let at = 0; at < 1_000; at++) logs.add(7, at * line.length, bytes(line));

    const tail = logs.tail(7, 8 * 1024 * 1024) ?? "";

    expect(tail.length).toBeLessThanOrEqual(KEPT);
    expect(tail.length).toBeGreaterThan(KEPT - 2 * line.length);
    expect(tail.startsWith(line)).toBe(true);
  });

  test("can be asked for less of it", () => {
    const logs = createJobLogs();
    logs.add(7, 0, bytes("one\ntwo\nthree\n"));

    expect(logs.tail(7, 8)).toBe("three\n");
  });

  test("begins in the middle for a program that was started in the middle", () => {
    const logs = createJobLogs();
    logs.add(7, 5_000, bytes("f a line\nwhole\n"));

    expect(logs.tail(7, 1_000)).toBe("whole\n");
  });

  test("goes on as it comes, letters in two pieces included, until its machine is let go", async () => {
    const logs = createJobLogs();
    const snow = bytes("snow ☃\n");
    logs.add(7, 0, bytes("one\n"));
    const following = collect(logs.follow(7, 1_000, new AbortController().signal));
    await Promise.resolve();
    logs.add(7, 4, snow.subarray(0, 6));
    await Promise.resolve();
    logs.add(7, 10, snow.subarray(6));
    logs.drop(7);

    expect(await following).toBe("one\nsnow ☃\n");
    expect(logs.tail(7, 1_000)).toBeUndefined();
  });

  test("lets go of who does not read any more", async () => {
    const logs = createJobLogs();
    const reader = new AbortController();
    logs.add(7, 0, bytes("one\n"));
    const following = collect(logs.follow(7, 1_000, reader.signal));
    reader.abort();

    expect(await following).toBe("one\n");
  });
});
