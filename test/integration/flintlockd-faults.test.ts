/** The faults of flintlockd, each as it was recorded from a real one. */
import { connect } from "node:http2";
import { describe, expect, test } from "vitest";
import { NetworkInterface_IfaceType } from "../../src/vm/flintlock/gen/types_pb.js";
import { aSpec, bareClient, failure, type SpecInit } from "../flintlockd/client.ts";
import { type Flintlockd, startFlintlockd } from "../flintlockd/stand-in.ts";
import { eventually } from "../harness/eventually.ts";

const slow = { createMs: 30_000, deleteMs: 20_000 };

async function created(host: Flintlockd, ...ids: string[]): Promise<string[]> {
  const client = bareClient(host.address);
  const uids: string[] = [];
  for (const id of ids)
    uids.push((await client.createMicroVM({ microvm: aSpec({ id }) })).microvm?.spec?.uid ?? "");
  await host.until("all run", (machines) => machines.every(({ state }) => state === "CREATED"));
  return uids;
}

describe("poison", () => {
  test("a create without kernel is accepted and kills the daemon, at each start, until its lease is removed", async () => {
    await using host = await startFlintlockd();
    const [other = ""] = await created(host, "other");
    const spec = aSpec({ id: "bad", kernel: undefined });
    const { microvm } = await bareClient(host.address).createMicroVM({ microvm: spec });
    await eventually("it crashes", () => !host.running);
    expect(microvm?.status).toMatchObject({ state: 0 });
    expect(host.machine("other").alive).toBe(true);

    await host.start();
    await eventually("it crashes again", () => host.crashes.length === 2 && !host.running);

    host.removeLease(microvm?.spec?.uid ?? "");
    await host.start();
    await host.idle();
    await bareClient(host.address).getMicroVM({ uid: other });
    expect(host.crashes).toHaveLength(2);
  });

  test("started again by systemd, a daemon with poison crashes for ever", async () => {
    await using host = await startFlintlockd({ restartAfterCrashMs: 10 });
    await bareClient(host.address).createMicroVM({ microvm: aSpec({ kernel: undefined }) });

    await eventually("the third crash", () => host.crashes.length >= 3);
  });

  test("an id with a slash breaks the list, its own Get and Delete and the resync, but no create of others", async () => {
    await using host = await startFlintlockd();
    const client = bareClient(host.address);
    const { microvm } = await client.createMicroVM({ microvm: aSpec({ id: "a/b" }) });
    const uid = microvm?.spec?.uid ?? "";
    const bad = `unexpected vmid format: lab/a/b/${uid}`;

    expect(await failure(client.listMicroVMs({}))).toContain(bad);
    expect(await failure(client.listMicroVMs({ namespace: "lab" }))).toContain(bad);
    expect((await client.listMicroVMs({ namespace: "other" })).microvm).toEqual([]);
    expect(await failure(client.getMicroVM({ uid }))).toContain(bad);
    expect(await failure(client.deleteMicroVM({ uid }))).toContain(bad);

    await client.createMicroVM({ microvm: aSpec({ id: "fine" }) });
    await host.until("the other runs", () => host.machine("fine").state === "CREATED");
    host.exitGuest(host.machine("fine").uid);
    await host.restart();
    await host.idle();
    expect(host.machine("fine").alive).toBe(false);
  });

  test("overrides without a bridge panic the daemon before anything is stored", async () => {
    await using host = await startFlintlockd();
    const client = bareClient(host.address);
    const interfaces = [{ deviceId: "eth1", type: NetworkInterface_IfaceType.TAP, overrides: {} }];

    const answer = await failure(client.createMicroVM({ microvm: aSpec({ interfaces }) }));
    await eventually("it is down", () => !host.running);
    await host.start();

    expect(answer).not.toMatch(/^(2|3|13) /);
    expect((await bareClient(host.address).listMicroVMs({})).microvm).toEqual([]);
  });

  test.each<[string, SpecInit, string]>([
    ["an odd number of CPUs", { vcpu: 3 }, "InvalidVcpuCount"],
    ["an interface eth0 of its own", { interfaces: [{ deviceId: "eth0", type: 1 }] }, "network_interfaces"],
    ["too much metadata", { metadata: { big: "eHh4".repeat(17_100) } }, "DataStoreLimitExceeded"],
    ["no root volume", { rootVolume: undefined }, "BackingFile"],
  ])("%s: CREATED, and dead", async (_, overrides, stderr) => {
    await using host = await startFlintlockd();

    await bareClient(host.address).createMicroVM({ microvm: aSpec(overrides) });
    await host.until("CREATED", ([machine]) => machine?.state === "CREATED");

    expect(host.machine("vm1")).toMatchObject({ alive: false, retry: 0, boots: 1 });
    expect(host.machine("vm1").stderr).toContain(stderr);
  });
});

