import { expect, test } from "vitest";
import { aClaim } from "../../test/builders/job.ts";
import { aNewMachine } from "../../test/builders/machine.ts";
import { aStore } from "../../test/builders/store.ts";
import { keepLists } from "./reads.ts";

test("whoever changed something sees it in the next list", async () => {
  await using kept = await aStore();
  const { store } = kept;
  const states = async () => [
    ...(await store.jobs({ unfinished: true })).map(({ id, state }) => `${id} ${state}`),
    ...(await store.machines({ live: true })).map(({ id, state }) => `${id} ${state}`),
  ];

  expect(await states()).toEqual([]);
  await store.claim(aClaim({ jobId: 1 }));
  expect(await states()).toEqual(["1 claimed"]);
  await store.startJob(1, aNewMachine({ id: "fr-aaaaaaaa" }));
  expect(await states()).toEqual(["1 starting", "fr-aaaaaaaa creating"]);
  await store.markBooting("fr-aaaaaaaa");
  expect(await states()).toEqual(["1 starting", "fr-aaaaaaaa booting"]);
  await store.addTraceHead(1, "hello\n");
  expect((await store.jobs({ unfinished: true }))[0]?.traceHead).toBe("hello\n");
});

test("lists that are asked for while changes are under way are never older than their last answer", async () => {
  await using kept = await aStore();
  const { store } = kept;
  const changes: Promise<unknown>[] = [];
  for (let jobId = 1; jobId <= 50; jobId++) {
    changes.push(store.claim(aClaim({ jobId })));
    const before = store.jobs({ unfinished: true });
    await changes.at(-1);
    expect(await store.jobs({ unfinished: true })).toHaveLength(jobId);
    await before;
  }
});

test("without a change nothing is read again, and nobody's list is another's", async () => {
  let reads = 0;
  let revision = 0;
  const row = { id: 1 } as never;
  const { jobs } = keepLists(
    {
      async jobs() {
        reads++;
        return [row];
      },
      machines: async () => [],
      drainedHosts: async () => [],
    },
    () => revision,
  );

  const [first, second] = [await jobs({ unfinished: true }), await jobs({ unfinished: true })];
  expect(reads).toBe(1);
  first.pop();
  expect(second).toHaveLength(1);
  revision++;
  await jobs({ unfinished: true });
  await jobs();
  expect(reads).toBe(3);
});
