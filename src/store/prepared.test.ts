import { type Dialect, Kysely, PGliteDialect } from "kysely";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { lastingPglite } from "../../test/builders/databases.ts";
import { prepared } from "./prepared.ts";
import { IN_MEMORY, migrate, sqliteDialect } from "./sqlite.ts";
import { ColumnNames, type Tables } from "./tables.ts";

async function aDatabase(dialect: Dialect): Promise<Kysely<Tables>> {
  const db = new Kysely<Tables>({ dialect, plugins: [new ColumnNames()] });
  await migrate(db);
  return db;
}

/** Drained hosts, as the smallest table, and how often the query was built. */
function aQuery() {
  let built = 0;
  const add = prepared((db, host: { key: string; drainedAt: number }) => {
    built++;
    return db.insertInto("drainedHosts").values(host);
  });
  return { add, built: () => built };
}

describe("a prepared query", () => {
  let sqlite: Kysely<Tables>;
  let postgres: Kysely<Tables>;
  let stop: () => Promise<void>;

  beforeAll(async () => {
    const { server, pglite } = await lastingPglite();
    sqlite = await aDatabase(sqliteDialect(IN_MEMORY));
    postgres = await aDatabase(new PGliteDialect({ pglite }));
    stop = () => server.close();
  });
  afterAll(async () => {
    await sqlite.destroy();
    await postgres.destroy();
    await stop();
  });

  test("is built once for each database, and runs with the values of each call", async () => {
    const { add, built } = aQuery();
    const newest = prepared((db, { before }: { before: number }) =>
      db.selectFrom("drainedHosts").select("key").where("drainedAt", "<", before).orderBy("key"),
    );

    for (const db of [sqlite, postgres]) {
      for (const drainedAt of [1, 2, 3]) await add(db, { key: `once-${drainedAt}`, drainedAt });

      expect((await newest(db, { before: 3 })).rows).toEqual([{ key: "once-1" }, { key: "once-2" }]);
      expect((await newest(db, { before: 2 })).rows).toEqual([{ key: "once-1" }]);
      await db.deleteFrom("drainedHosts").execute();
    }
    expect(built()).toBe(2);
  });

  test("is one query for each set of names, so that what is left out stays as it is", async () => {
    const change = prepared((db, { key, ...columns }: { key: string; drainedAt?: number }) =>
      db
        .updateTable("drainedHosts")
        .set({ key: "changed", ...columns })
        .where("key", "=", key)
        .returningAll(),
    );
    const { add } = aQuery();
    for (const db of [sqlite, postgres]) {
      await add(db, { key: "a", drainedAt: 1 });
      expect((await change(db, { key: "a" })).rows).toEqual([{ key: "changed", drainedAt: 1 }]);
      expect((await change(db, { key: "changed", drainedAt: 5 })).rows).toEqual([
        { key: "changed", drainedAt: 5 },
      ]);
      await db.deleteFrom("drainedHosts").execute();
    }
  });

  test("runs in the transaction that it is given, and goes back with it", async () => {
    const { add, built } = aQuery();
    await add(sqlite, { key: "before", drainedAt: 1 });
    const broken = sqlite.transaction().execute(async (tx) => {
      await add(tx, { key: "within", drainedAt: 2 });
      throw new Error("broken");
    });

    await expect(broken).rejects.toThrow("broken");
    expect(await sqlite.selectFrom("drainedHosts").select("key").execute()).toEqual([{ key: "before" }]);
    expect(built()).toBe(1);
    await sqlite.deleteFrom("drainedHosts").execute();
  });
});
