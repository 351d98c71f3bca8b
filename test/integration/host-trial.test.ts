import { afterEach, describe, expect, test } from "vitest";
import { systemClock } from "../../src/base/clock.ts";
import { silentLog } from "../../src/base/log.ts";
import { Secret } from "../../src/base/secret.ts";
import { type HostTrialOptions, tryHost, tryReach } from "../../src/operations/host-trial/host-trial.ts";
import { trialEndpoint } from "../../src/operations/host-trial/trial-order.ts";
import type { TrialStep } from "../../src/views/trial-api.ts";
import type { FlintlockHost } from "../../src/vm/flintlock/config.ts";
import { FlintlockConfig } from "../../src/vm/flintlock/config.ts";
import { aFlintlockHost } from "../builders/flintlock-host.ts";
import { aSpec, bareClient } from "../flintlockd/client.ts";
import { publishedImage } from "../flintlockd/harness.ts";
import type { Boot, StandInOptions } from "../flintlockd/options.ts";
import { type Flintlockd, startFlintlockd } from "../flintlockd/stand-in.ts";
import { eventually } from "../harness/eventually.ts";
import { askForBootData, linkOfBoot } from "../harness/metadata-guest.ts";
import { makeCertificateAuthority } from "../servers/certificates.ts";
import { createRelayBench, type RelayBench } from "./relay-bench.ts";

const NAMESPACE = "fr-ours";
const localImages = Object.values(publishedImage.published);
const goodSteps = ["connect", "authenticate", "list", "image", "create", "guest", "delete", "gone"];

let flintlockd: Flintlockd;
let bench: RelayBench | undefined;

afterEach(async () => {
  await flintlockd[Symbol.asyncDispose]();
  await bench?.close();
  bench = undefined;
});

interface Setting extends Omit<Partial<HostTrialOptions>, "host"> {
  readonly daemon?: StandInOptions;
  readonly host?: Partial<FlintlockHost>;
  /** False: a FireRunner without a relay on the network. */
  readonly relay?: boolean;
}

async function prepare({ daemon = {}, host = {}, relay = true, ...rest }: Setting = {}) {
  flintlockd = await startFlintlockd({ localImages, ...daemon });
  bench = await createRelayBench({ network: relay });
  const { hosts: _, ...settings } = FlintlockConfig.parse({});
  const options: HostTrialOptions = {
    host: aFlintlockHost({ addresses: [flintlockd.address], ...host }),
    namespace: NAMESPACE,
    settings,
    image: { name: "base", resolve: async () => publishedImage },
    askRegistry: async () => ({ state: "there", words: "it has both" }),
    endpoint: trialEndpoint(bench.relay.trials),
    bootDeadlineMs: 20_000,
    clock: systemClock,
    log: silentLog,
    ...rest,
  };
  return options;
}

async function stepsOf(options: HostTrialOptions): Promise<TrialStep[]> {
  return await collect(tryHost(options, new AbortController().signal));
}

async function collect(steps: AsyncIterable<TrialStep>): Promise<TrialStep[]> {
  const all: TrialStep[] = [];
  for await (const each of steps) all.push(each);
  return all;
}

const levels = (steps: readonly TrialStep[]) => steps.map(({ name, level }) => `${name}: ${level}`);

/** Speaks to the relay as soon as it runs. */
const speak = (boots: Boot[] = []) => ({
  onBoot(boot: Boot) {
    boots.push(boot);
    void askForBootData(boot);
    return undefined;
  },
});

