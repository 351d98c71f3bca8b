/**
 * Writes docs/errors.md from the codes in the modules' errors.ts and the comments above them. `--check` writes nothing and
 * fails when the page is behind.
 *
 *   node scripts/docs-errors.ts [--check]
 */
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { FireRunnerError } from "../src/base/errors.ts";
import { exitCodeOf } from "../src/cli/errors.ts";
import { advice, meanings } from "./error-advice.ts";
import { writePage } from "./write-page.ts";

const root = join(import.meta.dirname, "..");
const page = join(root, "docs/errors.md");

export interface ErrorEntry {
  readonly code: string;
  readonly module: string;
  readonly meaning: string;
}

const head = `# Errors

<!-- Written by scripts/docs-errors.ts (npm run docs). Change the comments beside the codes, not this page. -->

Every error says what was being done, what went wrong, and what to do (the line after \`→\`). Its code is stable; \`--json\` prints
\`{code, message, hint}\` on the standard error. *Exit* is what a command ends with.
`;

/** The codes of a source file: those of its unions, with their comments, and those thrown by name. */
export function codesIn(path: string, text: string): ErrorEntry[] {
  const module = path.split("/")[1] ?? path;
  const union = /\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\s*\|\s*"([a-z_]+)"/g;
  const listed = path.endsWith("errors.ts")
    ? [...text.matchAll(union)].map(([, comment = "", code = ""]) => ({
        code,
        module,
        meaning: words(comment),
      }))
    : [];
  const thrown = [...text.matchAll(/(?:new FireRunnerError|super)\(\s*"([a-z]+_[a-z_]+)"/g)].map(
    ([, code = ""]) => ({
      code,
      module,
      meaning: meanings[code] ?? "",
    }),
  );
  return [...listed, ...thrown];
}

function words(comment: string): string {
  return comment.replace(/\s*\n\s*\*\s?/g, " ").trim();
}

export function collectErrors(): ErrorEntry[] {
  const files = globSync("{src,packages/*/src}/**/*.ts", { cwd: root }).filter(
    (file) => !file.endsWith(".test.ts"),
  );
  const all = files.flatMap((file) => codesIn(file, readFileSync(join(root, file), "utf8")));
  const unique = new Map(all.map((entry) => [entry.code, entry]));
  return [...unique.values()].toSorted((a, b) => a.code.localeCompare(b.code));
}

export function renderErrors(entries: readonly ErrorEntry[]): string {
  const rows = entries.map(({ code, module, meaning }) => {
    const exit = exitCodeOf(new FireRunnerError(code, ""));
    return `| <span id="${code}">\`${code}\`</span> | ${module} | ${meaning} | ${advice[code] ?? ""} | ${exit} |`;
  });
  return [
    head,
    "| code | module | what it means | what to do | exit |",
    "| --- | --- | --- | --- | --- |",
    ...rows,
    "",
  ].join("\n");
}

if (import.meta.main) {
  writePage(page, renderErrors(collectErrors()), "the codes");
}
