import { randomBytes } from "node:crypto";
import { chmod, mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createKey, readKey } from "./installation-key.ts";

describe("key file", () => {
  let directory: string;
  let path: string;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "fr-key-"));
    path = join(directory, "key");
  });
  afterEach(() => rm(directory, { recursive: true, force: true }));

  test("a new key is 32 bytes, for the owner alone, and read back", async () => {
    const key = await createKey(path, randomBytes);

    expect(key).toHaveLength(32);
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    expect(Buffer.from((await readKey(path)) ?? []).equals(key)).toBe(true);
    expect(await readdir(directory)).toEqual(["key"]);
  });

  test("what a crash left of making a key is no key and is not in the way", async () => {
    await writeFile(`${path}.new`, "half", { mode: 0o644 });

    expect(await readKey(path)).toBeUndefined();
    await createKey(path, randomBytes);

    expect((await stat(path)).mode & 0o777).toBe(0o600);
    expect(await readKey(path)).toHaveLength(32);
  });

  test("a key that others can read is refused, with what to do", async () => {
    await createKey(path, randomBytes);
    await chmod(path, 0o604);

    await expect(readKey(path)).rejects.toMatchObject({
      code: "store_key",
      message: expect.stringContaining("everyone on this computer may read it"),
      hint: expect.stringContaining(`chmod 600 ${path}`),
    });
  });

  test("a key that others could have put there is refused, with what to do", async () => {
    await createKey(path, randomBytes);
    await chmod(path, 0o620);
    await expect(readKey(path)).rejects.toMatchObject({
      code: "store_key",
      hint: expect.stringContaining(`chmod go-w ${path}`),
    });

    await chmod(path, 0o600);
    await chmod(directory, 0o777);
    await expect(readKey(path)).rejects.toMatchObject({
      code: "store_key",
      hint: expect.stringContaining(`chmod go-w ${directory}`),
    });
  });

  test("a key of zeros is none", async () => {
    await writeFile(path, Buffer.alloc(32), { mode: 0o600 });

    await expect(readKey(path)).rejects.toMatchObject({
      code: "store_key",
      message: expect.stringContaining("all of its bytes are zero"),
    });
  });

  test("a key of another length is refused", async () => {
    await writeFile(path, "too short", { mode: 0o600 });

    await expect(readKey(path)).rejects.toMatchObject({
      code: "store_key",
      message: expect.stringContaining("9 bytes"),
    });
  });

  test("something that cannot be read is refused", async () => {
    const key = join(directory, "directory");
    await createKey(path, randomBytes);

    await expect(readKey(join(path, "below-a-file"))).rejects.toMatchObject({ code: "store_key" });
    await expect(createKey(join(key, "key"), randomBytes)).rejects.toMatchObject({ code: "store_key" });
  });
});
