import { describe, expect, test } from "vitest";
import { NetworkInterface_IfaceType } from "../../src/vm/flintlock/gen/types_pb.js";
import { aSpec, bareClient, failure } from "../flintlockd/client.ts";
import { atItsWorst } from "../flintlockd/options.ts";
import { startFlintlockd } from "../flintlockd/stand-in.ts";

const base64 = (text: string) => Buffer.from(text).toString("base64");
const TAP = NetworkInterface_IfaceType.TAP;

describe("a machine's way", () => {
  test("it is created, booted, listed and deleted as the transcripts show", async () => {
    await using host = await startFlintlockd();
    const client = bareClient(host.address);
    const metadata = {
      "meta-data": base64("local-hostname: job-1\ninstance-id: job-1\n"),
      firerunner: base64("x"),
    };

    const { microvm } = await client.createMicroVM({
      microvm: aSpec({ labels: { team: "ci" }, uid: "mine", metadata }),
    });
    await host.until("it is created", ([machine]) => machine?.state === "CREATED");
    const uid = microvm?.spec?.uid ?? "";
    const got = await client.getMicroVM({ uid });

    expect(uid).toMatch(/^[0-9A-HJKMNP-TV-Z]{26}$/);
    expect(microvm).toMatchObject({ version: 1, status: { state: 0, retry: 0 }, spec: { labels: {} } });
    expect(microvm?.spec?.interfaces.map(({ deviceId }) => deviceId)).toEqual(["eth0", "eth1"]);
    expect(microvm?.spec?.interfaces[0]).toMatchObject({ guestMac: "AA:FF:00:00:00:01" });
    expect(got.microvm).toMatchObject({ version: 2, status: { state: 1, retry: 0 } });
    expect(Buffer.from(got.microvm?.spec?.metadata["meta-data"] ?? "", "base64").toString()).toBe(
      `instance-id: job-1\ninstance_id: ${uid}\nlocal-hostname: job-1\n`,
    );
    expect(host.machine("vm1")).toMatchObject({ alive: true, boots: 1, metadata: { firerunner: "x" } });

    await client.deleteMicroVM({ uid });
    await host.until("it is gone", (machines) => machines.length === 0);

    const missing = `microvm spec //${uid} not found`;
    expect(await failure(client.getMicroVM({ uid }))).toBe(
      `2 getting microvm: error attempting to locate microvm with uid: ${uid}: ${missing}`,
    );
    expect(await failure(client.deleteMicroVM({ uid }))).toBe(
      `2 deleting microvm: checking to see if spec exists: ${missing}`,
    );
    expect(host.loopSteps).toBe(0);
  });

  test("the same id twice makes two machines; lists know namespaces, names and all", async () => {
    await using host = await startFlintlockd();
    const client = bareClient(host.address);
    await client.createMicroVM({ microvm: aSpec() });
    await client.createMicroVM({ microvm: aSpec() });
    await client.createMicroVM({ microvm: aSpec({ id: "vm2", namespace: "other" }) });
    await host.until("all run", (machines) => machines.every(({ alive }) => alive));

    const count = async (filter: { namespace?: string; name?: string }) =>
      (await client.listMicroVMs(filter)).microvm.length;

    expect(await count({})).toBe(3);
    expect(await count({ namespace: "lab" })).toBe(2);
    expect(await count({ namespace: "lab", name: "vm2" })).toBe(0);
    expect(await count({ namespace: "nobody" })).toBe(0);
  });

  test("one worker: a pull holds up every other machine of the host", async () => {
    const times = { pullMs: 30_000, createMs: 1_000 };
    await using host = await startFlintlockd({ times, localImages: ["r.test/kernel:1"] });
    const client = bareClient(host.address);
    const kernel = { image: "r.test/kernel:1", filename: "boot/vmlinux" };
    const quick = { kernel, rootVolume: { id: "root", source: { containerSource: kernel.image } } };

    await client.createMicroVM({ microvm: aSpec({ id: "slow" }) });
    await client.createMicroVM({ microvm: { ...aSpec({ id: "quick", ...quick }), initrd: undefined } });
    await host.until("quick runs", () => host.machine("quick").alive);

    expect(host.machine("slow").alive).toBe(true);
  });

  test("failures are tried again ever later, without a word why, until FAILED", async () => {
    await using host = await startFlintlockd({ maximumRetry: 2, registryHas: () => false });
    const client = bareClient(host.address);
    const { microvm } = await client.createMicroVM({ microvm: aSpec() });
    await host.until("retry 1", ([machine]) => machine?.state === "PENDING" && machine.retry === 1);
    await host.until("retry 2", ([machine]) => machine?.state === "PENDING" && machine.retry === 2);
    await host.until("failed", ([machine]) => machine?.state === "FAILED" && machine.retry === 3);

    await client.deleteMicroVM({ uid: microvm?.spec?.uid ?? "" });
    expect(host.machine("vm1").state).toBe("DELETING");
    await host.until("gone after the back-off", (machines) => machines.length === 0);
  });

  test.each(["lab/kernel:v1", "kernel"])("%s names no registry: accepted, never pulled", async (image) => {
    await using host = await startFlintlockd();
    await bareClient(host.address).createMicroVM({
      microvm: aSpec({ kernel: { image, filename: "vmlinux" } }),
    });

    await host.until("it is tried again", ([machine]) => machine?.state === "PENDING" && machine.retry > 1);
  });
});

