/** A picture of a run as one SVG file: drawn by itself, without fonts, styles or scripts from elsewhere, for light and dark pages. */
import { minutesAndSeconds } from "./progress.ts";

interface Line {
  readonly name: string;
  /** A colour of the palette. */
  readonly colour: Colour;
  readonly points: readonly (readonly [atMs: number, value: number])[];
  /** Single points instead of a line. */
  readonly dots?: boolean;
}

export interface Panel {
  readonly title: string;
  readonly lines: readonly Line[];
}

/** Something that was done to the run, from when to when. */
export interface Mark {
  readonly name: string;
  readonly fromMs: number;
  readonly toMs: number;
}

export interface Picture {
  readonly title: string;
  readonly subtitle: string;
  readonly panels: readonly Panel[];
  readonly marks: readonly Mark[];
  readonly durationMs: number;
}

type Colour = "a" | "b" | "c";

const WIDTH = 860;
const PANEL = 130;
const GAP = 46;
const LEFT = 64;
const RIGHT = 16;
const TOP = 64;
const MOST_POINTS = 240;

const colours = (a: string, b: string, c: string) =>
  Object.entries({ a, b, c })
    .map(([name, value]) => `.l.${name}{stroke:${value}}.d.${name},.k.${name}{fill:${value}}`)
    .join("");

const style = `
svg{background:#fff;font:12px system-ui,sans-serif}
.t{fill:#1f2328}.s{fill:#59636e}.g{stroke:#d1d9e0;fill:none}.m{fill:#d1242f;fill-opacity:.13}
.l{fill:none;stroke-width:1.5}.d{fill-opacity:.55}${colours("#0969da", "#bc4c00", "#1a7f37")}
@media(prefers-color-scheme:dark){svg{background:#0d1117}.t{fill:#f0f6fc}.s{fill:#9198a1}.g{stroke:#3d444d}.m{fill:#f85149;fill-opacity:.22}
${colours("#4493f8", "#f0883e", "#3fb950")}}
`.replaceAll("\n", "");

export function drawPicture(picture: Picture): string {
  const { panels, title, subtitle, durationMs } = picture;
  const height = TOP + panels.length * (PANEL + GAP) + 12;
  const body = panels.map((panel, index) => drawPanel(panel, TOP + index * (PANEL + GAP), picture));
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" role="img">`,
    `<title>${escaped(`${title}: ${subtitle}`)}</title><style>${style}</style>`,
    text(LEFT, 22, title, "t", 'font-size="16" font-weight="600"'),
    text(LEFT, 40, subtitle, "s"),
    ...body,
    ...minutes(durationMs).map((at) =>
      text(xOf(at, durationMs), height - 10, minutesAndSeconds(at), "s", 'text-anchor="middle"'),
    ),
    "</svg>\n",
  ].join("\n");
}

function drawPanel({ title, lines }: Panel, top: number, { marks, durationMs }: Picture): string {
  const most = niceTop(Math.max(0, ...lines.flatMap(({ points }) => points.map(([, value]) => value))));
  const yOf = (value: number) => round(top + PANEL - (Math.min(value, most) / most) * PANEL);
  let legendX = LEFT + title.length * 7 + 24;
  const legend = lines.map(({ name, colour }) => {
    const at = legendX;
    legendX += name.length * 7 + 34;
    const key = `<rect class="k ${colour}" x="${at}" y="${top - 13}" width="10" height="4"/>`;
    return key + text(at + 14, top - 8, name, "s");
  });
  const grid = [0, 0.5, 1].map((share) => {
    const y = yOf(most * share);
    const label = text(LEFT - 8, y + 4, numberOf(most * share), "s", 'text-anchor="end"');
    return `<path class="g" d="M${LEFT} ${y}H${WIDTH - RIGHT}"/>${label}`;
  });
  const shades = marks.map(({ name, fromMs, toMs }) => {
    const from = xOf(fromMs, durationMs);
    const width = Math.max(1, round(xOf(toMs, durationMs) - from));
    return `<rect class="m" x="${from}" y="${top}" width="${width}" height="${PANEL}"><title>${escaped(name)}</title></rect>`;
  });
  return [
    text(LEFT, top - 8, title, "t"),
    ...legend,
    ...shades,
    ...grid,
    ...lines.map((line) => drawLine(line, durationMs, yOf)),
  ].join("\n");
}

function drawLine(
  { points, colour, dots }: Line,
  durationMs: number,
  yOf: (value: number) => number,
): string {
  const shown = thinned(points);
  const places = shown.map(([at, value]) => `${xOf(at, durationMs)} ${yOf(value)}`);
  if (!dots) return `<path class="l ${colour}" d="M${places.join("L")}"/>`.replace('d="M"', 'd=""');
  const circles = places.map((place) => `M${place}m-1.5 0a1.5 1.5 0 1 0 3 0a1.5 1.5 0 1 0 -3 0`);
  return `<path class="d ${colour}" d="${circles.join("")}"/>`;
}

/** At most so many, each the highest of its neighbours: peaks are what one looks for. */
function thinned(points: Line["points"]): Line["points"] {
  const size = Math.ceil(points.length / MOST_POINTS);
  if (size <= 1) return points;
  const groups: Line["points"][number][] = [];
  for (let at = 0; at < points.length; at += size) {
    const group = points.slice(at, at + size);
    groups.push(group.reduce((most, each) => (each[1] > most[1] ? each : most)));
  }
  return groups;
}

function xOf(atMs: number, durationMs: number): number {
  const share = Math.min(1, Math.max(0, atMs / Math.max(1, durationMs)));
  return round(LEFT + share * (WIDTH - LEFT - RIGHT));
}

function minutes(durationMs: number): number[] {
  const step =
    [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1_800, 3_600].find((s) => durationMs / s <= 10_000) ?? 7_200;
  return Array.from(
    { length: Math.floor(durationMs / (step * 1_000)) + 1 },
    (_, index) => index * step * 1_000,
  );
}

/** 1, 2 or 5 times a power of ten. */
function niceTop(most: number): number {
  if (most <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 3, 5, 10].map((factor) => factor * power).find((top) => top >= most) ?? most;
}

function numberOf(value: number): string {
  return value >= 1_000 ? `${Number((value / 1_000).toPrecision(3))}k` : String(Number(value.toPrecision(3)));
}

function text(x: number, y: number, words: string, kind: string, more = ""): string {
  return `<text class="${kind}" x="${round(x)}" y="${round(y)}" ${more}>${escaped(words)}</text>`;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

function escaped(words: string): string {
  return words
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;");
}