describe("deletes", () => {
  test("one sent during the create is lost: DELETING, then CREATED, and the machine runs on", async () => {
    await using host = await startFlintlockd({ times: slow, localImages: localImages() });
    const client = bareClient(host.address);
    const { microvm } = await client.createMicroVM({ microvm: aSpec() });
    await new Promise((resolve) => setTimeout(resolve, 50));

    await client.deleteMicroVM({ uid: microvm?.spec?.uid ?? "" });
    expect(host.machine("vm1").state).toBe("DELETING");
    await host.until("CREATED again", ([machine]) => machine?.state === "CREATED");
    await host.idle();

    expect(host.machine("vm1")).toMatchObject({ state: "CREATED", alive: true });
  });

  test("with that mended, the same delete is carried out", async () => {
    const misbehaviour = { losesDeletes: false };
    await using host = await startFlintlockd({ times: slow, localImages: localImages(), misbehaviour });
    const client = bareClient(host.address);
    const { microvm } = await client.createMicroVM({ microvm: aSpec() });
    await new Promise((resolve) => setTimeout(resolve, 50));

    await client.deleteMicroVM({ uid: microvm?.spec?.uid ?? "" });

    await host.until("it is gone", (machines) => machines.length === 0);
  });

  test("a second one right after the first starts the loop; others are served; a restart ends it", async () => {
    await using host = await startFlintlockd({ times: { deleteMs: 20_000 } });
    const [uid = ""] = await created(host, "vm1");
    const client = bareClient(host.address);

    await client.deleteMicroVM({ uid });
    await client.deleteMicroVM({ uid });
    await eventually("the loop", () => host.loopSteps > 50);
    const [other = ""] = await created(host, "other");
    await client.deleteMicroVM({ uid: other });
    await host.until("the other is gone", (machines) => machines.length === 0);
    const steps = host.loopSteps;
    await eventually("it goes on", () => host.loopSteps > steps + 50);

    await host.restart();
    await host.idle();
    expect(host.loopSteps).toBe(0);
  });

  test("a single one while the start's resync has not come to the machine starts it too", async () => {
    await using host = await startFlintlockd({ times: { lookMs: 10_000 } });
    const uids = await created(host, "vm1", "vm2", "vm3");
    await host.restart();

    await bareClient(host.address).deleteMicroVM({ uid: uids[2] ?? "" });

    await eventually("the loop", () => host.loopSteps > 50);
  });
});

