import { describe, expect, test } from "vitest";
import { createSampledLog, type Log, silentLog } from "./log.ts";
import { createManualClock } from "./manual-clock.ts";

function aSampledLog() {
  const clock = createManualClock();
  const lines: [message: string, fields: object][] = [];
  const log: Log = { ...silentLog, warn: (fields, message) => void lines.push([message, fields]) };
  return { clock, lines, sampled: createSampledLog({ log, clock, leftOut: "more" }) };
}

describe("the sampled log", () => {
  test("writes the first of each kind and minute, and counts the others", async () => {
    const { clock, lines, sampled } = aSampledLog();
    for (let index = 0; index < 1_000; index++) sampled.write("warn", "a", { index }, "refused");
    sampled.write("warn", "b", {}, "refused");
    expect(lines).toEqual([
      ["refused", { index: 0 }],
      ["refused", {}],
    ]);

    await clock.advance(60_000);
    sampled.tick();

    expect(lines[2]).toEqual(["more", { count: 999, kinds: { a: 999 } }]);
    sampled.write("warn", "a", {}, "refused");
    expect(lines).toHaveLength(4);
  });

  test("a flood of many clients does not fill it either", () => {
    const { lines, sampled } = aSampledLog();
    for (let index = 0; index < 10_000; index++) sampled.write("warn", `client ${index}`, {}, "refused");

    expect(lines.length).toBeLessThanOrEqual(30);
    sampled.flush();
    expect(lines.at(-1)?.[1]).toEqual({ count: 9_970, kinds: { others: 9_970 } });
  });

  test("says nothing when nothing was left out", async () => {
    const { clock, lines, sampled } = aSampledLog();

    await clock.advance(120_000);
    sampled.tick();
    sampled.flush();

    expect(lines).toEqual([]);
  });

  test("a flush does not wait for the minute", () => {
    const { lines, sampled } = aSampledLog();
    sampled.write("warn", "a", {}, "refused");
    sampled.write("warn", "a", {}, "refused");

    sampled.flush();

    expect(lines[1]?.[1]).toEqual({ count: 1, kinds: { a: 1 } });
  });

  test.each([
    [["debug", "debug"], "debug"],
    [["debug", "info", "debug"], "info"],
    [["debug", "error", "warn"], "error"],
  ] as const)("tells of lines left out at the highest level among them: %j", (leftOut, expected) => {
    const told: [level: string, message: string][] = [];
    const log: Log = {
      ...silentLog,
      debug: (_, message) => void told.push(["debug", message]),
      info: (_, message) => void told.push(["info", message]),
      warn: (_, message) => void told.push(["warn", message]),
      error: (_, message) => void told.push(["error", message]),
    };
    const sampled = createSampledLog({ log, clock: createManualClock(), leftOut: "more" });
    // What was written itself counts for nothing.
    sampled.write("error", "a", {}, "refused");
    for (const level of leftOut) sampled.write(level, "a", {}, "refused");
    sampled.flush();
    // Nor does what was told of before.
    sampled.write("error", "a", {}, "refused");
    sampled.write("debug", "a", {}, "refused");
    sampled.flush();

    expect(told.filter(([, message]) => message === "more").map(([level]) => level)).toEqual([
      expected,
      "debug",
    ]);
  });
});
