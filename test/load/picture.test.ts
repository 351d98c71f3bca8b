import { describe, expect, test } from "vitest";
import { drawPicture, type Picture } from "./picture.ts";

const picture = (change: Partial<Picture> = {}): Picture => ({
  title: "Load <& more>",
  subtitle: 'with "quotes"',
  durationMs: 600_000,
  panels: [
    {
      title: "jobs",
      lines: [
        {
          name: "running",
          colour: "a",
          points: Array.from({ length: 5_000 }, (_, at) => [at * 120, at % 97]),
        },
        {
          name: "seconds",
          colour: "b",
          dots: true,
          points: [
            [0, 0.25],
            [600_000, 12],
          ],
        },
        { name: "none", colour: "c", points: [] },
      ],
    },
    { title: "nothing", lines: [] },
  ],
  marks: [{ name: "kill -9", fromMs: 1_000, toMs: 1_000 }],
  ...change,
});

/** Enough of XML to tell a broken file: every element is closed in turn, every character escaped. */
function problemOf(svg: string): string | undefined {
  const open: string[] = [];
  for (const [tag, end, name, own] of svg.matchAll(/<(\/?)([a-z]+)[^<>]*?(\/?)>/g)) {
    if (end && open.pop() !== name) return `unexpected ${tag}`;
    if (!end && !own) open.push(name ?? "");
  }
  if (open.length > 0) return `${open.join(", ")} left open`;
  const words = svg.replaceAll(/<[^<>]*>/g, "");
  return /[<>]|&(?!amp;|lt;|gt;|quot;)/.exec(words)?.[0];
}

describe("a picture", () => {
  test("is a whole file that needs nothing from elsewhere, for light and dark pages", () => {
    const svg = drawPicture(picture());

    expect(problemOf(svg.replaceAll(/<style>.*<\/style>/g, ""))).toBeUndefined();
    expect(svg).not.toMatch(/https?:(?!\/\/www\.w3\.org\/2000\/svg)|url\(|<script|@import|NaN|Infinity/);
    expect(svg).toContain("prefers-color-scheme:dark");
    expect(svg).toContain("kill -9");
  });

  test("stays small however long the run was, and keeps its peaks", () => {
    const points = Array.from({ length: 50_000 }, (_, at) => [at, at === 31_234 ? 900 : 1] as const);
    const panels = [{ title: "a", lines: [{ name: "b", colour: "a" as const, points }] }];
    const svg = drawPicture(picture({ panels, durationMs: 50_000 }));

    expect(svg.length).toBeLessThan(20_000);
    expect(svg).toContain(">1k<");
  });

  test("of a run without anything is drawn too", () => {
    const svg = drawPicture(picture({ panels: [], marks: [], durationMs: 0 }));

    expect(problemOf(svg.replaceAll(/<style>.*<\/style>/g, ""))).toBeUndefined();
  });
});
