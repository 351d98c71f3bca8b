/** The whole program on hosts that answer and make no machines: no job is lost to them, and everybody is told why it waits. */
import { Code } from "@connectrpc/connect";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Daemon } from "../harness/daemon.ts";
import { eventually } from "../harness/eventually.ts";
import { createFleetInstallation, type FleetInstallation } from "../harness/fleet-installation.ts";
import { unbroken } from "../harness/unbroken.ts";

/** Generous: a create takes some seconds, and the machine that runs this may be slow. */
const LIMIT_MS = 180_000;

let fleet: FleetInstallation;
let daemon: Daemon | undefined;

beforeEach(async () => {
  fleet = await createFleetInstallation();
});

afterEach(async () => {
  await daemon?.stop();
  daemon = undefined;
  await fleet[Symbol.asyncDispose]();
});

async function start(): Promise<Daemon> {
  daemon = await fleet.start();
  return daemon;
}

const bootedOn = (host: string) => fleet.guests.boots.filter((each) => each.host === host).length;

describe("a fleet", { timeout: LIMIT_MS }, () => {
  test("that cannot give addresses on one host, and has few on the other, loses no job, there or elsewhere", async () => {
    const network = { addresses: "10.77.0.10-10.77.0.11/24", gateway: "10.77.0.1" };
    const two = { network, cpus: 8, memory: "16GiB" };
    Object.assign(fleet.more, { "metal-1": two, "metal-2": two });
    await fleet.configure("metal-1", "metal-2");
    const poison = await fleet.poison("metal-1");
    const checked = await fleet.cli("config", "check");
    const running = await start();
    await fleet.succeed(await fleet.addJobs(3));
    const capacity = (await fleet.hostStatus(running, "metal-2"))?.capacity;
    const { out } = await fleet.cli("hosts");
    const elsewhere = [bootedOn("metal-1"), bootedOn("metal-2")];

    await fleet.configure("metal-1");
    running.signal("SIGHUP");
    await eventually("the other host is gone", async () => !(await fleet.hostStatus(running, "metal-2")));
    const waiting = await fleet.addJobs(2);
    fleet.hosts["metal-1"].removeLease(poison);
    await fleet.succeed(waiting);
    await fleet.empty();

    expect(unbroken(checked.out)).toContain("metal-2 has no more than 2 machines at one time");
    expect(capacity).toMatchObject({ cpus: 8, machines: 2 });
    expect(fleet.hosts["metal-2"].wire.count("create")).toBe(3);
    expect(elsewhere).toEqual([0, 3]);
    expect(out).toMatch(/metal-1 +flintlock +avoided/);
    expect(unbroken(out)).toContain(`leases rm flintlock/somebody-elses/a/b/${poison}`);
    expect(bootedOn("metal-1")).toBe(2);
  });

  test("on which creates are refused waits with its jobs, and says who refuses", async () => {
    await fleet.configure("metal-1");
    const running = await start();
    fleet.hosts["metal-1"].always("create", {
      fault: "refuse",
      code: Code.Unknown,
      message: "creating microvm: the thin pool is full",
    });
    const jobs = await fleet.addJobs(3);
    const sick = await eventually("the host is called sick", async () => {
      const status = await fleet.hostStatus(running, "metal-1");
      return status?.problem ? status : undefined;
    });
    const claimed = await eventually("a job is claimed and waits", async () =>
      (await running.jobs()).find(({ state }) => state === "claimed"),
    );
    const { out } = await fleet.cli("why", String(claimed.id));
    const creates = fleet.hosts["metal-1"].wire.count("create");
    fleet.hosts["metal-1"].always("create", undefined);
    await fleet.succeed(jobs);
    await fleet.empty();
    const attempts = (await running.jobs()).map(({ attempt }) => attempt);

    expect(sick.problem).toContain("the thin pool is full");
    expect(unbroken(out)).toContain("the thin pool is full");
    expect(out).toContain("metal-1");
    // Those that were on their way when the first was refused, and no more.
    expect(creates).toBeLessThanOrEqual(4);
    expect(attempts).toEqual([1, 1, 1]);
  });
});
