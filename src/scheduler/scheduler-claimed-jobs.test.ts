import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { aClaim } from "../../test/builders/job.ts";
import { aPool } from "../../test/builders/pool.ts";
import { aSchedulerFixture, type SchedulerFixture } from "../../test/harness/scheduler.ts";
import { Secret } from "../base/secret.ts";
import type { VmDriver } from "../vm/driver.ts";
import { VmError } from "../vm/errors.ts";
import { createFakeFleetDriver } from "../vm/fake/driver.ts";
import { createFakeHost } from "../vm/fake/host.ts";
import { createFleet } from "../vm/fleet.ts";

let fixture: SchedulerFixture;
let clock: SchedulerFixture["clock"];
let store: SchedulerFixture["store"];
let host: SchedulerFixture["host"];
let driver: SchedulerFixture["driver"];
let gitlab: SchedulerFixture["gitlab"];
let relay: SchedulerFixture["relay"];
let start: SchedulerFixture["start"];

beforeEach(async () => {
  fixture = await aSchedulerFixture();
  ({ clock, store, host, driver, gitlab, relay, start } = fixture);
});

afterEach(async () => {
  await fixture[Symbol.asyncDispose]();
});

const aRelayLink = {
  address: "relay.example.org:8444",
  serverName: "relay.example.org",
  ca: "",
  secret: new Secret("the-machines-own"),
};

