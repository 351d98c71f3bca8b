/** How scripts write what they make: to its file, or with `--check` held against what is there. */
import { readFileSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";

const root = join(import.meta.dirname, "..");

/** `source`: what it is made from, in words. With `--check` a file that is behind is told of, and the script fails at its end. */
export function writePage(path: string, wanted: string, source: string): void {
  if (!process.argv.includes("--check")) {
    writeFileSync(path, wanted);
  } else if (readFileSync(path, "utf8") !== wanted) {
    console.error(`${relative(root, path)} is behind ${source}: run npm run docs`);
    process.exitCode = 1;
  }
}
