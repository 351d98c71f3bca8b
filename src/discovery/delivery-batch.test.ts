import { setTimeout as delay } from "node:timers/promises";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { systemClock } from "../base/clock.ts";
import { createManualClock } from "../base/manual-clock.ts";
import { createDeliveryBatch, type NewDelivery } from "./webhook-receiver.ts";

const aDelivery = (key: string): NewDelivery => ({
  key,
  event: "Job Hook",
  projectId: 7,
  jobId: 1,
  status: "pending",
});

describe("a batch of deliveries", () => {
  test("takes what arrives while another is being written", async () => {
    const sizes: number[] = [];
    const batch = createDeliveryBatch(async (rows) => {
      sizes.push(rows.length);
      await delay(5);
      return rows.map(() => true);
    }, systemClock);
    const first = [batch.add(aDelivery("a")), batch.add(aDelivery("b"))];
    await delay(1);
    const second = ["c", "d", "e"].map((key) => batch.add(aDelivery(key)));

    expect(await Promise.all([...first, ...second])).toEqual([true, true, true, true, true]);
    expect(sizes).toEqual([2, 3]);
  });

  test("waits a little for more while others keep coming, and not for a single one", async () => {
    const clock = createManualClock();
    const sizes: number[] = [];
    const batch = createDeliveryBatch(async (rows) => {
      sizes.push(rows.length);
      await delay(1);
      return rows.map(() => true);
    }, clock);
    expect(await batch.add(aDelivery("a"))).toBe(true);
    expect(await batch.add(aDelivery("b"))).toBe(true);

    const first = batch.add(aDelivery("c"));
    await delay(0);
    const second = batch.add(aDelivery("d"));
    await first;
    await delay(5);
    const third = batch.add(aDelivery("e"));
    expect(sizes).toEqual([1, 1, 1]);

    await clock.advance(5);
    await Promise.all([second, third]);
    expect(sizes).toEqual([1, 1, 1, 2]);
  });

  test("is answered only when it is durable", async () => {
    const written = Promise.withResolvers<void>();
    const batch = createDeliveryBatch(async (rows) => {
      await written.promise;
      return rows.map(() => true);
    }, systemClock);
    let isAnswered = false;
    const answer = batch.add(aDelivery("a")).then(() => {
      isAnswered = true;
    });
    await delay(5);
    expect(isAnswered).toBe(false);

    written.resolve();
    await answer;
  });

  test("that fails fails all of its members, and none of the next", async () => {
    let calls = 0;
    const batch = createDeliveryBatch(async (rows) => {
      if (++calls === 1) throw new Error("the disk is full");
      return rows.map(() => true);
    }, systemClock);
    const failed = await Promise.allSettled([batch.add(aDelivery("a")), batch.add(aDelivery("b"))]);

    expect(failed.map(({ status }) => status)).toEqual(["rejected", "rejected"]);
    expect(await batch.add(aDelivery("a"))).toBe(true);
  });

  test("is never longer than its bound", async () => {
    const sizes: number[] = [];
    const batch = createDeliveryBatch(async (rows) => {
      sizes.push(rows.length);
      return rows.map(() => true);
    }, systemClock);
    await Promise.all(Array.from({ length: 1_234 }, (_, index) => batch.add(aDelivery(`k${index}`))));

    expect(sizes).toEqual([500, 500, 234]);
  });

  test("tells of each key once that it is new, whenever it arrives", async () => {
    const arrivals = fc.array(fc.record({ key: fc.nat(20).map(String), pauses: fc.boolean() }), {
      maxLength: 60,
    });
    await fc.assert(
      fc.asyncProperty(arrivals, async (all) => {
        const known = new Set<string>();
        const batch = createDeliveryBatch(async (rows) => {
          await delay(0);
          return rows.map(({ key }) => known.size < known.add(key).size);
        }, systemClock);
        const answers: Promise<boolean>[] = [];
        for (const { key, pauses } of all) {
          answers.push(batch.add(aDelivery(key)));
          if (pauses) await delay(0);
        }
        const areNew = await Promise.all(answers);

        expect(areNew.filter(Boolean)).toHaveLength(new Set(all.map(({ key }) => key)).size);
      }),
      { numRuns: 50 },
    );
  });
});
