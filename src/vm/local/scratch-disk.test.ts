import { mkdtemp, open, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { makeScratchDisk } from "./machine-directory.ts";
import { findProgram } from "./processes.ts";

describe("a scratch disk", async () => {
  let directory: string;
  const mkfs = (await findProgram("mkfs.ext4")) ?? "";
  const signal = new AbortController().signal;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "fr-disk-"));
  });

  afterEach(() => rm(directory, { recursive: true }));

  test("is a sparse ext4 of the size asked, labelled scratch", async () => {
    const path = join(directory, "scratch.img");
    await writeFile(path, "what an earlier try left");

    await makeScratchDisk({ path, sizeMib: 1_024, mkfs, minFreeMib: 1 }, signal);

    const { size, blocks, mode } = await stat(path);
    const file = await open(path);
    const superblock = Buffer.alloc(1_024);
    await file.read(superblock, 0, 1_024, 1_024).finally(() => file.close());
    expect(size).toBe(1_024 * 1024 ** 2);
    expect(blocks * 512).toBeLessThan(32 * 1024 ** 2);
    expect(mode & 0o777).toBe(0o600);
    expect(superblock.readUInt16LE(0x38)).toBe(0xef53);
    expect(superblock.toString("latin1", 0x78, 0x7f)).toBe("scratch");
    const hasJournal = superblock.readUInt32LE(0x5c) & 0x4;
    expect(hasJournal).toBe(0);
  });

  test("is refused while there is no room for it, which may change", async () => {
    const path = join(directory, "scratch.img");
    const huge = 1024 ** 3;

    const made = makeScratchDisk({ path, sizeMib: huge, mkfs, minFreeMib: huge }, signal);

    await expect(made).rejects.toMatchObject({ code: "vm_disk_full", retryable: true });
    await expect(stat(path)).rejects.toThrow();
  });

  test("says what failed when it cannot be made", async () => {
    const path = join(directory, "scratch.img");

    const made = makeScratchDisk({ path, sizeMib: 64, mkfs: "/bin/false", minFreeMib: 1 }, signal);

    await expect(made).rejects.toMatchObject({ code: "vm_create_failed" });
  });
});
