import { existsSync, readdirSync, truncateSync, writeFileSync } from "node:fs";
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { temporaryDirectory } from "../../test/builders/temporary-directory.ts";
import { createManualClock, type ManualClock } from "../base/manual-clock.ts";
import { MIB_BYTES, MINUTE_MS } from "../base/units.ts";
import { HEADER_BYTES } from "./cache-file.ts";
import { type LocalStorage, type LocalStorageOptions, openLocalStorage } from "./local-storage.ts";
import { type CacheId, digestOfKey } from "./rights.ts";
import { placeOf } from "./storage.ts";

let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let clock: ManualClock;
const signal = AbortSignal.timeout(60_000);

beforeEach(async () => {
  directory = await temporaryDirectory();
  clock = createManualClock();
});
afterEach(() => directory[Symbol.asyncDispose]());

async function opened(options: Partial<LocalStorageOptions> = {}): Promise<LocalStorage> {
  return await openLocalStorage({
    ...{ directory: directory.path, site: "gitlab.example.com", clock },
    ...{ sizeBytes: 100 * MIB_BYTES, projectSizeBytes: 100 * MIB_BYTES, minFreeBytes: 0 },
    ...options,
  });
}

function idOf(key: string, projectId = 7): CacheId {
  return { projectId, realm: "protected", digest: digestOfKey(key) };
}

async function put(storage: LocalStorage, key: string, content: Buffer | string, projectId = 7) {
  const bytes = Buffer.from(content);
  await storage.store(
    idOf(key, projectId),
    { key, bytes: bytes.length, body: Readable.from([bytes]) },
    signal,
  );
  await clock.advance(MINUTE_MS);
}

async function content(storage: LocalStorage, key: string, projectId = 7): Promise<string | undefined> {
  const object = await storage.find(idOf(key, projectId));
  const body = object && (await storage.read(object, { first: 0, last: object.bytes - 1 }));
  await clock.advance(MINUTE_MS);
  return body && (await buffer(body)).toString("utf8");
}

async function keysIn(storage: LocalStorage): Promise<(string | undefined)[]> {
  return (await storage.list({})).map(({ key }) => key).toSorted();
}

const pathOf = (id: CacheId) => join(directory.path, "gitlab.example.com", placeOf(id));
const workFiles = () => readdirSync(join(directory.path, "work"));
/** What is left of the room for `count` files of a MiB. */
const roomFor = (count: number) => count * (MIB_BYTES + HEADER_BYTES);
const mib = (letter: string) => Buffer.alloc(MIB_BYTES, letter);

describe("caches in a directory", () => {
  test("are there with their key and their times, also after a restart, and empty ones too", async () => {
    const storage = await opened();
    const key = `é "quoted" \\ ${"k".repeat(1_900)}`;
    await put(storage, key, "first");
    const storedAt = clock.now();
    await put(storage, key, "second");
    await put(storage, "empty", "");

    const again = await opened();
    expect([await content(again, key), await content(again, "empty")]).toEqual(["second", ""]);
    expect(await again.find(idOf(key))).toMatchObject({ key, bytes: 6, storedAt });
    expect(again.usedBytes()).toBe(2 * HEADER_BYTES + 6);
  });

  test("of another GitLab are other caches", async () => {
    await put(await opened(), "deps", "mine");

    expect(await content(await opened({ site: "gitlab.example.org" }), "deps")).toBeUndefined();
  });

  test("are given in parts", async () => {
    const storage = await opened();
    await put(storage, "deps", "0123456789");
    const object = await storage.find(idOf("deps"));
    const part = object && (await storage.read(object, { first: 3, last: 5 }));

    expect(part && (await buffer(part)).toString()).toBe("345");
  });

  test("being read stay whole when they are replaced or removed; what was found before is not mixed with what came after", async () => {
    const storage = await opened();
    await put(storage, "deps", mib("a"));
    const found = await storage.find(idOf("deps"));
    if (!found) throw new Error("it is not there");
    const reading = await storage.read(found, { first: 0, last: found.bytes - 1 });
    await put(storage, "deps", mib("b"));

    expect(await storage.read(found, { first: 0, last: 1 })).toBeUndefined();
    await storage.remove({ id: idOf("deps") });
    expect(reading && (await buffer(reading)).equals(mib("a"))).toBe(true);
    expect(await storage.find(idOf("deps"))).toBeUndefined();
  });

  test.each([
    ["is shorter than was said", 3, "ab"],
    ["is longer than was said", 1, "ab"],
  ])("whose body %s are not there, and leave nothing", async (_, bytes, text) => {
    const storage = await opened();
    await put(storage, "deps", "before");
    const body = Readable.from([Buffer.from(text)]);

    await expect(storage.store(idOf("deps"), { key: "deps", bytes, body }, signal)).rejects.toMatchObject({
      code: "cache_cut",
    });
    expect([await content(storage, "deps"), workFiles()]).toEqual(["before", []]);
  });

  test("whose upload is given up leave nothing, and their room is free again", async () => {
    const storage = await opened({ sizeBytes: roomFor(1), projectSizeBytes: roomFor(1) });
    const given = new AbortController();
    const body = new Readable({ read: () => {} });
    body.push(Buffer.alloc(1_000));
    const upload = storage.store(idOf("deps"), { key: "deps", bytes: MIB_BYTES, body }, given.signal);
    const settled = expect(upload).rejects.toThrow();
    await expect.poll(() => workFiles().length).toBe(1);
    await expect(put(storage, "other", mib("o"))).rejects.toMatchObject({ code: "cache_no_space" });
    given.abort();
    await settled;

    expect(workFiles()).toEqual([]);
    await put(storage, "other", mib("o"));
    expect(await keysIn(storage)).toEqual(["other"]);
  });

  test("of a process that died half way are swept by the next, and those of one that lives are not", async () => {
    await opened();
    const mine = join(directory.path, "work", `${process.pid}-1-1`);
    writeFileSync(join(directory.path, "work", "999999999-5-1"), "half");
    writeFileSync(mine, "half, of a process that had this one's number");
    const living = await opened();
    const body = new Readable({ read: () => {} });
    const given = new AbortController();
    const upload = living.store(idOf("deps"), { key: "deps", bytes: 10, body }, given.signal);
    const settled = expect(upload).rejects.toThrow();
    await expect.poll(() => workFiles().length).toBe(1);

    await opened();
    expect(workFiles()).toHaveLength(1);
    given.abort();
    await settled;
  });

  test("that are damaged are not there, and are removed", async () => {
    const storage = await opened();
    for (const key of ["cut", "rubbish", "link"]) await put(storage, key, "content");
    truncateSync(pathOf(idOf("cut")), HEADER_BYTES + 3);
    writeFileSync(pathOf(idOf("rubbish")), "x".repeat(HEADER_BYTES + 7));

    expect([await content(storage, "cut"), await content(storage, "rubbish")]).toEqual([
      undefined,
      undefined,
    ]);
    expect([existsSync(pathOf(idOf("cut"))), existsSync(pathOf(idOf("rubbish")))]).toEqual([false, false]);
    expect(await keysIn(storage)).toEqual(["link"]);
  });

  test("that another process removed are not there, and take up no room", async () => {
    const storage = await opened();
    await put(storage, "deps", "content");
    await rm(pathOf(idOf("deps")));

    expect(await content(storage, "deps")).toBeUndefined();
    expect(storage.usedBytes()).toBe(0);
  });

  test("are listed by project and by how long nobody used them", async () => {
    const storage = await opened();
    await put(storage, "old", "content");
    const since = clock.now();
    await put(storage, "new", "content", 8);
    await put(storage, "read", "content");
    expect(await content(storage, "read")).toBe("content");

    expect((await storage.list({ projectId: 8 })).map(({ key }) => key)).toEqual(["new"]);
    expect((await storage.list({ unusedSince: since })).map(({ key }) => key)).toEqual(["old"]);
    expect((await storage.list({})).map(({ key }) => key)).toEqual(["read", "new", "old"]);
  });
});

