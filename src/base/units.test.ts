import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { formatBytes, formatDuration, formatMib, parseDurationMs, parseSizeBytes } from "./units.ts";

describe("durations", () => {
  test.each([
    ["250ms", 250],
    ["5s", 5_000],
    ["1.5s", 1_500],
    ["2m", 120_000],
    ["1h30m", 5_400_000],
    [" 2D ", 172_800_000],
    ["0s", 0],
  ])("%s", (text, expected) => {
    expect(parseDurationMs(text)).toBe(expected);
  });

  test.each(["", "5", "s", "-5s", "5 s", "5s later", "5y", "1e3s", ".5s", "1constructor"])(
    "“%s” is refused with examples of what is accepted",
    (text) => {
      expect(() => parseDurationMs(text)).toThrow(
        expect.objectContaining({ code: "bad_unit", message: expect.stringContaining("1h30m") }),
      );
    },
  );

  test("what is written out in hours, minutes, seconds and milliseconds comes back", () => {
    const part = fc.nat(59);
    fc.assert(
      fc.property(part, part, part, fc.nat(999), (h, m, s, ms) => {
        return parseDurationMs(`${h}h${m}m${s}s${ms}ms`) === ((h * 60 + m) * 60 + s) * 1_000 + ms;
      }),
    );
  });

  test.each([
    [0, "0 ms"],
    [350, "350 ms"],
    [4_200, "4.2 s"],
    [192_000, "3m12s"],
    [7_260_000, "2h1m"],
    [259_199_999, "71h59m"],
    [7_776_000_000, "90d0h"],
  ])("%d ms reads %s", (ms, expected) => {
    expect(formatDuration(ms)).toBe(expected);
  });
});

describe("sizes", () => {
  test.each([
    ["512MiB", 512 * 1024 ** 2],
    ["4GiB", 4 * 1024 ** 3],
    ["1.5gb", 1_500_000_000],
    ["1GiB512MiB", 1.5 * 1024 ** 3],
    ["100b", 100],
  ])("%s", (text, expected) => {
    expect(parseSizeBytes(text)).toBe(expected);
  });

  test.each(["", "4", "4G", "GiB", "4 GiB", "-1GiB", "1constructor"])(
    "“%s” is refused with examples of what is accepted",
    (text) => {
      expect(() => parseSizeBytes(text)).toThrow(
        expect.objectContaining({ code: "bad_unit", message: expect.stringContaining("512MiB") }),
      );
    },
  );

  test("what is refused and what is accepted is a whole number of bytes, never NaN", () => {
    const amount = fc.double({ min: 0, max: 1e6, noNaN: true }).map((value) => value.toFixed(3));
    const unit = fc.constantFrom("B", "KiB", "MiB", "GiB", "TiB", "kB", "MB", "GB", "TB");
    fc.assert(fc.property(amount, unit, (value, name) => Number.isInteger(parseSizeBytes(value + name))));
  });

  test.each([
    [512, "512 MiB"],
    [1_024, "1 GiB"],
    [1_536, "1.5 GiB"],
  ])("%d MiB reads %s", (mib, expected) => {
    expect(formatMib(mib)).toBe(expected);
  });

  test.each([
    [976.6 * 1024 ** 3, "977 GiB"],
    [97_656.3 * 1024 ** 3, "95.4 TiB"],
    [0, "0 B"],
    [1_023, "1023 B"],
    [1_536, "1.5 KiB"],
    [95_420_416, "91 MiB"],
    [3 * 1024 ** 3, "3 GiB"],
  ])("%d bytes read %s", (bytes, expected) => {
    expect(formatBytes(bytes)).toBe(expected);
  });
});
