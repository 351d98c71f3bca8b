/** What the driver does about each fault of flintlockd and of the way to it. Times are those of a real one, run through faster. */
import { afterEach, describe, expect, test } from "vitest";
import { describeError } from "../../src/base/errors.ts";
import type { Log } from "../../src/base/log.ts";
import { Secret } from "../../src/base/secret.ts";
import type { VmDriver } from "../../src/vm/driver.ts";
import {
  aLink,
  createFlintlockHarness,
  type FlintlockHarness,
  type FlintlockHarnessOptions,
  NAMESPACE,
  publishedImage,
} from "../flintlockd/harness.ts";
import { eventually } from "../harness/eventually.ts";

const signal = new AbortController().signal;
const opened: { harness: FlintlockHarness; drivers: VmDriver[] }[] = [];

afterEach(async () => {
  for (const { harness, drivers } of opened.splice(0)) {
    for (const driver of drivers) await driver.close();
    await harness.dispose();
  }
});

async function open(options: FlintlockHarnessOptions = {}) {
  const harness = await createFlintlockHarness(options);
  const drivers = [harness.open()];
  opened.push({ harness, drivers });
  const reopen = (): VmDriver => {
    const next = harness.open();
    drivers.push(next);
    return next;
  };
  return { harness, reopen, driver: drivers[0] as VmDriver, flintlockd: harness.flintlockd };
}

const aRange = (first: string, last: string) => ({
  bridge: "fl0",
  addresses: { first, last, prefixLength: 24 },
  gateway: "10.77.0.1",
  nameservers: [],
});

const thrown = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => "it worked",
    (error: unknown) => error,
  );

describe("deletes", () => {
  test("a machine that is still being made is waited for, and deleted once", async () => {
    const { harness, driver, flintlockd } = await open({ times: { createMs: 10_000 } });
    const spec = harness.aSpec();
    const stop = new AbortController();
    const creating = thrown(driver.create(spec, stop.signal));
    await flintlockd.until("it is being made", (machines) => machines.length === 1);
    stop.abort(new Error("not wanted"));

    expect(await creating).toMatchObject({ code: "vm_create_failed", retryable: true });
    await driver.destroy(spec.id, signal);

    expect(flintlockd.machines()).toEqual([]);
    expect(flintlockd.wire.count("delete")).toBe(1);
    expect(flintlockd.loopSteps).toBe(0);
  });

  test("a delete that a create overtook is sent again, and no other", async () => {
    // A create that takes longer than the driver waits.
    const { harness, driver, flintlockd } = await open({ times: { createMs: 90_000 } });
    const uid = await harness.makeBehind({ id: "fr-aaaaaaaa" });

    await driver.destroy("fr-aaaaaaaa", signal);

    expect(
      flintlockd.wire.calls.filter(({ kind }) => kind === "delete").map(({ request }) => request),
    ).toMatchObject([{ uid }, { uid }]);
    expect(flintlockd.machines()).toEqual([]);
    expect(flintlockd.loopSteps).toBe(0);
  });

  test("a machine in DELETING gets no second delete, whoever asks and however often", async () => {
    const { harness, driver, reopen, flintlockd } = await open({ times: { deleteMs: 30_000 } });
    const spec = harness.aSpec();
    await driver.create(spec, signal);
    const stop = new AbortController();
    const first = thrown(driver.destroy(spec.id, stop.signal));
    await flintlockd.until("it is being deleted", () => flintlockd.machine(spec.id).state === "DELETING");
    stop.abort(new Error("the program ends"));
    await first;

    const other = reopen();
    await Promise.all([driver, other, other].map((each) => each.destroy(spec.id, signal)));

    expect(flintlockd.wire.count("delete")).toBe(1);
    expect(flintlockd.machines()).toEqual([]);
    expect(flintlockd.loopSteps).toBe(0);
  });

  test("a host that does not delete is sick, and well again once the machine is gone", async () => {
    const { harness, driver, flintlockd } = await open({ factor: 100, settings: { deleteTimeout: "1m" } });
    const spec = harness.aSpec();
    await driver.create(spec, signal);
    flintlockd.restartContainerd();

    const error = await thrown(driver.destroy(spec.id, signal));

    expect(error).toMatchObject({ code: "vm_destroy_failed", retryable: true });
    expect(driver.trouble()).toMatchObject({
      problem: /longer than 1m0s to delete/,
      hint: /restart flintlockd/,
    } as never);
    expect(flintlockd.wire.count("delete")).toBe(1);
    await flintlockd.restart();
    await flintlockd.until("what waited is carried out", (machines) => machines.length === 0);
    await driver.destroy(spec.id, signal);
    expect(driver.trouble()).toBeUndefined();
    expect(flintlockd.machines()).toEqual([]);
  });

  test("waits a little after the daemon was started before it deletes", async () => {
    const { harness, driver, flintlockd } = await open();
    const spec = harness.aSpec();
    await driver.create(spec, signal);
    driver.onExit(() => {});
    await flintlockd.restart();
    const since = Date.now();

    await driver.destroy(spec.id, signal);

    const sentAt = flintlockd.wire.calls.find(({ kind }) => kind === "delete")?.at ?? 0;
    // 5 s of the driver's clock, which runs 20 times faster.
    expect(sentAt - since).toBeGreaterThan(200);
    expect(flintlockd.machines()).toEqual([]);
  });
});