describe("the trial of a host", () => {
  test("goes all the way over TLS with a token, and leaves nothing", async () => {
    await using authority = await makeCertificateAuthority();
    const boots: Boot[] = [];
    const options = await prepare({
      daemon: { security: await authority.issue("localhost"), token: "open sesame", ...speak(boots) },
      host: {
        tls: { ca: authority.ca, certificate: undefined, key: undefined, serverName: "localhost" },
        token: new Secret("open sesame"),
      },
    });
    const steps = await stepsOf(options);
    const [boot] = boots;
    const late = boot && (await askForBootData(boot));

    expect(levels(steps)).toEqual(goodSteps.map((name) => `${name}: ok`));
    expect(steps.find(({ name }) => name === "guest")?.relayMs).toBeGreaterThan(0);
    expect(boot).toMatchObject({ namespace: "fr-ours-trial", number: 1 });
    expect(boot?.spec).toMatchObject({ vcpu: 1, memoryInMb: 1_024 });
    expect(flintlockd.machines()).toEqual([]);
    expect(flintlockd.wire.count("create")).toBe(1);
    // Its secret was good for the trial alone.
    expect(late).toBe("");
    expect(await bench?.store.machines({ live: false })).toEqual([]);
  });

  test("with a guest that is never heard fails in words, and removes the machine all the same", async () => {
    const options = await prepare({ bootDeadlineMs: 500 });
    const steps = await stepsOf(options);
    const guest = steps.find(({ name }) => name === "guest");

    expect(levels(steps).slice(-4)).toEqual(["create: ok", "guest: fail", "delete: ok", "gone: ok"]);
    expect(guest?.message).toMatch(/not spoken to the relay at 127\.0\.0\.1:\d+ within/);
    expect(guest?.hint).toContain("relay.advertise");
    expect(flintlockd.machines()).toEqual([]);
  });

  test("is not fooled by a guest with a wrong secret", async () => {
    const options = await prepare({
      bootDeadlineMs: 1_000,
      daemon: {
        onBoot(boot) {
          void askForBootData(boot, { ...linkOfBoot(boot), secret: new Secret("0".repeat(64)) });
          return undefined;
        },
      },
    });

    expect(levels(await stepsOf(options))).toContain("guest: fail");
  });

  test.each(["interrupted", "left"])("that is %s in the middle removes what it made", async (how) => {
    const options = await prepare();
    const interrupt = new AbortController();
    const steps = tryHost(options, interrupt.signal);
    const follow = async () => {
      for await (const { name } of steps) {
        if (name !== "create") continue;
        expect(flintlockd.machines()).toHaveLength(1);
        if (how === "left") return;
        interrupt.abort(new Error("interrupted"));
      }
    };
    const end = await follow().then(
      () => "ended",
      (error: unknown) => String(error),
    );

    expect(end).toContain(how === "left" ? "ended" : "interrupted");
    expect(flintlockd.machines()).toEqual([]);
  });

  test("that is interrupted while the host still makes the machine removes it too", async () => {
    const options = await prepare({ daemon: { times: { createMs: 100_000 } } });
    const interrupt = new AbortController();
    const over = collect(tryHost(options, interrupt.signal)).catch(() => "interrupted");
    await eventually("the create has come", () => flintlockd.machines().length === 1);
    interrupt.abort(new Error("interrupted"));

    expect(await over).toBe("interrupted");
    expect(flintlockd.machines()).toEqual([]);
  });

  test("begins with what an earlier one left, and touches nothing else", async () => {
    const options = await prepare({ daemon: speak() });
    const { kernel: image, root } = publishedImage.published;
    const parts = {
      kernel: { image, filename: "boot/vmlinux" },
      rootVolume: { id: "root", source: { containerSource: root } },
    };
    const calls = bareClient(flintlockd.address);
    await calls.createMicroVM({
      microvm: aSpec({ id: "fr-aaaaaaaa", namespace: "fr-ours-trial", ...parts }),
    });
    await calls.createMicroVM({ microvm: aSpec({ id: "fr-bbbbbbbb", namespace: NAMESPACE, ...parts }) });
    await flintlockd.idle();
    const steps = await stepsOf(options);

    expect(levels(steps)).toContain("leftovers: ok");
    expect(steps.at(-1)).toMatchObject({ name: "gone", level: "ok" });
    expect(flintlockd.machines().map(({ id }) => id)).toEqual(["fr-bbbbbbbb"]);
  });

  test("without a relay on the network leaves the guest out, and says so", async () => {
    const options = await prepare({ relay: false });
    const steps = await stepsOf(options);

    expect(levels(steps)).toEqual(goodSteps.map((name) => `${name}: ${name === "guest" ? "skip" : "ok"}`));
    expect(steps.find(({ name }) => name === "guest")?.hint).toContain("relay.listen");
    expect(flintlockd.machines()).toEqual([]);
  });

  test("makes nothing of an image that its registry does not have any more", async () => {
    const words = "the registry registry.example.org does not have it any more";
    const options = await prepare({ askRegistry: async () => ({ state: "gone", words }) });
    const steps = await stepsOf(options);

    expect(steps.at(-1)).toMatchObject({
      name: "image",
      level: "fail",
      message: expect.stringContaining(words),
    });
    expect(flintlockd.machines()).toEqual([]);
  });

  test("makes nothing of an image that was never pushed", async () => {
    const { published: _, ...unpublished } = publishedImage;
    const options = await prepare({ image: { name: "docker", resolve: async () => unpublished } });
    const steps = await stepsOf(options);

    expect(steps.at(-1)).toMatchObject({ name: "image", level: "fail" });
    expect(steps.at(-1)?.hint).toBe("firerunner image push REGISTRY/NAME --name docker");
    expect(flintlockd.wire.count("create")).toBe(0);
  });

  test("tells a machine that the host cannot make from one that is not heard", async () => {
    const options = await prepare({ daemon: { localImages: [], registryHas: () => false } });
    const steps = await stepsOf(options);

    expect(levels(steps).slice(-3)).toEqual(["create: fail", "delete: ok", "gone: ok"]);
    expect(flintlockd.machines()).toEqual([]);
  });
});

describe("the first steps", () => {
  async function reached(options: HostTrialOptions): Promise<TrialStep[]> {
    return await collect(tryReach(options, new AbortController().signal));
  }

  test("make nothing, and warn of a daemon that asks nobody who he is", async () => {
    const steps = await reached(await prepare());

    expect(levels(steps)).toEqual(["connect: ok", "authenticate: ok", "list: ok"]);
    expect(steps[1]?.message).toContain("from everybody");
    expect(flintlockd.wire.calls.map(({ kind }) => kind)).toEqual(["list", "list"]);
  });

  test.each<[string, string, Setting, string]>([
    ["that is away", "connect", { host: { addresses: ["127.0.0.1:1"] } }, "connect"],
    [
      "with another token",
      "authenticate",
      { daemon: { token: "a" }, host: { token: new Secret("b") } },
      "token",
    ],
    ["that wants a token", "authenticate", { daemon: { token: "a" } }, "token"],
  ])("of a host %s end at “%s”", async (_, name, setting, word) => {
    const last = (await reached(await prepare(setting))).at(-1);

    expect(last).toMatchObject({ name, level: "fail" });
    expect(`${last?.message} ${last?.hint}`).toContain(word);
  });

  test("of a daemon whose list is poisoned end there", async () => {
    const options = await prepare();
    await bareClient(flintlockd.address).createMicroVM({ microvm: aSpec({ id: "a/b" }) });
    const steps = await reached(options);

    expect(levels(steps)).toEqual(["connect: ok", "authenticate: ok", "list: fail"]);
    expect(steps[2]?.hint).toContain("leases rm");
  });
});
