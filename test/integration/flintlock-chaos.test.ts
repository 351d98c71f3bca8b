/**
 * Creates and destroys on a flintlockd at its worst, over a network that loses, delays and refuses: nothing may be left, or be
 * made twice. That the daemon never runs wild is not asked: one delete can do it while a look at the machine is queued, which nobody sees
 * from outside.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import type { VmDriver } from "../../src/vm/driver.ts";
import type { CallFault } from "../flintlockd/call-faults.ts";
import { createFlintlockHarness } from "../flintlockd/harness.ts";
import { atItsWorst } from "../flintlockd/options.ts";
import { createRandom } from "../simulation/random.ts";

const signal = new AbortController().signal;
const LIVES = 12;

const faults: readonly (readonly ["create" | "delete" | "list", CallFault])[] = [
  ["create", { fault: "drop", work: "done" }],
  ["create", { fault: "drop", work: "not done" }],
  ["create", { fault: "late", ms: 1_500, work: "at once" }],
  ["create", { fault: "late", ms: 1_500, work: "then" }],
  ["create", { fault: "hang" }],
  ["create", { fault: "refuse", code: 2, message: "creating microvm: saving microvm spec: timeout" }],
  ["delete", { fault: "drop", work: "done" }],
  ["delete", { fault: "drop", work: "not done" }],
  ["delete", { fault: "late", ms: 1_500, work: "then" }],
  ["list", { fault: "drop", work: "not done" }],
  ["list", { fault: "refuse", code: 2, message: "getting all microvms: unknown" }],
  ["list", { fault: "hang" }],
];

test.concurrent.each([1, 2, 3, 4, 5, 6])(
  "nothing is left and nothing made twice, seed %i",
  { timeout: 120_000 },
  async (seed) => {
    const source = createRandom(seed);
    const random = source.next;
    // The driver's 20 s are one second here.
    const harness = await createFlintlockHarness({
      misbehaviour: atItsWorst,
      settings: { callTimeout: "20s" },
    });
    const { flintlockd } = harness;
    let driver: VmDriver = harness.open();
    const specs = Array.from({ length: LIVES }, () => harness.aSpec());
    let isOver = false;

    /** As the scheduler does: a create that fails is followed by destroys until one succeeds. */
    async function live(spec: (typeof specs)[number]): Promise<void> {
      await sleep(random() * 4_000);
      const stop = random() < 0.3 ? AbortSignal.timeout(source.between(0, 800)) : signal;
      await driver.create(spec, stop).catch(() => {});
      await sleep(random() * 500);
      for (;;) {
        const isGone = await driver.destroy(spec.id, signal).then(
          () => true,
          () => false,
        );
        if (isGone) return;
        await sleep(100);
      }
    }

    async function trouble(): Promise<void> {
      while (!isOver) {
        await sleep(150 + random() * 300);
        const [kind, fault] = source.pick(faults);
        if (random() < 0.8) flintlockd.next(kind, fault);
        else if (random() < 0.5) await flintlockd.restart();
        else {
          await driver.close();
          driver = harness.open();
        }
      }
    }

    const troubled = trouble();
    await Promise.all(specs.map(live));
    isOver = true;
    await troubled;
    // What was carried out late is found by the list, and removed as a machine that nobody knows.
    await sleep(2_000);
    for (let turn = 0; turn < 50 && flintlockd.machines().length > 0; turn++) {
      for (const { id } of await driver.list(signal).catch(() => []))
        await driver.destroy(id, signal).catch(() => {});
      await sleep(100);
    }
    await driver.close();

    const left = flintlockd.machines().map(({ id, uid, state }) => `${id} ${uid} ${state}`);
    const creates = flintlockd.wire.calls
      .filter(({ kind }) => kind === "create")
      .map(({ request }) => request as never as { microvm: { id: string } });
    const doubles = specs.filter(({ id }) => creates.filter(({ microvm }) => microvm.id === id).length > 1);
    await harness.dispose();
    expect(creates.length).toBeGreaterThan(0);
    expect(left).toEqual([]);
    expect(doubles).toEqual([]);
  },
);