describe("creates", () => {
  test("one that is carried out after its deadline is found by the next list, and can be removed", async () => {
    const { harness, driver, flintlockd } = await open({ settings: { callTimeout: "10s" } });
    const spec = harness.aSpec();
    flintlockd.next("create", { fault: "late", ms: 6_000, work: "then" });

    const error = await thrown(driver.create(spec, signal));
    const before = await driver.inspect(spec.id, signal);
    await flintlockd.until("it is there after all", (machines) => machines.length === 1);
    const after = await driver.inspect(spec.id, signal);
    await driver.destroy(spec.id, signal);

    expect(error).toMatchObject({ code: "vm_host_timeout", retryable: true });
    expect([before, after]).toMatchObject([undefined, { status: { running: true } }]);
    expect(flintlockd.wire.count("create")).toBe(1);
    expect(flintlockd.machines()).toEqual([]);
  });

  test("after a lost answer the machine is adopted, with the one secret that it has", async () => {
    const { harness, driver, flintlockd } = await open();
    flintlockd.next("create", { fault: "drop", work: "done" });
    let links = 0;
    const link = () => {
      links += 1;
      return aLink();
    };
    const spec = harness.aSpec({ link });

    await driver.create(spec, signal);

    expect(links).toBe(1);
    expect(flintlockd.wire.count("create")).toBe(1);
    expect(flintlockd.machine(spec.id)).toMatchObject({ state: "CREATED", alive: true });
  });

  test("of several machines with one id the newest stays", async () => {
    const { harness, driver, flintlockd } = await open();
    const id = "fr-bbbbbbbb";
    await harness.makeBehind({ id });
    await harness.clock.sleep(1_000);
    const newest = await harness.makeBehind({ id });

    expect(await driver.list(signal)).toMatchObject([{ id, status: { running: true } }]);
    await flintlockd.until("one is left", (machines) => machines.length === 1);

    expect(flintlockd.machine(id).uid).toBe(newest);
  });

  test("what a host cannot make is given up after two of its tries", async () => {
    const { harness, driver, flintlockd } = await open({
      factor: 100,
      localImages: [],
      registryHas: () => false,
    });
    const spec = harness.aSpec();

    const error = await thrown(driver.create(spec, signal));
    await driver.destroy(spec.id, signal);

    expect(error).toMatchObject({ code: "vm_create_failed", retryable: true });
    expect(describeError(error)).toContain("2 tries failed");
    expect(flintlockd.machines()).toEqual([]);
  });

  test("an image that is gone is named, where the host is not known to have it", async () => {
    const { root } = publishedImage.published;
    const asked: string[] = [];
    const { harness, driver } = await open({
      factor: 100,
      localImages: [],
      registryHas: () => false,
      askRegistry: async (image) => {
        asked.push(image.root);
        return { state: "gone", words: `the registry localhost:5000 does not have ${image.root} any more` };
      },
    });

    const error = await thrown(driver.create(harness.aSpec(), signal));

    expect(asked).toEqual([root]);
    expect(error).toMatchObject({ code: "vm_image_gone", hint: expect.stringContaining("image push") });
    expect(describeError(error)).toContain(`does not have ${root} any more`);
  });

  test("a machine that is gone again leaves its address to the next at once", async () => {
    const { harness, driver } = await open({ host: () => ({ network: aRange("10.77.0.10", "10.77.0.10") }) });

    for (const spec of [harness.aSpec(), harness.aSpec()]) {
      await driver.create(spec, signal);
      await driver.destroy(spec.id, signal);
    }

    expect(await driver.list(signal)).toEqual([]);
  });

  test("a host without containerd is told in words, and well again when both are restarted", async () => {
    const { harness, driver, flintlockd } = await open();
    driver.onExit(() => {});
    flintlockd.stopContainerd();
    const error = await thrown(driver.create(harness.aSpec(), signal));
    const trouble = await eventually("it is in trouble", () => driver.trouble());
    flintlockd.startContainerd();
    await flintlockd.restart();
    await eventually("it is well", () => driver.trouble() === undefined);

    expect(error).toMatchObject({ code: "vm_host_sick", hint: expect.stringContaining("start containerd") });
    expect(trouble.problem).toContain("containerd does not answer it");
    expect(trouble.problem).not.toContain("transport:");
    await driver.create(harness.aSpec(), signal);
  });

  test("a host that cannot list for addresses is sick before anything is asked of it, and well once it can", async () => {
    const { harness, driver, flintlockd } = await open({
      host: () => ({ network: aRange("10.77.0.10", "10.77.0.20") }),
    });
    const probe = async () => await driver.probe(harness.image, signal);
    expect(await probe()).toMatchObject({ usable: true });
    const poison = await harness.makeBehind({ namespace: "somebody-elses", id: "a/b" });

    const probed = await probe();
    const trouble = driver.trouble();
    const refused = await thrown(driver.create(harness.aSpec(), signal));
    driver.onExit(() => {});
    flintlockd.removeLease(poison);
    await eventually("the host is well again", () => driver.trouble() === undefined);

    expect(probed).toMatchObject({ usable: false, hint: expect.stringContaining(`a/b/${poison}`) });
    expect(trouble?.problem).toContain("breaks its list");
    expect(trouble?.hint).toContain(`leases rm flintlock/somebody-elses/a/b/${poison}`);
    expect(refused).toMatchObject({ code: "vm_host_sick" });
    await driver.create(harness.aSpec(), signal);
  });

  test("gives no address twice, not even one of a machine in another namespace", async () => {
    const network = aRange("10.77.0.10", "10.77.0.13");
    const { harness, driver, flintlockd } = await open({ host: () => ({ network }) });
    const foreign = { address: "10.77.0.11/24" };
    await harness.makeBehind({
      id: "other",
      namespace: "lab",
      interfaces: [{ deviceId: "eth1", type: 1, address: foreign }],
    });
    const specs = [harness.aSpec(), harness.aSpec(), harness.aSpec()];

    await Promise.all(specs.map((spec) => driver.create(spec, signal)));
    const full = await thrown(driver.create(harness.aSpec(), signal));

    const given = specs.map(
      ({ id }) => /address=(.*)/.exec(flintlockd.machine(id).metadata["firerunner"] ?? "")?.[1],
    );
    expect(given.toSorted()).toEqual(["10.77.0.10/24", "10.77.0.12/24", "10.77.0.13/24"]);
    expect(full).toMatchObject({ code: "vm_no_address", retryable: true });
  });

  test("an image that was never pushed is not asked for", async () => {
    const { harness, driver, flintlockd } = await open();
    const image = { digest: "sha256:1", architecture: "amd64", kernel: "", initramfs: "", layers: [] };

    expect(await thrown(driver.create(harness.aSpec({ image }), signal))).toMatchObject({
      code: "vm_image_unpublished",
    });
    expect(await driver.probe(image, signal)).toMatchObject({
      usable: false,
      hint: "firerunner image push REGISTRY/NAME",
    });
    expect(flintlockd.wire.count("create")).toBe(0);
  });
});

