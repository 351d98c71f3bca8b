import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isSampled, spanIdOf, traceOfGitLab, traceOfJob, traceparentOf } from "./trace-context.ts";

const TRACE = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN = "00f067aa0ba902b7";

describe("the trace of a job", () => {
  test.each([
    ["GitLab's own", TRACE, SPAN, { traceId: TRACE, parentSpanId: SPAN }],
    ["in capitals", TRACE.toUpperCase(), SPAN.toUpperCase(), { traceId: TRACE, parentSpanId: SPAN }],
    ["without a span around it", TRACE, undefined, { traceId: TRACE, parentSpanId: null }],
    ["with a span of nothing but zeros", TRACE, "0".repeat(16), { traceId: TRACE, parentSpanId: null }],
    ["nothing but zeros", "0".repeat(32), SPAN, undefined],
    ["too short", TRACE.slice(1), SPAN, undefined],
    ["with something behind it", `${TRACE}\n`, SPAN, undefined],
    ["no text", 17, SPAN, undefined],
    ["nothing", undefined, undefined, undefined],
  ])("%s", (_name, traceId, span, expected) => {
    expect(traceOfGitLab(traceId, span)).toEqual(expected);
  });

  test("is the same each time it is derived, and another for another job or installation", () => {
    const { traceId } = traceOfJob("an-installation", 4711);

    expect(traceId).toMatch(/^[0-9a-f]{32}$/);
    expect(traceOfJob("an-installation", 4711).traceId).toBe(traceId);
    expect(traceOfJob("an-installation", 4712).traceId).not.toBe(traceId);
    expect(traceOfJob("another", 4711).traceId).not.toBe(traceId);
  });

  test("tells its spans apart by job, name and machine", () => {
    const ids = [
      spanIdOf(TRACE, 1, "job"),
      spanIdOf(TRACE, 2, "job"),
      spanIdOf(TRACE, 1, "run"),
      spanIdOf(TRACE, 1, "machine.boot", "fr-a"),
      spanIdOf(TRACE, 1, "machine.boot", "fr-b"),
    ];

    expect(new Set(ids).size).toBe(ids.length);
    expect(ids.filter((id) => !/^[0-9a-f]{16}$/.test(id))).toEqual([]);
    expect(traceparentOf(TRACE, SPAN)).toBe(`00-${TRACE}-${SPAN}-01`);
  });
});

describe("sampling", () => {
  const ids = Array.from({ length: 4_000 }, (_, job) => traceOfJob("an-installation", job).traceId);
  const kept = (share: number) => ids.filter((id) => isSampled(id, share));

  test("of all keeps all, and of none none", () => {
    expect(kept(1)).toHaveLength(ids.length);
    expect(kept(0)).toEqual([]);
    expect(isSampled("f".repeat(32), 0)).toBe(false);
    expect(isSampled(`${"0".repeat(31)}1`, 1)).toBe(true);
  });

  test("keeps about its share", () => {
    expect(kept(0.25).length / ids.length).toBeCloseTo(0.25, 1);
  });

  test("of a larger share keeps what a smaller one does", () => {
    const share = fc.double({ min: 0, max: 1, noNaN: true });
    fc.assert(
      fc.property(fc.nat(ids.length - 1), share, share, (at, a, b) => {
        const id = ids[at]!;
        return !isSampled(id, Math.min(a, b)) || isSampled(id, Math.max(a, b));
      }),
    );
  });
});