describe("room for caches", () => {
  test("is made by what was not used for longest, also after a restart", async () => {
    const limits = { sizeBytes: roomFor(3), projectSizeBytes: roomFor(3) };
    const storage = await opened(limits);
    for (const key of ["a", "b", "c"]) await put(storage, key, mib(key));
    await content(storage, "a");
    await put(storage, "d", mib("d"));
    expect(await keysIn(storage)).toEqual(["a", "c", "d"]);

    const again = await opened(limits);
    await put(again, "e", mib("e"));
    expect(await keysIn(again)).toEqual(["a", "d", "e"]);
  });

  test("of a project is made by its own caches, and of all by anybody's", async () => {
    const storage = await opened({ sizeBytes: roomFor(4), projectSizeBytes: roomFor(2) });
    await put(storage, "neighbour", mib("n"), 8);
    for (const key of ["a", "b", "c"]) await put(storage, key, mib(key));
    expect(await keysIn(storage)).toEqual(["b", "c", "neighbour"]);

    for (const key of ["x", "y"]) await put(storage, key, mib(key), 9);
    expect(await keysIn(storage)).toEqual(["b", "c", "x", "y"]);
  });

  test("is kept free on the disk, and when nothing is left to go, the cache is refused", async () => {
    let freeBytes = 10 * MIB_BYTES;
    const storage = await opened({ minFreeBytes: 5 * MIB_BYTES, freeBytes: async () => freeBytes });
    await put(storage, "a", mib("a"));
    freeBytes = 5 * MIB_BYTES;

    await expect(put(storage, "b", mib("b"))).rejects.toMatchObject({ code: "cache_no_space" });
    expect(await keysIn(storage)).toEqual([]);
  });

  test("is counted for uploads that are under way", async () => {
    const storage = await opened({ sizeBytes: roomFor(2), projectSizeBytes: roomFor(2) });
    const uploads = ["a", "b", "c"].map((key) => put(storage, key, mib(key)).catch((error) => error.code));

    expect((await Promise.all(uploads)).filter((code) => code === "cache_no_space")).toHaveLength(1);
    expect(storage.usedBytes()).toBe(roomFor(2));
  });

  test("is not made for a cache that is larger than all of it", async () => {
    const storage = await opened({ projectSizeBytes: roomFor(1) });
    await put(storage, "a", mib("a"));

    await expect(put(storage, "b", Buffer.alloc(2 * MIB_BYTES))).rejects.toMatchObject({
      code: "cache_too_large",
    });
    expect(await keysIn(storage)).toEqual(["a"]);
  });

  test("can be had back from outside, the least used first", async () => {
    const storage = await opened();
    for (const key of ["a", "b", "c"]) await put(storage, key, mib(key));

    expect(await storage.free(MIB_BYTES + 10)).toBe(roomFor(1));
    expect(await keysIn(storage)).toEqual(["b", "c"]);
    expect(await storage.free(10 * MIB_BYTES)).toBe(roomFor(2));
  });
});

test("a directory that cannot be used is named", async () => {
  await mkdir(join(directory.path, "cache"));
  writeFileSync(join(directory.path, "cache/work"), "no directory");

  await expect(opened({ directory: join(directory.path, "cache") })).rejects.toMatchObject({
    code: "cache_directory",
    message: expect.stringContaining(directory.path),
  });
});
