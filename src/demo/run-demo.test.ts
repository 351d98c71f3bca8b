import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { storeImage } from "../../test/builders/stored-image.ts";
import { unbroken } from "../../test/harness/unbroken.ts";
import { run } from "../base/process.ts";
import { type DemoOptions, runDemo } from "./run-demo.ts";
import { processesNaming } from "./workspace.ts";

let directory: string;
let printed: string[];
let results: string[];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "fr-test-"));
  printed = [];
  results = [];
});

afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

function options(more: Partial<DemoOptions> = {}): DemoOptions {
  return {
    executable: [process.execPath, join(import.meta.dirname, "../../test/programs/firerunner-double.ts")],
    imagesDirectory: join(directory, "images"),
    temporaryDirectory: directory,
    results: { write: (text) => results.push(text) },
    progress: { write: (text) => printed.push(text) },
    json: true,
    cpus: 2,
    freeMemoryMib: 4_096,
    signal: new AbortController().signal,
    ...more,
  };
}

/** What “image build” leaves, which the double does not do: the demo makes an image for its jobs of it. */
async function storeBase(): Promise<void> {
  await storeImage(join(directory, "images"), "base", { kernel: Buffer.from("kernel") });
}

async function leftInDirectory(): Promise<string[]> {
  return (await readdir(directory)).filter((name) => name.startsWith("fr-demo-"));
}

async function aRepository(file: string): Promise<string> {
  const repo = join(directory, "My App");
  await mkdir(repo);
  await writeFile(join(repo, ".gitlab-ci.yml"), file);
  await run("git", ["init", "--quiet", "--initial-branch=trunk", repo]);
  await run("git", ["-C", repo, "add", "."]);
  const author = ["-c", "user.name=a", "-c", "user.email=a@example.com"];
  await run("git", ["-C", repo, ...author, "commit", "--quiet", "-m", "Start"]);
  return repo;
}

test("every job of the demo ends as it must, and nothing is left", async () => {
  await storeBase();
  const code = await runDemo(options());
  const result = JSON.parse(results.join(""));

  expect(
    result.jobs.map(({ name, result: end }: { name: string; result: string }) => `${name}: ${end}`),
  ).toEqual([
    "build: success",
    "use: success",
    "in-image: success",
    "fails: failed (script_failure, exit code 3)",
    "cancelled: canceled",
    "killed: failed (runner_system_failure)",
    "small: success",
    "large: success",
  ]);
  expect(result.violations).toEqual([]);
  expect([code, result.ok, result.leftovers]).toEqual([0, true, []]);
  expect(printed.join("")).toMatch(/killed +│ working 1/);
  expect(printed.join("")).toMatch(/the demo kills machine fr-aaaaaaa[a-p] of killed/);
  expect(await leftInDirectory()).toEqual([]);
  expect(await processesNaming(directory)).toEqual([]);
});

test("prints a table for people", async () => {
  await storeBase();
  const code = await runDemo(options({ json: false, keep: true }));
  const text = results.join("");

  expect(text).toMatch(/✓ +fails +failed .*\n +script_failure, exit code 3; as expected\n/);
  expect(
    text.split("\n").filter((line) => line.length > 80 && !line.includes(" │ ") && !line.includes(directory)),
  ).toEqual([]);
  expect(text).toContain("nothing is left of any machine");
  expect([code, (await leftInDirectory()).length]).toEqual([0, 1]);
});

test("a user's own repository is run as it is committed, with its result as it is", async () => {
  const repo = await aRepository("job:\n  tags: [special]\n  secrets: {}\n  script: [exit 3]\n");
  const code = await runDemo(options({ repo }));
  const result = JSON.parse(results.join(""));

  expect([code, result.jobs[0].result, result.jobs[0].expected]).toEqual([
    1,
    "failed (script_failure, exit code 3)",
    null,
  ]);
  expect(printed.join("")).toContain("project local/my-app");
  expect(printed.join("")).toContain(
    ".gitlab-ci.yml:3: “secrets” is not known to the stand-in and left out (“job”)",
  );
});

test("what GitLab would not start is not started, and the summary says what became of the rest", async () => {
  const repo = await aRepository(`good: { script: [exit 0] }
may: { script: [exit 3], allow_failure: true }
by-hand: { script: x, when: manual }
deploy: { script: x, rules: [{ if: $CI_COMMIT_TAG }, { when: never }] }
`);
  const code = await runDemo(options({ repo, json: false }));
  const text = results.join("");

  expect(code).toBe(0);
  expect(text).toMatch(/✓ +good +success/);
  expect(text).toMatch(/! +may +failed +as it may/);
  expect(text).toMatch(/▷ +by-hand +manual +not started/);
  expect(text).toContain("by rules, only or except: “deploy”");
  expect(unbroken(text)).toContain(
    "✓ The pipeline succeeded: 2 jobs ran; “may” failed, as it may; “by-hand” would be started by hand.",
  );
});

test("a pipeline without jobs is said in a sentence, and is no success", async () => {
  const code = await runDemo(
    options({ repo: await aRepository("job: { script: x, only: [tags] }\n"), json: false }),
  );

  expect(code).toBe(1);
  expect(results.join("")).toContain("✗ No job ran: the rules of its jobs start none of them");
});

test.each([
  ["no repository", "/nowhere/at/all", /could not be read as a Git repository/],
  ["no .gitlab-ci.yml", undefined, /has no \.gitlab-ci\.yml/],
])("says what is wrong with --repo before an image is built: %s", async (_name, path, message) => {
  const repo = path ?? (await aRepository("x"));
  if (!path) {
    await run("git", ["-C", repo, "mv", ".gitlab-ci.yml", "other.yml"]);
    await run("git", [
      "-C",
      repo,
      "-c",
      "user.name=a",
      "-c",
      "user.email=a@example.com",
      "commit",
      "--quiet",
      "-m",
      "x",
    ]);
  }

  await expect(runDemo(options({ repo }))).rejects.toThrow(message);
  expect(printed.join("")).not.toContain("Image:");
  expect(await leftInDirectory()).toEqual([]);
});

test("an interruption ends everything it started", async () => {
  const stop = new AbortController();
  const write = (text: string) => {
    if (text.includes("working 1")) stop.abort(new Error("interrupted"));
  };

  await expect(runDemo(options({ progress: { write }, signal: stop.signal }))).rejects.toThrow();
  expect(await leftInDirectory()).toEqual([]);
  expect(await processesNaming(directory)).toEqual([]);
});

test("a program that ends at once is reported with its log", async () => {
  await storeBase();
  const program = join(directory, "broken.mjs");
  await writeFile(
    program,
    'if (process.argv[2] === "start") { console.log("no such file"); process.exit(3); }',
  );

  await expect(runDemo(options({ executable: [process.execPath, program] }))).rejects.toThrow(
    "“firerunner start” ended with 3",
  );
  expect(printed.join("")).toContain("no such file");
});

test("a failed image build ends the demo before anything else", async () => {
  const program = join(directory, "broken.mjs");
  await writeFile(program, "process.exit(7)");

  await expect(runDemo(options({ executable: [process.execPath, program] }))).rejects.toThrow(
    "“firerunner image build” ended with 7",
  );
  expect(existsSync(join(directory, "images"))).toBe(false);
});