describe("refusals", () => {
  const iface = (fields: object) => ({ interfaces: [{ deviceId: "eth1", type: TAP, ...fields }] });
  const invalid =
    "2 creating microvm: an error occurred when attempting to validate microvm spec: validation failures found: ";
  const key = (path: string, tag: string) =>
    `${invalid}Key: 'MicroVM.Spec.${path}' Error:Field validation for '${path.split(".").at(-1)}' failed on the '${tag}' tag`;
  const address = (fields: object) => iface({ address: { address: "10.77.0.2/24", ...fields } });

  test.each([
    [{ id: "" }, "2 converting request: creating vmid from spec: name is required"],
    [{ interfaces: [] }, key("NetworkInterfaces", "required")],
    [{ vcpu: 65 }, key("VCPU", "lte")],
    [{ memoryInMb: 512 }, key("MemoryInMb", "gte")],
    [{ memoryInMb: 40_000 }, key("MemoryInMb", "lte")],
    [{ kernel: { image: "r.test/kernel:1" } }, key("Kernel.Filename", "required")],
    [iface({ deviceId: "Eth-1" }), key("NetworkInterfaces[0].GuestDeviceName", "guestDeviceName")],
    [iface({ guestMac: "zz" }), key("NetworkInterfaces[0].GuestMAC", "mac")],
    [address({ address: "10.77.0.2" }), key("NetworkInterfaces[0].StaticAddress.Address", "cidr")],
    [address({ gateway: "10.77.0.1" }), key("NetworkInterfaces[0].StaticAddress.Gateway", "cidr")],
    [address({ nameservers: ["dns"] }), key("NetworkInterfaces[0].StaticAddress.Nameservers[0]", "ip")],
    [
      { interfaces: [{ deviceId: "eth1" }] },
      "2 creating microvm: macvtap network interfaces not supported by the microvm provider",
    ],
    [
      { rootVolume: { id: "root", source: { virtiofsSource: "/srv" } } },
      "2 creating microvm: virtiofs not supported by the microvm provider",
    ],
    [{ provider: "qemu" }, "2 creating microvm: microvm provider qemu isn't available"],
    [
      { metadata: { "meta-data": "bm90IGJh:2U=" } },
      "2 creating microvm: adding instance data: decoding existing instance metadata: illegal base64 data at input byte 8",
    ],
    [
      { metadata: { "meta-data": base64("a: [b]\n") } },
      "2 creating microvm: adding instance data: unmarshalling exists instance metadata: error unmarshaling JSON: " +
        "while decoding JSON: json: cannot unmarshal array into Go value of type string",
    ],
  ])("create %j", async (overrides, answer) => {
    await using host = await startFlintlockd();

    expect(await failure(bareClient(host.address).createMicroVM({ microvm: aSpec(overrides) }))).toBe(answer);
    expect(host.machines()).toEqual([]);
  });

  test.each(["a,b", 'a"b', "a b", "käse"])("create with the id %s", async (id) => {
    await using host = await startFlintlockd();

    expect(await failure(bareClient(host.address).createMicroVM({ microvm: aSpec({ id }) }))).toMatch(
      /^2 creating microvm: .*filters: parse error: .*: invalid argument$/,
    );
  });

  test("calls without what they are about", async () => {
    await using host = await startFlintlockd();
    const client = bareClient(host.address);

    expect(await failure(client.createMicroVM({}))).toBe(
      "3 invalid create microvm request: MicroVMSpec required",
    );
    expect(await failure(client.getMicroVM({}))).toBe("3 invalid request");
    expect(await failure(client.deleteMicroVM({}))).toBe("3 invalid request");
  });
});

test("at its worst it still makes machines, and each list fails while one is deleted", async () => {
  await using host = await startFlintlockd({ misbehaviour: atItsWorst, times: { deleteMs: 200_000 } });
  const client = bareClient(host.address);
  const { microvm } = await client.createMicroVM({ microvm: aSpec() });
  await host.until("it runs", ([machine]) => machine?.state === "CREATED");

  await client.deleteMicroVM({ uid: microvm?.spec?.uid ?? "" });

  expect(await failure(client.listMicroVMs({}))).toMatch(
    /^2 getting all microvms: error attempting to list microvms: map\[namespace:\]: getting microvm spec: reading content sha256:[0-9a-f]{64}: failed reading from content store$/,
  );
});