describe("the daemon and its host", () => {
  test("a guest that has exited stays CREATED, and the next resync boots it again on its dirty disk", async () => {
    const boots: number[] = [];
    await using host = await startFlintlockd({ onBoot: ({ number }) => void boots.push(number) });
    const [uid = ""] = await created(host, "vm1");

    host.exitGuest(uid);
    await host.idle();
    expect(host.machine("vm1")).toMatchObject({ state: "CREATED", alive: false, retry: 0 });
    host.resync();
    await host.until("it runs again", ([machine]) => machine?.alive === true);
    host.exitGuest(uid);
    await host.restart();
    await host.until("and again", ([machine]) => machine?.alive === true);

    expect(boots).toEqual([1, 2, 3]);
  });

  test("after a restart of containerd nothing moves, until the daemon is restarted", async () => {
    await using host = await startFlintlockd();
    const [old = ""] = await created(host, "old");
    host.restartContainerd();
    const client = bareClient(host.address);

    await client.createMicroVM({ microvm: aSpec({ id: "new" }) });
    await client.deleteMicroVM({ uid: old });
    await new Promise((resolve) => setTimeout(resolve, 300));
    const { microvm } = await client.listMicroVMs({});
    expect(host.isDeaf).toBe(true);
    expect(microvm.map(({ spec, status }) => [spec?.id, status?.state, status?.retry])).toEqual([
      ["old", 3, 0],
      ["new", 0, 0],
    ]);
    expect(host.logLines).toBeGreaterThan(1_000);

    await host.restart();
    await host.until(
      "all is carried out",
      ([machine, ...rest]) => rest.length === 0 && machine?.state === "CREATED",
    );
    expect(host.machine("new").alive).toBe(true);
  });

  test("machines run on through the daemon's death, and end with the host's", async () => {
    await using host = await startFlintlockd();
    await created(host, "vm1");

    await host.restart();
    await host.idle();
    expect(host.machine("vm1")).toMatchObject({ alive: true, boots: 1 });
    await host.powerOff();
    expect(host.machine("vm1").alive).toBe(false);
    await host.start();
    await host.until("booted again", ([machine]) => machine?.boots === 2);
    await host.reinstall();
    expect(host.machines()).toEqual([]);
  });

  test("killed in the middle of a create, the daemon carries it out at its next start", async () => {
    await using host = await startFlintlockd({ times: { createMs: 20_000 } });
    await bareClient(host.address).createMicroVM({ microvm: aSpec() });
    await host.kill();
    await new Promise((resolve) => setTimeout(resolve, 400));
    expect(host.machine("vm1")).toMatchObject({ state: "PENDING", alive: false, boots: 0 });

    await host.start();
    await host.until("it runs", ([machine]) => machine?.state === "CREATED");
    expect(host.machine("vm1")).toMatchObject({ alive: true, boots: 1 });
  });

  test("a host that comes back from a backup has machines that were deleted", async () => {
    await using host = await startFlintlockd();
    const [uid = ""] = await created(host, "vm1");
    const backup = host.backUp();
    await bareClient(host.address).deleteMicroVM({ uid });
    await host.until("it is gone", (machines) => machines.length === 0);

    await host.restoreBackUp(backup);
    await host.until("it runs again", ([machine]) => machine?.alive === true);

    expect(host.machine("vm1")).toMatchObject({ uid, state: "CREATED" });
  });
});

describe("calls", () => {
  test("an answer that never comes, and one that comes after the deadline with the work done", async () => {
    await using host = await startFlintlockd();
    const client = bareClient(host.address);
    const deadline = { timeoutMs: 200 };
    host.next("create", { fault: "hang" }, { fault: "late", ms: 600, work: "at once" });

    expect(await failure(client.createMicroVM({ microvm: aSpec({ id: "never" }) }, deadline))).toMatch(/^4 /);
    expect(await failure(client.createMicroVM({ microvm: aSpec({ id: "late" }) }, deadline))).toMatch(/^4 /);

    await host.until("only one is there", (machines) => machines.map(({ id }) => id).join() === "late");
  });

  test("a connection that ends after the create was stored", async () => {
    await using host = await startFlintlockd();
    host.next("create", { fault: "drop", work: "done" });

    const answer = await failure(bareClient(host.address).createMicroVM({ microvm: aSpec() }));

    expect(answer).not.toMatch(/^[234] /);
    expect(host.machine("vm1").state).toMatch(/PENDING|CREATED/);
  });

  test("a host that vanishes and comes back with its machines", async () => {
    await using host = await startFlintlockd();
    const [uid = ""] = await created(host, "vm1");
    await host.vanish();
    expect(await failure(bareClient(host.address).getMicroVM({ uid }))).toMatch(/^14 /);
    await host.comeBack();

    expect((await bareClient(host.address).getMicroVM({ uid })).microvm?.spec?.id).toBe("vm1");
  });

  test("a client that pings too much is sent away", async () => {
    await using host = await startFlintlockd();
    const session = connect(`http://${host.address}`);
    const goneAway = new Promise((resolve) =>
      session.on("goaway", (code, _, data) => resolve(`${code} ${data}`)),
    );
    session.on("error", () => {});
    await new Promise<void>((resolve) => session.once("connect", () => resolve()));

    for (let ping = 0; ping < 4; ping++) session.ping(() => {});

    expect(await goneAway).toBe("11 too_many_pings");
  });

  test("without TLS flags and without --insecure it runs and serves nothing", async () => {
    await using host = await startFlintlockd({ security: "none" });

    expect(host.running).toBe(true);
    expect(await failure(bareClient(host.address).listMicroVMs({}))).toMatch(/^14 /);
  });
});

function localImages(): string[] {
  return ["kernel", "initrd", "rootfs"].map((name) => `localhost:5000/lab/${name}:v1`);
}
