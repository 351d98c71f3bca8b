import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, test } from "vitest";

const run = promisify(execFile);

test("a dump of the program or of what it starts holds no memory", async () => {
  const module = new URL("./process.ts", import.meta.url).href;
  const script = `
    import { execFileSync } from "node:child_process";
    import { readFileSync } from "node:fs";
    import { keepMemoryOutOfDumps } from "${module}";
    const before = readFileSync("/proc/self/coredump_filter", "utf8").trim();
    await keepMemoryOutOfDumps();
    console.log([before, readFileSync("/proc/self/coredump_filter", "utf8").trim(),
      execFileSync("cat", ["/proc/self/coredump_filter"], { encoding: "utf8" }).trim()].join(" "));`;

  const { stdout } = await run(process.execPath, ["--input-type=module", "-e", script]);

  const [before, after, child] = stdout
    .trim()
    .split(" ")
    .map((text) => Number.parseInt(text, 16));
  expect(before).toBeGreaterThan(0);
  expect([after, child]).toEqual([0, 0]);
});

test("the command leaves no dumps", async () => {
  const text = await readFile(fileURLToPath(new URL("../../bin/firerunner", import.meta.url)), "utf8");

  expect(text.indexOf("ulimit -c 0")).toBeGreaterThan(0);
  expect(text.indexOf("ulimit -c 0")).toBeLessThan(text.indexOf("exec "));
});
