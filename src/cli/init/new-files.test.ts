import { chmod, mkdir, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { temporaryDirectory } from "../../../test/builders/temporary-directory.ts";
import { tryFiles, writeFiles } from "./new-files.ts";

let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
const at = (name: string) => join(directory.path, name);

beforeEach(async () => {
  directory = await temporaryDirectory();
});

afterEach(async () => {
  await directory[Symbol.asyncDispose]();
});

test("files appear whole, with their modes, and nothing beside them", async () => {
  await writeFile(at("old"), "before", { mode: 0o644 });

  await writeFiles([
    { path: at("old"), text: "after", mode: 0o600 },
    { path: at("new/deep/config"), text: "config", mode: 0o644 },
  ]);

  expect(await readFile(at("old"), "utf8")).toBe("after");
  expect((await stat(at("old"))).mode & 0o777).toBe(0o600);
  expect((await readdir(directory.path, { recursive: true })).toSorted()).toEqual([
    "new",
    "new/deep",
    "new/deep/config",
    "old",
  ]);
});

test("where one cannot be written none is, and the error names it", async () => {
  await writeFile(at("file"), "no directory");

  await expect(
    writeFiles([
      { path: at("secret"), text: "PLANTED", mode: 0o600 },
      { path: at("file/config"), text: "config", mode: 0o644 },
    ]),
  ).rejects.toMatchObject({ code: "cli_init_file", message: expect.stringContaining("file/config") });
  expect(await readdir(directory.path)).toEqual(["file"]);
});

test("where the last one cannot take its place those before it go again", async () => {
  await mkdir(at("config"));
  await writeFile(at("config/inside"), "");
  await chmod(at("config"), 0o755);

  await expect(
    writeFiles([
      { path: at("secret"), text: "PLANTED", mode: 0o600 },
      { path: at("config"), text: "config", mode: 0o644 },
    ]),
  ).rejects.toMatchObject({ code: "cli_init_file" });
  expect(await readdir(directory.path)).toEqual(["config"]);
});

test("files are tried as a configuration before any of them is written", async () => {
  const config = (text: string) => ({ path: at("c.yaml"), text, mode: 0o644 });
  const good = "gitlab: { url: https://gitlab.example.org }\nwebhook: { group: g, apiTokenFile: t }\n";
  const token = { path: at("t"), text: "glpat-x", mode: 0o600 };

  await tryFiles(at("c.yaml"), [token, config(good)]);
  await expect(tryFiles(at("c.yaml"), [config(good)])).rejects.toThrow("t does not exist");
  await expect(tryFiles(at("c.yaml"), [token, config(`${good}nonsense: 1`)])).rejects.toThrow("unknown key");
  expect(await readdir(directory.path)).toEqual([]);
});
