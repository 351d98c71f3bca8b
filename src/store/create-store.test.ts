import { mkdtemp, readdir, readFile, readlink, rename, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { aClaim } from "../../test/builders/job.ts";
import { aNewMachine } from "../../test/builders/machine.ts";
import { aGivenRunner, aNewRunner } from "../../test/builders/managed-runner.ts";
import { systemClock } from "../base/clock.ts";
import { silentLog } from "../base/log.ts";
import { Secret } from "../base/secret.ts";
import { createStore } from "./create-store.ts";
import { openStoreReadOnly } from "./reads.ts";
import { sqliteDialect } from "./sqlite.ts";
import type { Store } from "./store.ts";

describe("store on disk", () => {
  let directory: string;
  let database: string;
  let keyFile: string;
  const open: Store[] = [];

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "fr-store-"));
    database = join(directory, "firerunner.db");
    keyFile = join(directory, "key");
  });
  afterEach(async () => {
    for (const store of open.splice(0)) await store.close();
    await rm(directory, { recursive: true, force: true });
  });

  async function openStore(): Promise<Store> {
    const store = await createStore({ database, keyFile, clock: systemClock, log: silentLog });
    open.push(store);
    return store;
  }

  async function closeStore(): Promise<void> {
    await open.pop()?.close();
  }

  /** Everything that lies in the state directory, as one text. */
  async function allBytes(): Promise<string> {
    const names = await readdir(directory);
    const files = await Promise.all(names.map((name) => readFile(join(directory, name), "latin1")));
    return files.join("");
  }

  test("every file is for the owner alone", async () => {
    const store = await openStore();
    await store.claim(aClaim());

    for (const name of await readdir(directory)) {
      expect([name, (await stat(join(directory, name))).mode & 0o777]).toEqual([name, 0o600]);
    }
  });

  test("no secret of a payload is ever on the disk, and its sealed bytes are gone after the end", async () => {
    const store = await openStore();
    await store.claim(aClaim());
    const running = await allBytes();
    const db = new DatabaseSync(database, { readOnly: true });
    const { sealed } = db.prepare("select sealed from payloads").get() as { sealed: Uint8Array };
    db.close();
    await store.finishJob(4711, "success");
    await closeStore();

    expect(running).not.toMatch(/glcbt-|masked-secret-of-the-job|registry-password/);
    const tail = Buffer.from(sealed.subarray(-64)).toString("latin1");
    expect(running).toContain(tail);
    expect(await allBytes()).not.toContain(tail);
  });

  test("a claim that was answered is in the database of a process that was killed right after", async () => {
    const store = await openStore();
    await store.claim(aClaim());

    const reader = await openStoreReadOnly(database);

    expect(await reader.jobs({ unfinished: true })).toMatchObject([{ id: 4711, state: "claimed" }]);
    await reader.close();
  });

  test("a missing key is refused while payloads need it", async () => {
    await (await openStore()).claim(aClaim());
    await closeStore();
    await rename(keyFile, `${keyFile}.moved`);

    await expect(openStore()).rejects.toMatchObject({
      code: "store_key",
      message: expect.stringContaining("missing"),
      hint: expect.stringContaining("backup"),
    });
    expect(await readdir(directory)).not.toContain("key");
  });

  test("a missing key is made anew when no payload needs it", async () => {
    const store = await openStore();
    await store.claim(aClaim());
    await store.finishJob(4711, "success");
    await closeStore();
    await rm(keyFile);

    expect(await (await openStore()).job(4711)).toMatchObject({ state: "finished" });
  });

  test("another installation's key is refused", async () => {
    await (await openStore()).claim(aClaim());
    await closeStore();
    await writeFile(keyFile, Buffer.alloc(32, 7));

    await expect(openStore()).rejects.toMatchObject({
      code: "store_key",
      message: expect.stringContaining("not the one"),
    });
  });

  async function addRunner(store: Store, key: string, gitlabId: number): Promise<void> {
    await store.addRunner(aNewRunner({ key, pool: `tags:${key}` }));
    await store.activateRunner(key, aGivenRunner({ gitlabId }));
  }

  test("no runner's token is ever on the disk, and its sealed bytes are gone with the runner", async () => {
    const store = await openStore();
    await addRunner(store, "r-aaaaaaaa", 81);
    const db = new DatabaseSync(database, { readOnly: true });
    const { sealed } = db.prepare("select sealed from runner_tokens").get() as { sealed: Uint8Array };
    db.close();
    await store.replaceRunnerToken("r-aaaaaaaa", new Secret("glrt-token-of-the-runner-2"), null);
    const active = await allBytes();
    await store.retireRunner("r-aaaaaaaa", "unused");
    await store.markRunnerGone("r-aaaaaaaa");
    await closeStore();

    expect(active).not.toContain("glrt-token-of-the-runner");
    const tail = Buffer.from(sealed.subarray(-32)).toString("latin1");
    expect(active).toContain(tail);
    expect(await allBytes()).not.toContain(tail);
  });

  test.each([
    ["missing", () => rm(keyFile)],
    ["another installation's", () => writeFile(keyFile, Buffer.alloc(32, 7))],
  ])("with a key that is %s, runners are given up, and all else stays", async (_which, spoil) => {
    const store = await openStore();
    await addRunner(store, "r-aaaaaaaa", 81);
    await store.addRunner(aNewRunner({ key: "r-bbbbbbbb", pool: "tags:b" }));
    await closeStore();
    await spoil();

    const again = await openStore();

    expect(await again.runners()).toMatchObject([
      { key: "r-aaaaaaaa", state: "retiring", gitlabId: 81, reason: "its token cannot be read any more" },
      { key: "r-bbbbbbbb", state: "creating", reason: null },
    ]);
    expect(await again.runnerToken("r-aaaaaaaa")).toBeUndefined();
    expect((await again.events({})).at(-1)).toMatchObject({ kind: "runner:retiring" });
  });

  test("a key that unfinished jobs need is refused whatever the runners", async () => {
    const store = await openStore();
    await addRunner(store, "r-aaaaaaaa", 81);
    await store.claim(aClaim());
    await closeStore();
    await writeFile(keyFile, Buffer.alloc(32, 7));

    await expect(openStore()).rejects.toMatchObject({ code: "store_key" });
    const reader = await openStoreReadOnly(database);
    expect(await reader.runners()).toMatchObject([{ state: "active" }]);
    await reader.close();
  });

  test("one damaged token costs its runner alone; found while running, it is called damaged", async () => {
    const store = await openStore();
    await addRunner(store, "r-aaaaaaaa", 81);
    await addRunner(store, "r-bbbbbbbb", 82);
    const db = new DatabaseSync(database);
    db.exec("update runner_tokens set sealed = zeroblob(50) where key = 'r-aaaaaaaa'");
    db.close();
    await expect(store.runnerToken("r-aaaaaaaa")).rejects.toMatchObject({
      code: "store_corrupt",
      message: "the token of runner r-aaaaaaaa cannot be decrypted",
    });
    await closeStore();

    const again = await openStore();

    expect((await again.runners()).map(({ state }) => state)).toEqual(["retiring", "active"]);
    expect((await again.runnerToken("r-bbbbbbbb"))?.reveal()).toBe("glrt-token-of-the-runner");
  });

  test("one damaged payload does not keep the others from running", async () => {
    const store = await openStore();
    await store.claim(aClaim({ jobId: 1 }));
    await store.claim(aClaim({ jobId: 2 }));
    await closeStore();
    const db = new DatabaseSync(database);
    db.exec("update payloads set sealed = zeroblob(100) where job_id = 1");
    db.close();

    const again = await openStore();

    await expect(again.payload(1)).rejects.toMatchObject({ code: "store_corrupt" });
    expect(await again.payload(2)).toBe(aClaim({ jobId: 2 }).payload);
  });

  test("a database of a newer version is left alone", async () => {
    await openStore();
    await closeStore();
    const db = new DatabaseSync(database);
    db.exec("insert into kysely_migration (name, timestamp) values ('0999-from-the-future', '2030')");
    db.close();

    const newer = { code: "store_newer", message: expect.stringContaining("0999-from-the-future") };
    await expect(openStore()).rejects.toMatchObject(newer);
    await expect(openStoreReadOnly(database)).rejects.toMatchObject(newer);
  });

  test("a schema that could not be made whole is not made at all", async () => {
    const db = new DatabaseSync(database);
    db.exec("create table counters (in_the_way integer)");
    await expect(openStore()).rejects.toMatchObject({ code: "store_failed" });
    expect(db.prepare("select name from sqlite_schema where name = 'jobs'").all()).toEqual([]);
    db.exec("drop table counters");
    db.close();

    expect(await (await openStore()).claim(aClaim())).toBe(true);
  });

  test("a database of an older version is not shown before it is brought up to date", async () => {
    await openStore();
    await closeStore();
    const db = new DatabaseSync(database);
    db.exec("delete from kysely_migration");
    db.close();

    await expect(openStoreReadOnly(database)).rejects.toMatchObject({
      code: "store_failed",
      message: expect.stringContaining("older FireRunner"),
      hint: expect.stringContaining("start FireRunner"),
    });
  });

  test("a file that is no database is called damaged, with what to do", async () => {
    await writeFile(database, "this is no database at all\n".repeat(1_000));

    await expect(openStore()).rejects.toMatchObject({
      code: "store_corrupt",
      hint: expect.stringContaining("backup"),
    });
  });

  test("damage inside the database is found at the start", async () => {
    const store = await openStore();
    for (let jobId = 1; jobId <= 50; jobId++) await store.claim(aClaim({ jobId }));
    await closeStore();
    const bytes = await readFile(database);
    bytes.fill(0xa5, 4_096 * 3, 4_096 * 20);
    await writeFile(database, bytes);

    await expect(openStore()).rejects.toMatchObject({ code: "store_corrupt" });
  });

  test("a directory that cannot be made is named as the problem", async () => {
    await writeFile(join(directory, "file"), "");
    database = join(directory, "file", "firerunner.db");

    await expect(openStore()).rejects.toMatchObject({ code: "directory_failed" });
  });

  test("a full disk refuses the claim whole, says so, and the store goes on when there is room", async () => {
    const store = await openStore();
    await store.claim(aClaim({ jobId: 1 }));
    await closeStore();
    const limited = await openLimited(8);
    const huge = aClaim({ jobId: 2, payload: "x".repeat(1_000_000) });

    const refused = await limited.claim(huge).catch((error: unknown) => error);

    expect(refused).toMatchObject({
      code: "store_full",
      retryable: true,
      message: "storing job 2 failed: the disk is full",
      hint: expect.stringContaining("free some space"),
    });
    expect(await limited.job(2)).toBeUndefined();
    expect(await limited.startJob(1, aNewMachine())).toBe(true);
    expect((await limited.events({})).map((event) => event.seq)).toEqual([1, 2, 3]);
  });

  /** A store whose database may grow by `pages` pages only. */
  async function openLimited(pages: number): Promise<Store> {
    const size = (await stat(database)).size / 4_096;
    const dialect = sqliteDialect(database, { maxPages: size + pages });
    const store = await createStore({ database: dialect, keyFile, clock: systemClock, log: silentLog });
    open.push(store);
    return store;
  }

  test("calls after the end are refused, and closing twice is fine", async () => {
    const store = await openStore();
    await store.close();

    await expect(store.claim(aClaim())).rejects.toMatchObject({ code: "store_failed" });
    await expect(store.jobs()).rejects.toMatchObject({ code: "store_failed" });
    await store.close();
  });

  test("closing leaves no file open, however much was flushed", async () => {
    const store = await openStore();
    for (let jobId = 1; jobId <= 5; jobId++) await store.claim(aClaim({ jobId }));
    const openFiles = async () => {
      const links = (await readdir("/proc/self/fd")).map((fd) => readlink(`/proc/self/fd/${fd}`));
      return (await Promise.allSettled(links)).filter(
        (each) => each.status === "fulfilled" && each.value.startsWith(directory),
      ).length;
    };
    expect(await openFiles()).toBeGreaterThan(0);

    await store.close();

    expect(await openFiles()).toBe(0);
  });

  test("what was asked for before closing is done first", async () => {
    const store = await openStore();
    const claims = [1, 2, 3].map((jobId) => store.claim(aClaim({ jobId })));

    await store.close();

    expect(await Promise.all(claims)).toEqual([true, true, true]);
  });

  test("looking at a store needs no key and changes nothing", async () => {
    await (await openStore()).claim(aClaim());
    await closeStore();
    await rm(keyFile);

    const reader = await openStoreReadOnly(database);

    expect(await reader.job(4711)).toMatchObject({ state: "claimed" });
    expect(await reader.events({ jobId: 4711 })).toHaveLength(1);
    expect("claim" in reader).toBe(false);
    await reader.close();
    await expect(openStoreReadOnly(join(directory, "missing.db"))).rejects.toMatchObject({
      code: "store_failed",
    });
  });
});