describe("a sick daemon", () => {
  test("one that has the image is known to be deaf by its usual time, and nobody waits for it longer", async () => {
    // As by default: a pull may take ten minutes.
    const { harness, driver, flintlockd } = await open({ settings: { pullTimeout: "10m" } });
    driver.onExit(() => {});
    for (const spec of [harness.aSpec(), harness.aSpec()]) await driver.create(spec, signal);
    const beganAt = harness.clock.now();
    flintlockd.restartContainerd();

    const error = await thrown(driver.create(harness.aSpec(), signal));
    const tookMs = harness.clock.now() - beganAt;
    const trouble = driver.trouble();
    await flintlockd.restart();
    await eventually("it is well", () => driver.trouble() === undefined);

    expect(error).toMatchObject({
      code: "vm_host_sick",
      hint: expect.stringContaining("restart flintlockd"),
    });
    expect(trouble?.problem).toContain("takes orders and has not carried out any");
    expect(tookMs).toBeLessThan(240_000);
  });

  test("one that containerd left deaf is named with its cure, and well again after it", async () => {
    const { harness, driver, flintlockd } = await open({ factor: 100, settings: { pullTimeout: "1m" } });
    driver.onExit(() => {});
    flintlockd.restartContainerd();
    const spec = harness.aSpec();

    const error = await thrown(driver.create(spec, signal));

    expect(error).toMatchObject({ code: "vm_create_failed", retryable: true });
    await eventually("it is known to be deaf", () => driver.trouble() !== undefined);
    expect(driver.trouble()?.problem).toContain("has not carried out any");
    expect(driver.trouble()?.hint).toContain("containerd may have been restarted");
    await flintlockd.restart();
    await eventually("it is well again", () => driver.trouble() === undefined);
    await driver.destroy(spec.id, signal);
    expect(flintlockd.machines()).toEqual([]);
  });

  test("one whose list is poisoned is named with the lease to remove, and well again after it", async () => {
    const { harness, driver, flintlockd } = await open();
    const uid = await harness.makeBehind({ id: "a/b" });

    expect(await thrown(driver.list(signal))).toMatchObject({ code: "vm_host_sick" });
    expect(driver.trouble()?.hint).toContain(`ctr -n flintlock leases rm flintlock/${NAMESPACE}/a/b/${uid}`);
    flintlockd.removeLease(uid);
    expect(await driver.list(signal)).toEqual([]);
    expect(driver.trouble()).toBeUndefined();
  });
});

