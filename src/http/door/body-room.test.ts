import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createBodyRoom } from "./body-room.ts";

const KIB = 1024;
const bytes = (length: number, value = 7) => Buffer.alloc(length, value);

describe("room for bodies", () => {
  test("a body is kept whole, however it is cut", () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ maxLength: 5_000 })),
        fc.option(fc.nat(10_000), { nil: undefined }),
        (chunks, says) => {
          const kept = createBodyRoom(KIB ** 2).keep(KIB ** 2, says);
          for (const chunk of chunks) kept.add(chunk);
          expect(kept.take()?.equals(Buffer.concat(chunks))).toBe(true);
        },
      ),
    );
  });

  test("one that is longer than the limit is not kept, and takes no room", () => {
    const room = createBodyRoom(KIB ** 2);
    const kept = room.keep(10 * KIB);
    for (let index = 0; index < 11; index++) kept.add(bytes(KIB));

    expect(room.usedBytes).toBe(0);
    expect(kept.take()).toBeUndefined();
  });

  test("one that says it is longer than the limit is not even begun", () => {
    const room = createBodyRoom(KIB ** 2);
    const kept = room.keep(10 * KIB, 11 * KIB);
    kept.add(bytes(KIB));

    expect(room.usedBytes).toBe(0);
    expect(kept.take()).toBeUndefined();
  });

  test("one that says it is long gets room only as it arrives", () => {
    const room = createBodyRoom(100 * KIB ** 2);
    room.keep(10 * KIB ** 2, 10 * KIB ** 2).add(bytes(1));

    expect(room.usedBytes).toBeLessThanOrEqual(64 * KIB);
  });

  test("tiny chunks take no more than what they hold and as much again", () => {
    const room = createBodyRoom(KIB ** 2);
    const kept = room.keep(KIB ** 2);
    for (let index = 0; index < 100_000; index++) kept.add(bytes(1));

    expect(room.usedBytes).toBeLessThanOrEqual(200_000);
  });

  test("when it is full the longest gives way to a shorter one", () => {
    const room = createBodyRoom(100 * KIB);
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
    const room = createBodyRoom(100 * KIB);
    // Without a length said before, a body takes 16 KiB at first, and nine of them would not fit.
    const others = Array.from({ length: 9 }, () => room.keep(KIB ** 2, 10 * KIB));
    for (const other of others) other.add(bytes(10 * KIB));
    const long = room.keep(KIB ** 2);

    long.add(bytes(20 * KIB));

    expect(long.take()).toBeUndefined();
    expect(others.map((other) => other.take()?.length)).toEqual(Array(9).fill(10 * KIB));
  });

  test("one that is being used stays, and gives its room back when it is released", () => {
    const room = createBodyRoom(100 * KIB);
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

  test("never holds more than it has, and ends empty", () => {
    const step = fc.record({ body: fc.nat(9), length: fc.nat(40 * KIB), end: fc.boolean() });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 100 }), (steps) => {
        const room = createBodyRoom(100 * KIB);
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
