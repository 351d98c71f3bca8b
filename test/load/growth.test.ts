import { describe, expect, test } from "vitest";
import { coursesOf } from "./growth.ts";
import type { Sample } from "./manager.ts";

const COUNT = 30;

/** A run with one measure of its own, and the others at rest. */
function samples(change: (index: number) => Partial<Sample>, count = COUNT): Sample[] {
  const base = { rssMib: 150, heldMib: 50, openFiles: 300, diskMib: 20 };
  return Array.from({ length: count }, (_, index) => ({ at: index, ...base, ...change(index) }));
}

const growing = (of: Sample[], jobs = 1_000) =>
  coursesOf(of, jobs)
    .filter(({ grows }) => grows)
    .map(({ name }) => name);

describe("what grows steadily", () => {
  test("is told of each measure alone", () => {
    expect(growing(samples((at) => ({ heldMib: 50 + at })))).toEqual(["memory held"]);
    expect(growing(samples((at) => ({ rssMib: 150 + 5 * at })))).toEqual(["resident memory"]);
    expect(growing(samples((at) => ({ openFiles: 100 + 4 * at })))).toEqual(["open files"]);
    expect(growing(samples((at) => ({ diskMib: 20 + 5 * at })))).toEqual(["disk of the state"]);
  });

  test("is neither what warms up, nor what swings, nor a peak", () => {
    expect(growing(samples((at) => ({ heldMib: Math.min(80, 30 + 10 * at) })))).toEqual([]);
    expect(growing(samples((at) => ({ openFiles: at % 2 === 0 ? 100 : 400 })))).toEqual([]);
    expect(growing(samples((at) => ({ heldMib: at === 25 ? 500 : 50 })))).toEqual([]);
  });

  test("is not a step to a height that is then kept", () => {
    expect(growing(samples((at) => ({ heldMib: at < 19 ? 50 : 70 })))).toEqual([]);
  });

  test("is, of the disk, more than what ended jobs are remembered by", () => {
    const rising = samples((at) => ({ diskMib: 20 + at }));

    expect(growing(rising, 1_000)).toEqual([]);
    expect(growing(rising, 10)).toEqual(["disk of the state"]);
  });

  test("cannot be told from few samples, and none is told from none", () => {
    expect(
      coursesOf(
        samples((at) => ({ heldMib: at * 100 }), 5),
        0,
      ).map(({ grows }) => grows),
    ).toEqual(Array(4).fill(undefined));
    expect(coursesOf([], 0)[0]).toMatchObject({ start: 0, end: 0, grows: undefined });
  });
});