describe("a host that comes and goes", () => {
  test("is left alone after three failures, tried again after a rest, and its machines are still there", async () => {
    const { harness, driver, flintlockd } = await open();
    const told: string[] = [];
    const spec = harness.aSpec();
    await driver.create(spec, signal);
    driver.onExit((id) => told.push(id));
    await flintlockd.vanish();

    await eventually("it is in trouble", () => driver.trouble() !== undefined);
    const errors: unknown[] = [];
    for (let turn = 0; turn < 4; turn++) errors.push(await thrown(driver.inspect(spec.id, signal)));
    await flintlockd.comeBack();
    await eventually("it is well again", () => driver.trouble() === undefined);

    expect(errors.at(-1)).toMatchObject({ code: "vm_host_avoided", retryable: true });
    expect(describeError(errors.at(-1))).toContain("nobody listens");
    expect(await driver.list(signal)).toMatchObject([{ id: spec.id, status: { running: true } }]);
    expect(told).toEqual([]);
  });

  test("a daemon that was killed and started again has its machines, and one reinstalled has none and says so", async () => {
    const { harness, driver, flintlockd } = await open();
    const told: string[] = [];
    const spec = harness.aSpec();
    await driver.create(spec, signal);
    driver.onExit((id) => told.push(id));

    await flintlockd.restart();
    expect(await driver.inspect(spec.id, signal)).toMatchObject({ status: { running: true } });
    await driver.create(spec, signal);
    expect(flintlockd.wire.count("create")).toBe(1);
    await flintlockd.reinstall();

    await eventually("it is told", () => told.length > 0);
    expect(told).toEqual([spec.id]);
    expect(await driver.list(signal)).toEqual([]);
  });

  test("a daemon that hangs is given up at the deadline, and used again when it answers", async () => {
    const { driver, flintlockd } = await open({ settings: { callTimeout: "5s" } });
    flintlockd.always("list", { fault: "hang" });

    expect(await thrown(driver.list(signal))).toMatchObject({ code: "vm_host_timeout" });
    flintlockd.always("list", undefined);

    expect(await driver.list(signal)).toEqual([]);
    expect(driver.trouble()).toBeUndefined();
  });
});

