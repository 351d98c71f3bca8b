import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createBodyBudget } from "./body-budget.ts";

const KIB = 1024;
const bytes = (length: number, value = 7) => Buffer.alloc(length, value);

describe("room for bodies", () => {
  test("a body is kept whole, however it is cut", () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ maxLength: 5_000 })),
        fc.option(fc.nat(10_000), { nil: undefined }),
        (chunks, says) => {
          const kept = createBodyBudget(KIB ** 2).keep(KIB ** 2, says);
          for (const chunk of chunks) kept.add(chunk);
          expect(kept.take()?.equals(Buffer.concat(chunks))).toBe(true);
        },
      ),
    );
  });

  test("one that is longer than the limit is not kept, and takes no room", () => {
    const room = createBodyBudget(KIB ** 2);
    const kept = room.keep(10 * KIB);
    for (let index = 0; index < 11; index++) kept.add(bytes(KIB));

    expect(room.usedBytes).toBe(0);
    expect(kept.take()).toBeUndefined();
  });

  test("one that says it is longer than the limit is not even begun", () => {
    const room = createBodyBudget(KIB ** 2);
    const kept = room.keep(10 * KIB, 11 * KIB);
    kept.add(bytes(KIB));

    expect(room.usedBytes).toBe(0);
    expect(kept.take()).toBeUndefined();
  });

  test("one that says it is long gets room only as it arrives", () => {
    const room = createBodyBudget(100 * KIB ** 2);
    room.keep(10 * KIB ** 2, 10 * KIB ** 2).add(bytes(1));

    expect(room.usedBytes).toBeLessThanOrEqual(64 * KIB);
  });

  test("tiny chunks take little more than what they hold", () => {
    const room = createBodyBudget(KIB ** 2);
    const kept = room.keep(KIB ** 2);
    for (let index = 0; index < 100_000; index++) kept.add(bytes(1));

    expect(room.usedBytes).toBeLessThanOrEqual(115_000);
  });

  test("when it is full the longest gives way to a shorter one", () => {
    const room = createBodyBudget(100 * KIB);
    const [long, short, late] = [room.keep(KIB ** 2), room.keep(KIB ** 2), room.keep(KIB ** 2)];
    long.add(bytes(60 * KIB));
    short.add(bytes(30 * KIB));

    late.add(bytes(20 * KIB, 9));

    expect(late.take()?.equals(bytes(20 * KIB, 9))).toBe(true);
    expect(short.take()).toHaveLength(30 * KIB);
    long.add(bytes(1));
    expect(long.take()).toBeUndefined();
  });

  test("the longest of all is given up rather than others", () => {
    const room = createBodyBudget(100 * KIB);
    const others = Array.from({ length: 9 }, () => room.keep(KIB ** 2));
    const long = room.keep(KIB ** 2);
    for (const other of others) other.add(bytes(6 * KIB));
    long.add(bytes(20 * KIB));

    for (const other of others) other.add(bytes(4 * KIB));

    expect(long.take()).toBeUndefined();
    expect(others.map((other) => other.take()?.length)).toEqual(Array(9).fill(10 * KIB));
  });

  test("room that nothing fills is taken before anybody is given up", () => {
    const room = createBodyBudget(100 * KIB);
    const [long, ahead] = [room.keep(KIB ** 2, 60 * KIB), room.keep(KIB ** 2, 40 * KIB)];
    long.add(bytes(60 * KIB));
    // It has all the rest of the room now.
    ahead.add(bytes(1));
    const late = room.keep(KIB ** 2);

    late.add(bytes(30 * KIB));

    expect([long, ahead, late].map((each) => each.take()?.length)).toEqual([60 * KIB, 1, 30 * KIB]);
  });

  test("the longest is the one that holds most, not the one that announces most", () => {
    const room = createBodyBudget(100 * KIB);
    const [announcing, full, late] = [64, 40, 40].map((kib) => room.keep(KIB ** 2, kib * KIB));
    announcing?.add(bytes(30 * KIB));
    full?.add(bytes(36 * KIB));

    late?.add(bytes(35 * KIB));

    expect([announcing, full, late].map((each) => each?.take()?.length)).toEqual([
      30 * KIB,
      undefined,
      35 * KIB,
    ]);
  });

  test("one that is being used stays, and gives its room back when it is released", () => {
    const room = createBodyBudget(100 * KIB);
    const used = room.keep(KIB ** 2);
    used.add(bytes(80 * KIB));
    const body = used.take();
    const late = room.keep(KIB ** 2);

    late.add(bytes(30 * KIB));

    expect(late.take()).toBeUndefined();
    expect(body?.equals(bytes(80 * KIB))).toBe(true);
    used.release();
    late.release();
    expect(room.usedBytes).toBe(0);
  });

  test("only ever the longest is given up, and only when they do not fit", () => {
    const step = fc.record({ body: fc.nat(9), length: fc.integer({ min: 4 * KIB, max: 40 * KIB }) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), fc.boolean(), (steps, isSaid) => {
        const room = createBodyBudget(100 * KIB);
        const bodies = Array.from({ length: 10 }, () => room.keep(KIB ** 2, isSaid ? KIB ** 2 : undefined));
        const kept = new Map(bodies.map((body) => [body, 0]));
        for (const { body: index, length } of steps) {
          const body = bodies[index]!;
          body.add(bytes(length));
          if (!kept.has(body)) continue;
          kept.set(body, (kept.get(body) ?? 0) + length);
          const fullBytes = [...kept.values()].reduce((sum, each) => sum + each, 0);
          const longest = Math.max(...kept.values());
          const [lost, other] = [...kept].filter(([, each]) => each === longest);
          // Of two that are as long either may go, and the last page of the room may be too small for one.
          if (other || (fullBytes > 96 * KIB && fullBytes <= 100 * KIB)) return;
          if (lost && fullBytes > 100 * KIB) kept.delete(lost[0]);
        }
        const taken = bodies.map((body) => body.take()?.length);
        expect(taken).toEqual(bodies.map((body) => kept.get(body)));
      }),
      { numRuns: 1_000 },
    );
  });

  test("never holds more than it has, and ends empty", () => {
    const step = fc.record({ body: fc.nat(9), length: fc.nat(40 * KIB), end: fc.boolean() });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 100 }), (steps) => {
        const room = createBodyBudget(100 * KIB);
        const bodies = Array.from({ length: 10 }, () => room.keep(50 * KIB));
        for (const { body, length, end } of steps) {
          if (end) bodies[body]?.release();
          else bodies[body]?.add(bytes(length));
          expect(room.usedBytes).toBeLessThanOrEqual(100 * KIB);
          expect(room.usedBytes).toBeGreaterThanOrEqual(0);
        }
        for (const body of bodies) body.release();
        expect(room.usedBytes).toBe(0);
      }),
    );
  });
});
