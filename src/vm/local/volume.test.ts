import { mkdir, open, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { temporaryDirectory } from "../../../test/builders/temporary-directory.ts";
import { diskUses, freeForDisks, freeMib } from "./capacity.ts";

const MIB = 1024 ** 2;

test("a sparse disk takes up what was written of it, and the room for disks does not shrink by that", async () => {
  await using directory = await temporaryDirectory();
  const machines = directory.path;
  for (const id of ["fr-aaaaaaaa", "fr-bbbbbbbb"]) await mkdir(join(machines, id));
  const disk = await open(join(machines, "fr-aaaaaaaa", "scratch.img"), "w");
  await disk.truncate(64 * MIB);
  const before = await freeForDisks(machines, "scratch.img");
  const empty = await diskUses(machines, "scratch.img");

  await disk.write(Buffer.alloc(32 * MIB, 1));
  await disk.sync();
  await disk.close();
  await writeFile(join(machines, "fr-bbbbbbbb", "other"), Buffer.alloc(MIB));

  const written = await diskUses(machines, "scratch.img");
  expect(empty.get("fr-aaaaaaaa")?.writtenMib).toBeLessThan(1);
  expect([...written.keys()]).toEqual(["fr-aaaaaaaa"]);
  expect(written.get("fr-aaaaaaaa")?.sizeMib).toBe(64);
  expect(written.get("fr-aaaaaaaa")?.writtenMib).toBeGreaterThanOrEqual(32);
  expect(written.get("fr-aaaaaaaa")?.writtenMib).toBeLessThan(34);
  expect(await freeMib(machines)).toBeGreaterThan(0);
  // Others use the volume meanwhile: what they do is not held against this.
  expect(Math.abs((await freeForDisks(machines, "scratch.img")) - before)).toBeLessThan(2_048);
});
