/** How `top` looks: the lines of a screen of so many columns and rows, from what is known. Pure. */
import { stripVTControlCharacters, styleText } from "node:util";
import { formatTable } from "../../base/table.ts";
import { cutToWidth, oneLine, visibleWidth } from "../../base/text.ts";
import { countsOf } from "../../views/status-facts.ts";
import { clockTime } from "../messages.ts";
import { columnsOf, type Row, type Snapshot, type Tone, viewNames } from "./rows.ts";
import { type Panel, selectedIndex, shownRows, type TopState } from "./state.ts";

export interface ScreenSize {
  readonly columns: number;
  readonly rows: number;
}

type Style = Parameters<typeof styleText>[0];

/** Above the list or text: what FireRunner does, the views, and an empty line. Below: what keys do. */
const HEAD_ROWS = 3;
const FOOT_ROWS = 1;
/** In front of the selected row, and as much room in front of the others. */
const MARK = "> ";
const NO_MARK = "  ";

const tones: Readonly<Record<Tone, Style | undefined>> = {
  ...{ good: "green", moving: "cyan", bad: "red", quiet: "dim" },
};

/** How many rows of a list, or lines of a text, there is room for. */
export function pageOf({ rows }: ScreenSize, panel: Panel | undefined): number {
  // A list has a line with its columns' titles.
  return Math.max(1, rows - HEAD_ROWS - FOOT_ROWS - (panel ? 0 : 1));
}

/** As many lines as there are rows, none wider than the screen. */
export function screenOf(state: TopState, size: ScreenSize, hasColours: boolean): string[] {
  const paint = (style: Style | undefined, text: string) =>
    hasColours && style !== undefined ? styleText(style, text, { validateStream: false }) : text;
  const body = state.panel ? panelLines(state.panel, size) : listLines(state, size, paint);
  const room = Math.max(0, size.rows - HEAD_ROWS - FOOT_ROWS);
  const middle = [
    ...body.slice(0, room),
    ...Array.from({ length: Math.max(0, room - body.length) }, () => ""),
  ];
  const lines = [
    headLine(state, paint),
    viewLine(state, paint),
    titleLine(state, paint),
    ...middle,
    footLine(state, paint),
  ];
  // On a screen that is too low the foot stays, and the end of the rest goes.
  const shown =
    lines.length > size.rows ? [...lines.slice(0, Math.max(0, size.rows - 1)), ...lines.slice(-1)] : lines;
  return shown.slice(-size.rows).map((line) => fitted(line, size.columns));
}

type Paint = (style: Style | undefined, text: string) => string;

/** A line that is too wide keeps its style where it has one for all of it. */
function fitted(line: string, columns: number): string {
  if (visibleWidth(line) <= columns) return line;
  const plain = stripVTControlCharacters(line);
  const cut = cutToWidth(plain, columns);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: it is how a style begins and ends
  const [, start, end] = /^(\u001b\[\d+m)[^\u001b]*(\u001b\[\d+m)$/.exec(line) ?? [];
  return start !== undefined && end !== undefined ? start + cut + end : cut;
}

function headLine({ snapshot, problem }: TopState, paint: Paint): string {
  if (problem !== undefined) return paint("red", oneLine(problem));
  if (!snapshot) return "FireRunner is being asked …";
  const { status, at } = snapshot;
  const { running, starting, waiting } = countsOf(status);
  const counts = `${running} running, ${starting} starting, ${waiting} waiting`;
  const [style, words] = modeWords(snapshot);
  return `${clockTime(at, at)}  ${paint(style, words)}  ${counts}  FireRunner ${oneLine(status.version)}`;
}

function modeWords({ status }: Snapshot): [Style, string] {
  if (status.gitlabProblem !== null) return ["red", "GitLab does not answer"];
  if (status.mode === "run") return ["green", "takes jobs"];
  return ["yellow", status.mode === "drain" ? "takes no new jobs" : "is ending"];
}

function viewLine({ view, snapshot, filter }: TopState, paint: Paint): string {
  const names = viewNames.map((name, at) => {
    const count = snapshot ? ` ${snapshot.rows[name].length}` : "";
    const text = `${at + 1} ${name}${count}`;
    return name === view ? paint("bold", `[${text}]`) : ` ${text} `;
  });
  return names.join("") + (filter === "" ? "" : `  /${filter}`);
}

function titleLine({ panel, snapshot, view }: TopState, paint: Paint): string {
  if (panel) return paint("bold", oneLine(panel.title));
  const problem = snapshot?.status.gitlabProblem ?? snapshot?.status.troubles[0];
  return problem && view !== "hosts" ? paint("yellow", `! ${oneLine(problem)}`) : "";
}

function listLines(state: TopState, size: ScreenSize, paint: Paint): string[] {
  const rows = shownRows(state);
  const at = selectedIndex(state, rows);
  if (at === undefined) return [NO_MARK + emptyWords(state)];
  const room = pageOf(size, undefined);
  const start = Math.max(0, Math.min(at - Math.floor(room / 2), rows.length - room));
  const shown = rows.slice(start, start + room);
  const cells = shown.map(({ cells }) => [...cells]);
  const [title = "", ...lines] = formatTable(columnsOf[state.view], cells, size.columns - MARK.length);
  const isOld = state.problem !== undefined;
  const rowLine = (row: Row | undefined, line: string, index: number) =>
    start + index === at
      ? paint("inverse", MARK + line)
      : paint(isOld ? "dim" : row && tones[row.tone], NO_MARK + line);
  return [paint("dim", NO_MARK + title), ...lines.map((line, index) => rowLine(shown[index], line, index))];
}

function emptyWords({ snapshot, view, filter }: TopState): string {
  if (!snapshot) return "";
  return filter === "" ? `No ${view} now.` : `No ${view} with “${filter}” (Esc shows all).`;
}

function panelLines(panel: Panel, size: ScreenSize): readonly string[] {
  const { lines, kind, offset } = panel;
  if (lines === undefined) return ["…"];
  const room = pageOf(size, panel);
  const start = kind === "log" ? Math.max(0, lines.length - room - offset) : offset;
  return lines.slice(start, start + room);
}

function footLine({ question, isTyping, filter, message, panel, view }: TopState, paint: Paint): string {
  if (question) return paint("bold", `${question.text} (y/n)`);
  if (isTyping) return `/${filter}_  Enter keeps it, Esc shows all`;
  if (message !== "") return paint("bold", oneLine(message));
  if (panel) return `q back  Up/Down PgUp/PgDn scroll${panel.kind === "details" ? "  l log" : ""}`;
  const drain = view === "hosts" ? "d drain host" : "d drain";
  return `q quit  Tab view  Enter why  l log  / filter  ${drain}`;
}
