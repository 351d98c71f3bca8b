/**
 * Writes docs/openapi.json, and the list of routes in docs/api.md, from the routes of the code.
 *
 *   node scripts/docs-api.ts [--check]
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { apiRoutes, openApiDocument } from "../src/server/api/openapi.ts";
import { writePage } from "./write-page.ts";

const docs = join(import.meta.dirname, "../docs");
const [begin, end] = ["<!-- routes: written by scripts/docs-api.ts -->", "<!-- routes: end -->"];

const packageFile = join(import.meta.dirname, "../package.json");
const { version } = JSON.parse(readFileSync(packageFile, "utf8")) as { version: string };

/** What each page has to be, by its file's name. */
export function wantedApiPages(): ReadonlyMap<string, string> {
  const page = readFileSync(join(docs, "api.md"), "utf8");
  const [head = "", rest = ""] = page.split(begin);
  const tail = rest.split(end)[1] ?? "";
  const rows = apiRoutes.map(
    ({ method, path, role, summary }) =>
      `| \`${method} ${path.replaceAll(/:(\w+)/g, "{$1}")}\` | ${role} | ${summary} |`,
  );
  const table = ["| request, below `/api/v1` | role | |", "| --- | --- | --- |", ...rows].join("\n");
  return new Map([
    ["openapi.json", `${JSON.stringify(openApiDocument(version), null, 2)}\n`],
    ["api.md", `${head}${begin}\n\n${table}\n\n${end}${tail}`],
  ]);
}

if (import.meta.main) {
  for (const [name, text] of wantedApiPages()) writePage(join(docs, name), text, "the code");
}
