import { readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { expect, test } from "vitest";
import { type LayerEntry, sha256Of, tarOf } from "../../../test/builders/layer.ts";
import { temporaryDirectory } from "../../../test/builders/temporary-directory.ts";
import { usualLimits, writeStore } from "./compose.ts";

/** `FIRERUNNER_FUZZED_LAYERS=10000` is the long form. */
const RUNS = Number(process.env["FIRERUNNER_FUZZED_LAYERS"] ?? 300);

const part = fc.constantFrom(
  "a",
  "b",
  "c",
  "..",
  ".",
  "",
  ".wh.a",
  ".wh..wh..opq",
  ".wh..",
  "é",
  "n".repeat(200),
  "\0",
);
const path = fc.array(part, { maxLength: 5 }).map((parts) => parts.join("/"));
const entry: fc.Arbitrary<LayerEntry> = fc.record(
  {
    path,
    type: fc.constantFrom(
      "0",
      "0",
      "1",
      "2",
      "3",
      "4",
      "5",
      "5",
      "6",
      "7",
      "S",
      "g",
      "x",
      "L",
      "K",
      "\0",
      "Z",
    ),
    content: fc.oneof(fc.string({ maxLength: 40 }), fc.constant("x".repeat(1_200))),
    target: path,
    mode: fc.integer({ min: 0, max: 0o7777 }),
    uid: fc.integer({ min: 0, max: 0o7777777 }),
    pax: fc.dictionary(
      fc.constantFrom(
        "path",
        "linkpath",
        "size",
        "uid",
        "mtime",
        "SCHILY.xattr.user.a",
        "GNU.sparse.map",
        "x",
      ),
      fc.oneof(path, fc.constantFrom("0", "7", "-1", "1e9", "99999999999999999999", "1.5")),
      { maxKeys: 2 },
    ),
  },
  { requiredKeys: ["path"] },
);
/** Honest entries with a few bytes changed. */
const archive = fc
  .tuple(fc.array(entry, { maxLength: 12 }), fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 3 }))
  .map(([entries, changes]) => {
    const bytes = tarOf(entries);
    for (const [at, byte] of changes) bytes[at % bytes.length] = byte;
    return bytes;
  });

test("whatever a layer is, it becomes an archive below its own directory, or is refused in words", {
  timeout: 3_600_000,
}, async () => {
  await using directory = await temporaryDirectory();
  const blob = join(directory.path, "blob");
  const document = { digest: sha256Of("{}"), body: Buffer.from("{}") };
  let accepted = 0;

  await fc.assert(
    fc.asyncProperty(archive, async (bytes) => {
      await writeFile(blob, bytes);
      const layers = [{ path: blob, digest: sha256Of("blob"), bytes: bytes.length, diffId: sha256Of(bytes) }];
      const image = { names: ["x"], manifest: document, config: document, layers };
      const out: Buffer[] = [];
      const write = async (pieces: readonly Buffer[]) => void out.push(...pieces);
      const spool = join(directory.path, "spool");
      try {
        await writeStore({ ...image, limits: usualLimits, spool }, write);
        accepted += 1;
      } catch (error) {
        expect(error).toMatchObject({ code: "container_layer_refused" });
      }
      for (const name of namesIn(Buffer.concat(out))) {
        expect(name).toMatch(/^overlay(-images|-layers|\/l)?(\/|$)/);
        expect(name.split("/")).not.toContain("..");
      }
      expect(await readdir(directory.path)).toEqual(["blob"]);
    }),
    { numRuns: RUNS },
  );

  // Else only refusals would have been tried.
  expect(accepted).toBeGreaterThan(RUNS / 50);
});

/** Of all entries, by a reader that believes what it is told; a size that lies would make it read content as headers. */
function namesIn(archive: Buffer): string[] {
  const names: string[] = [];
  let long: string | undefined;
  for (let at = 0; at + 512 <= archive.length && archive[at] !== 0; ) {
    const block = archive.subarray(at, at + 512);
    const size = Number.parseInt(block.toString("latin1", 124, 135), 8);
    expect(block.toString("latin1", 257, 262)).toBe("ustar");
    const body = archive.toString("latin1", at + 512, at + 512 + size);
    if (block[156] === 0x78) long = /\d+ path=([^\n]*)\n/.exec(body)?.[1];
    else {
      names.push(long ?? block.toString("latin1", 0, 100).replace(/\0.*$/s, ""));
      long = undefined;
    }
    at += 512 + Math.ceil(size / 512) * 512;
  }
  return names;
}
