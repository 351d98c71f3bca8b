import { existsSync, globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

const root = join(import.meta.dirname, "..");
/** What was true at its time stays as it was written. */
const pages = globSync(["*.md", "docs/*.md", "packages/*/*.md"], { cwd: root }).filter(
  (page) => page !== "CHANGELOG.md",
);

test.each(pages)("every file of the tree that %s names is there", (page) => {
  const text = readFileSync(join(root, page), "utf8");
  const named = [...text.matchAll(/`((?:src|test|bench|packages|scripts|guest)\/[\w./-]*[\w/])`/g)];

  expect(named.map(([, path = ""]) => path).filter((path) => !existsSync(join(root, path)))).toEqual([]);
});
