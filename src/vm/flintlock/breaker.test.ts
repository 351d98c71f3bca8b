import { describe, expect, test } from "vitest";
import { createManualClock } from "../../base/manual-clock.ts";
import type { FlintlockClient } from "./client.ts";
import { guardClient } from "./client.ts";
import { callFailure, FlintlockError, hostFailure } from "./errors.ts";

const signal = new AbortController().signal;
const refused = new FlintlockError(hostFailure("vm_host_unreachable", "p", "start it"), "nobody listens", {
  mayHaveWorked: false,
});
const unknown = new FlintlockError(callFailure("vm_host_refused", "p", "h", true), "an error", {
  mayHaveWorked: true,
});

function aGuard() {
  const clock = createManualClock();
  let failure: Error | undefined;
  let calls = 0;
  const list = async () => {
    calls += 1;
    if (failure) throw failure;
    return [];
  };
  const client: FlintlockClient = {
    create: () => Promise.reject(new Error("not asked")),
    delete: () => Promise.reject(new Error("not asked")),
    list,
    reconnectedAt: () => undefined,
    close: () => {},
  };
  const guard = guardClient(client, "metal-1", clock);
  const ask = async () => {
    try {
      await guard.list({ namespace: "" }, signal);
      return "well";
    } catch (error) {
      return error instanceof FlintlockError ? error.code : String(error);
    }
  };
  return { clock, guard, ask, calls: () => calls, set: (next: Error | undefined) => (failure = next) };
}

describe("a host that fails", () => {
  test("is in trouble at once, left alone after three failures, and tried once after each rest", async () => {
    const { clock, guard, ask, calls, set } = aGuard();
    set(refused);

    expect(await ask()).toBe("vm_host_unreachable");
    expect(guard.trouble()).toEqual({ problem: "nobody listens", hint: "start it" });
    for (let turn = 0; turn < 5; turn++) await ask();
    expect(calls()).toBe(3);
    expect(await ask()).toBe("vm_host_avoided");

    await clock.advance(2_000);
    expect(await ask()).toBe("vm_host_unreachable");
    await clock.advance(2_000);
    expect(await ask()).toBe("vm_host_avoided");
    expect(calls()).toBe(4);

    await clock.advance(2_000);
    set(undefined);
    expect(await ask()).toBe("well");
    expect(guard.trouble()).toBeUndefined();
    set(refused);
    expect([await ask(), await ask()]).toEqual(["vm_host_unreachable", "vm_host_unreachable"]);
  });

  test("rests no longer than half a minute", async () => {
    const { clock, ask, calls, set } = aGuard();
    set(refused);
    for (let turn = 0; turn < 20; turn++) {
      await ask();
      await clock.advance(30_000);
    }

    expect(calls()).toBe(20);
  });

  test("has one call at a time try it after a pause, and is as before once that went well", async () => {
    const clock = createManualClock();
    const asked: { well: () => void; badly: () => void }[] = [];
    const list = () =>
      new Promise<[]>((resolve, reject) => {
        asked.push({ well: () => resolve([]), badly: () => reject(refused) });
      });
    const client = { list, create: list, delete: list, reconnectedAt: () => undefined, close: () => {} };
    const guard = guardClient(client as unknown as FlintlockClient, "metal-1", clock);
    const ask = () => guard.list({ namespace: "" }, signal).catch((error: FlintlockError) => error.code);
    // Four under way at the same time: the fourth failure changes nothing.
    const first = [ask(), ask(), ask(), ask()];
    for (const each of asked.splice(0)) each.badly();
    await Promise.all(first);
    await clock.advance(2_000);

    const trial = ask();
    expect(await ask()).toBe("vm_host_avoided");
    asked[0]?.well();
    expect(await trial).toEqual([]);
    const later = [ask(), ask()];
    for (const each of asked.splice(1)) each.well();
    expect(await Promise.all(later)).toEqual([[], []]);
  });

  test("is not blamed for answers that are errors", async () => {
    const { guard, ask, calls, set } = aGuard();
    set(unknown);
    for (let turn = 0; turn < 6; turn++) await ask();

    expect(calls()).toBe(6);
    expect(guard.trouble()).toBeUndefined();
  });
});
