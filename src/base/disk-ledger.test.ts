import { expect, test } from "vitest";
import { temporaryDirectory } from "../../test/builders/temporary-directory.ts";
import { createDiskLedger, type DiskCache, freeBytesOf } from "./disk-ledger.ts";
import { MIB_BYTES } from "./units.ts";

const GIB_BYTES = 1_024 * MIB_BYTES;

/** Says that it has so much, and remembers what it is asked to give. */
function aCache(name: string, directory: string, evictableBytes: number) {
  const asked: number[] = [];
  const cache: DiskCache = {
    ...{ name, directory },
    use: async () => ({ usedBytes: 2 * evictableBytes, evictableBytes }),
    async evict(bytes) {
      asked.push(bytes);
      return 0;
    },
  };
  return { cache, asked };
}

test("caches on a volume count as free there, and give way in their order", async () => {
  await using here = await temporaryDirectory();
  const ledger = createDiskLedger();
  const first = aCache("first", here.path, GIB_BYTES);
  const second = aCache("second", here.path, 2 * GIB_BYTES);
  const elsewhere = aCache("elsewhere", "/proc", GIB_BYTES);
  const gone = aCache("gone", "/nowhere/at/all", GIB_BYTES);
  const broken: DiskCache = {
    ...aCache("broken", here.path, 0).cache,
    use: () => Promise.reject(new Error("damaged")),
  };
  for (const { cache } of [first, elsewhere, gone, second]) ledger.add(cache);
  ledger.add(broken);

  expect(await ledger.evictableBytes(here.path)).toBe(3 * GIB_BYTES);
  const free = await freeBytesOf(here.path);
  await ledger.makeFree(here.path, free / 2);
  expect([first.asked, second.asked]).toEqual([[], []]);
  const left = await ledger.makeFree(here.path, free + 100 * GIB_BYTES);

  // Others write on the volume meanwhile.
  for (const [bytes] of [first.asked, second.asked])
    expect(Math.abs((bytes ?? 0) - 100 * GIB_BYTES)).toBeLessThan(20 * GIB_BYTES);
  expect([elsewhere.asked, gone.asked]).toEqual([[], []]);
  expect(left).toBeLessThan(free + 100 * GIB_BYTES);
  expect((await ledger.uses()).map(({ name, usedBytes }) => [name, usedBytes / GIB_BYTES])).toEqual([
    ["first", 2],
    ["elsewhere", 2],
    ["gone", 2],
    ["second", 4],
    ["broken", 0],
  ]);
});
