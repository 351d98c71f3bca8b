import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { createManualClock } from "../../base/manual-clock.ts";
import { type ListedMicroVM, ListedMicroVMSchema } from "./gen/service_pb.js";
import { createListing, createPauses } from "./listing.ts";

const signal = new AbortController().signal;
const MAX_AGE_MS = 5_000;

/** A host that holds what is put into `held`, and answers each question when `answer` is called. */
function aHost() {
  const clock = createManualClock();
  const held: ListedMicroVM[] = [];
  const waiting: (() => void)[] = [];
  const list = async () => {
    const seen = [...held];
    await new Promise<void>((resolve) => waiting.push(resolve));
    return seen;
  };
  const pauses = createPauses(clock, () => 0.5);
  const listing = createListing({ client: { list }, namespace: "fr-a", clock, pauses, closed: signal });
  async function idsOf(asked: ReturnType<typeof listing.recent>): Promise<string[]> {
    await answer();
    await answer();
    return [...(await asked).machines.keys()];
  }
  async function answer(): Promise<void> {
    await clock.advance(0);
    for (const resolve of waiting.splice(0)) resolve();
    await clock.advance(0);
  }
  const put = (id: string) => void held.push(create(ListedMicroVMSchema, { spec: { id, uid: `uid-${id}` } }));
  return { listing, put, idsOf };
}

test("a list of a moment ago serves all who ask", async () => {
  const { listing, put, idsOf } = aHost();
  await idsOf(listing.recent(MAX_AGE_MS, signal));
  put("fr-a");

  expect(await idsOf(listing.recent(MAX_AGE_MS, signal))).toEqual([]);
});

test("a machine whose guest speaks before its create is answered is listed, however fresh the list before it was", async () => {
  const { listing, put, idsOf } = aHost();
  await idsOf(listing.recent(MAX_AGE_MS, signal));
  const created = Promise.withResolvers<void>();
  const making = listing.making(() => created.promise);
  // Asked while the create is on its way to the host, and answered only after it has come.
  const early = listing.recent(MAX_AGE_MS, signal);
  put("fr-a");
  const during = listing.recent(MAX_AGE_MS, signal);

  expect(await idsOf(during)).toEqual(["fr-a"]);
  expect(await idsOf(early)).toEqual([]);
  created.resolve();
  await making;
});

test("once a create is answered no list from before it counts, also where it failed", async () => {
  const { listing, put, idsOf } = aHost();
  await idsOf(listing.recent(MAX_AGE_MS, signal));
  const failed = listing.making(async () => {
    put("fr-a");
    throw new Error("no answer");
  });

  await expect(failed).rejects.toThrow("no answer");
  expect(await idsOf(listing.recent(MAX_AGE_MS, signal))).toEqual(["fr-a"]);
});