describe("a claimed job", () => {
  test("has its machine at once, with the relay listening before it starts", async () => {
    let listened: boolean | undefined;
    host.onCreate = ({ spec }) => {
      listened = relay.listening.has(spec.id);
    };
    start();

    await store.claim(aClaim());
    await clock.advance(50);

    const job = await store.job(4711);
    expect(job?.state).toBe("starting");
    expect((await store.machine(job?.machineId ?? ""))?.state).toBe("booting");
    expect(listened).toBe(true);
  });

  test("gets another machine when one cannot be started, and its trace says so", async () => {
    let creates = 0;
    host.faults.create = () => (++creates < 3 ? { dieAfterMs: 50, exit: "crash" } : {});
    start();

    await store.claim(aClaim());
    await clock.advance(10_000);

    const job = await store.job(4711);
    expect(job?.attempt).toBe(3);
    expect(job?.traceHead).toContain("the machine crashed");
    expect(job?.traceHead).toContain("attempt 2 of 3");
    expect(job?.traceHead).toContain("attempt 3 of 3");
    expect(host.ids()).toEqual([job?.machineId]);
  });

  test("loses nothing to a host that makes no machine, which gets nothing meanwhile and says why", async () => {
    let creates = 0;
    let isFull = true;
    host.faults.create = () => {
      creates++;
      return isFull
        ? { fail: new VmError("vm_disk_full", "no room for the disk", { hint: "free some" }) }
        : {};
    };
    const scheduler = start();

    await store.claim(aClaim());
    await store.claim(aClaim({ jobId: 4712 }));
    await clock.advance(2_000);
    const [soon, status] = [creates, scheduler.status()];
    await clock.advance(90_000);
    const later = creates;
    const job = await store.job(4711);
    isFull = false;
    await clock.advance(120_000);

    // Both were on their way when the first was refused; from then on one at a time, ever less often.
    expect(soon).toBeLessThanOrEqual(2);
    expect(later).toBeLessThan(10);
    expect(status.hosts[0]).toMatchObject({
      problem: expect.stringContaining("did not make the last machine: no room for the disk"),
      hint: "free some",
    });
    expect(status.pools[0]?.ok).toBe(false);
    expect(status.blocker(4711) ?? status.blocker(4712)).toContain("no room for the disk");
    expect(scheduler.status().hosts[0]?.problem).toBeUndefined();
    expect(job).toMatchObject({ state: "claimed", attempt: 0 });
    expect(job?.traceHead.split("no room for the disk")).toHaveLength(2);
    expect(await store.job(4711)).toMatchObject({ state: "starting", attempt: 1 });
    expect(await store.job(4712)).toMatchObject({ state: "starting", attempt: 1 });
  });

  test("waits for a host's pool no longer than a second after the host is back", async () => {
    let isAway = true;
    const away = () => new VmError("vm_host_unreachable", "nobody listens there");
    const flaky: VmDriver = {
      ...driver,
      probe: async (image, signal) =>
        isAway ? { usable: false, problem: away().message, hint: "" } : await driver.probe(image, signal),
      list: async (signal) => (isAway ? await Promise.reject(away()) : await driver.list(signal)),
      trouble: () => (isAway ? { problem: away().message, hint: undefined } : undefined),
    };
    const told: boolean[] = [];
    const scheduler = start({ fleet: createFleet([flaky]) });
    scheduler.onHealthChange(() => void told.push(scheduler.status().pools[0]?.ok ?? false));
    await clock.advance(3_000);
    const before = scheduler.canClaim(aPool()).ok;

    isAway = false;
    await clock.advance(1_200);

    expect(before).toBe(false);
    expect(scheduler.canClaim(aPool()).ok).toBe(true);
    // Whoever claims was told.
    expect(told.at(-1)).toBe(true);
  });

  test("goes from a host that makes no machine to one that does, within seconds and as its first attempt", async () => {
    const sick = createFakeHost(clock);
    sick.faults.create = () => ({ fail: new VmError("vm_host_refused", "its answer is an error") });
    const hosts = { "metal-1": sick, "metal-2": host };
    const onNetwork = { ...relay, link: async () => aRelayLink };
    const drivers = Object.entries(hosts).map(([name, each]) => createFakeFleetDriver({ name, host: each }));
    start({ fleet: createFleet(drivers), relay: onNetwork });

    for (const jobId of [1, 2, 3]) await store.claim(aClaim({ jobId }));
    await clock.advance(2_000);

    expect(host.ids()).toHaveLength(3);
    for (const jobId of [1, 2, 3])
      expect(await store.job(jobId)).toMatchObject({ state: "starting", attempt: 1 });
    for (const each of drivers) await each.close();
  });

  test("fails with the reason when nothing of its kind can be made, however often it is asked for", async () => {
    host.faults.create = () => ({ fail: new VmError("vm_bad_spec", "it takes no odd number of CPUs") });
    start();

    await store.claim(aClaim());
    await clock.advance(5_000);

    expect(await store.job(4711)).toMatchObject({ state: "finished", result: "failed" });
    expect(String(gitlab.trace)).toContain("it takes no odd number of CPUs");
  });

  test("fails after the last attempt, with the reason in GitLab's trace", async () => {
    host.faults.create = () => ({ dieAfterMs: 50, exit: "crash" });
    start();

    await store.claim(aClaim());
    await clock.advance(20_000);

    expect(await store.job(4711)).toMatchObject({ state: "finished", result: "failed", attempt: 3 });
    expect(gitlab.updates.at(-1)).toMatchObject({ state: "failed", failureReason: "runner_system_failure" });
    expect(String(gitlab.trace)).toMatch(
      /attempt 2 of 3[\s\S]*the job failed: no machine took it in 3 attempts/,
    );
    expect(host.ids()).toEqual([]);
  });

  test("is not held up by the machine of another, which hangs", async () => {
    host.faults.create = () => (host.ids().length === 1 ? { hang: true } : {});
    start();
    await store.claim(aClaim({ jobId: 1 }));
    await clock.advance(100);
    await store.claim(aClaim({ jobId: 2 }));
    await clock.advance(100);
    await store.claim(aClaim({ jobId: 3 }));
    await clock.advance(100);

    const states = await Promise.all(
      [1, 2, 3].map(async (id) => (await store.machine((await store.job(id))?.machineId ?? ""))?.state),
    );

    expect(states).toEqual(["booting", "creating", "booting"]);
  });
});

test("jobs start within a second on the host that answers while another one hangs", async () => {
  const hung = (): Promise<never> => new Promise(() => {});
  const hanging: VmDriver = { ...driver, host: "hung", list: hung, probe: hung, create: hung };
  const scheduler = start({ fleet: createFleet([hanging, driver]) });
  await clock.advance(5_000);
  expect(scheduler.canClaim(aPool())).toEqual({ ok: true });

  for (let jobId = 1; jobId <= 3; jobId++) {
    await store.claim(aClaim({ jobId }));
    await clock.advance(300);
    const { machineId = null } = (await store.job(jobId)) ?? {};
    expect(await store.machine(machineId ?? "")).toMatchObject({ host: "local", state: "booting" });
  }
});