describe("what is said and written", () => {
  test("the token and the machine's secret appear in no log and no error", async () => {
    const lines: string[] = [];
    const write = (fields: object, message: string) => void lines.push(JSON.stringify([fields, message]));
    const log: Log = { debug: write, info: write, warn: write, error: write, child: () => log };
    const token = "t0ken-of-metal-1";
    const { harness, driver, flintlockd } = await open({
      log,
      token,
      host: () => ({ token: new Secret(token) }),
    });
    const secrets: string[] = [];
    const link = async () => {
      const made = await aLink();
      secrets.push(made.secret.reveal());
      return made;
    };
    const echo = { fault: "refuse", code: 2 } as const;

    flintlockd.next("create", { ...echo, message: `creating microvm: no room for ${token}` });
    const error = await thrown(driver.create(harness.aSpec({ link }), signal));
    await driver.create(harness.aSpec({ link }), signal);

    const said = `${lines.join()}${describeError(error)}${(error as Error).stack}`;
    for (const secret of [token, ...secrets]) expect(said).not.toContain(secret);
    expect(describeError(error)).toContain("no room for [secret]");
    expect(secrets).toHaveLength(2);
    expect(flintlockd.wire.find(secrets[1] ?? "").length).toBeGreaterThan(0);
  });

  test("a host with many machines and nothing to do is asked one list every five seconds, and nothing else", async () => {
    const { harness, driver, flintlockd } = await open({ factor: 50 });
    for (let machine = 0; machine < 20; machine++)
      await harness.makeBehind({ id: `fr-aaaaaaa${"abcdefghijklmnopqrst"[machine]}` });
    await flintlockd.idle();
    driver.onExit(() => {});
    await driver.list(signal);
    flintlockd.wire.clear();
    const ends = harness.clock.now() + 120_000;
    while (harness.clock.now() < ends) {
      expect(await driver.list(signal)).toHaveLength(20);
      await harness.clock.sleep(1_000);
    }

    expect(flintlockd.wire.calls.every(({ kind }) => kind === "list")).toBe(true);
    expect(flintlockd.wire.count("list")).toBeGreaterThan(5);
    expect(flintlockd.wire.count("list")).toBeLessThanOrEqual(32);
  });
});
