/**
 * Writes the state diagrams in ARCHITECTURE.md from the tables in domain/states.ts, between two markers; everything
 * else on the page is left alone. `--check` writes nothing and fails when the page is behind the tables.
 *
 *   node scripts/docs-states.ts [--check]
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { jobMoves, machineMoves, runnerMoves } from "../src/domain/states.ts";
import { writePage } from "./write-page.ts";

const page = join(import.meta.dirname, "../ARCHITECTURE.md");

const BEGIN = "<!-- states: written by scripts/docs-states.ts -->";
const END = "<!-- states: end -->";

type Moves = Readonly<Record<string, readonly string[]>>;

/** A table of moves as a mermaid diagram. The first state is where all begins; states without moves are where all ends. */
export function renderDiagram(moves: Moves): string {
  const states = Object.keys(moves);
  const arrows = states.flatMap((from) => {
    const targets = moves[from] ?? [];
    return targets.length === 0 ? [`${from} --> [*]`] : targets.map((to) => `${from} --> ${to}`);
  });
  const lines = ["stateDiagram-v2", ...[`[*] --> ${states[0]}`, ...arrows].map((line) => `    ${line}`)];
  return ["```mermaid", ...lines, "```"].join("\n");
}

/** The page with its marked block brought up to date; a page without markers gets the block at its end. */
export function withDiagrams(text: string): string {
  const block = [
    BEGIN,
    "A job:",
    renderDiagram(jobMoves),
    "A machine:",
    renderDiagram(machineMoves),
    "A GitLab runner of FireRunner's making:",
    renderDiagram(runnerMoves),
    END,
  ].join("\n\n");
  const start = text.indexOf(BEGIN);
  const end = text.indexOf(END, start);
  if (start === -1 || end === -1) return `${text.trimEnd()}\n\n${block}\n`;
  return text.slice(0, start) + block + text.slice(end + END.length);
}

if (import.meta.main) {
  writePage(page, withDiagrams(readFileSync(page, "utf8")), "src/domain/states.ts");
}
