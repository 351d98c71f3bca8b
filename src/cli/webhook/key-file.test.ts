import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Secret } from "../../base/secret.ts";
import { prepareKeyFile } from "./key-file.ts";

let directory: string;
let path: string;
let made: number;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "fr-key-"));
  path = join(directory, "hook.key");
  made = 0;
});

afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

/** Each key bears the next number. */
async function prepare(rotate = false) {
  const newKey = () => new Secret(keyOf(++made));
  return await prepareKeyFile(path, { rotate, newKey, ownerOf: directory });
}

function keyOf(number: number): string {
  return `whsec_${number}`;
}

test("a missing key is made, for its owner alone and with nothing beside it", async () => {
  expect(await prepare()).toBe("made");

  expect(await readFile(path, "utf8")).toBe(`${keyOf(1)}\n`);
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  expect(await readdir(directory)).toEqual(["hook.key"]);
});

test("a key that is there stays as it is", async () => {
  await writeFile(path, "whsec_mine\n");

  expect(await prepare()).toBe("kept");
  expect(await readFile(path, "utf8")).toBe("whsec_mine\n");
});

test("a rotation keeps the newest key, and none that are older", async () => {
  await prepare();
  await prepare(true);

  expect(await prepare(true)).toBe("rotated");
  expect(await readFile(path, "utf8")).toBe(`${keyOf(3)}\n${keyOf(2)}\n`);
});

test("a place that cannot be written is named, with what to do", async () => {
  path = join(directory, "nowhere", "hook.key");

  await expect(prepare()).rejects.toMatchObject({
    code: "cli_key_file",
    message: expect.stringContaining("does not exist"),
    hint: expect.stringContaining(join(directory, "nowhere")),
  });

  path = join(directory, "taken");
  await mkdir(path);
  await expect(prepare()).rejects.toMatchObject({ code: "cli_key_file" });
});
