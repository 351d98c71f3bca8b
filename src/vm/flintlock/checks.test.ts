import { describe, expect, test } from "vitest";
import { Secret } from "../../base/secret.ts";
import type { MicroVmRequest } from "./client.ts";
import { flintlockSizeProblem } from "./config.ts";
import { checkRequest, machineRequest } from "./request.ts";

const registry = "registry.example.org:5000/fr";
const digest = `sha256:${"a".repeat(64)}`;
const published = { kernel: `${registry}/kernel@${digest}`, root: `${registry}/root@${digest}` };

function aRequest(change: Partial<MicroVmRequest> = {}): MicroVmRequest {
  const image = { digest, architecture: "amd64", kernel: "", initramfs: "", layers: [], published };
  const request = machineRequest({
    spec: { id: "fr-aaaaaaaa", size: { cpus: 2, memoryMib: 2_048, diskMib: 1_024 }, image },
    namespace: "fr-0123",
    network: { bridge: "fl0", addresses: undefined, gateway: "10.77.0.1", nameservers: ["10.77.0.1"] },
    address: "10.77.0.10/24",
    link: {
      address: "relay:8443",
      serverName: "relay",
      ca: "-----BEGIN",
      secret: new Secret("c".repeat(64)),
    },
  });
  return { ...request, ...change };
}

const eth1 = { deviceId: "eth1", type: 1 };
const base64 = (text: string) => Buffer.from(text).toString("base64");

describe("what may be sent to flintlockd", () => {
  test("the request of a machine of ours, with its kernel, its disk, one TAP and all metadata in base64", () => {
    const request = aRequest();

    expect(() => checkRequest(request)).not.toThrow();
    expect(request).toMatchObject({
      vcpu: 2,
      memoryInMb: 2_048,
      kernel: { image: published.kernel, filename: "boot/vmlinux" },
      initrd: { image: published.kernel, filename: "boot/initrd.img" },
      rootVolume: { isReadOnly: false, source: { containerSource: published.root } },
      interfaces: [
        {
          ...eth1,
          overrides: { bridgeName: "fl0" },
          address: { address: "10.77.0.10/24", gateway: "10.77.0.1/24", nameservers: ["10.77.0.1"] },
        },
      ],
    });
    expect(Buffer.from(request.metadata?.["firerunner"] ?? "", "base64").toString()).toContain(
      "c".repeat(64),
    );
  });

  test("without a bridge or an address of ours there are no overrides and no address, which the daemon could not bear", () => {
    const image = { digest, architecture: "amd64", kernel: "", initramfs: "", layers: [], published };
    const { interfaces } = machineRequest({
      spec: { id: "fr-aaaaaaaa", size: { cpus: 1, memoryMib: 1_024, diskMib: 64 }, image },
      namespace: "fr-0123",
      network: { bridge: undefined, addresses: undefined, gateway: undefined, nameservers: [] },
      address: undefined,
      link: { address: "relay:1", serverName: "relay", ca: "", secret: new Secret("c") },
    });

    expect(interfaces).toEqual([eth1]);
  });

  test.each<[string, Partial<MicroVmRequest>, RegExp]>([
    ["an id with a slash", { id: "a/b" }, /its id “a\/b”/],
    ["an empty id", { id: "" }, /its id/],
    ["a namespace with a quote", { namespace: 'a"' }, /its namespace/],
    ["no kernel", { kernel: undefined as never }, /no kernel/],
    ["a kernel without a file name", { kernel: { image: published.kernel } }, /no kernel/],
    ["an initrd without a file name", { initrd: { image: published.kernel } }, /initrd/],
    ["no root volume", { rootVolume: undefined as never }, /no root volume/],
    ["a root volume without an image", { rootVolume: { id: "root", source: {} } }, /no root volume/],
    ["an odd number of CPUs", { vcpu: 3 }, /even number/],
    ["too many CPUs", { vcpu: 34 }, /1 to 32 CPUs/],
    ["too little memory", { memoryInMb: 512 }, /1 GiB of memory/],
    ["too much memory", { memoryInMb: 40_000 }, /32 GiB/],
    ["no interface", { interfaces: [] }, /no network interface/],
    ["the default type of interface", { interfaces: [{ deviceId: "eth1" }] }, /not a TAP/],
    ["an interface named eth0", { interfaces: [{ ...eth1, deviceId: "eth0" }] }, /eth0/],
    ["an interface named in capitals", { interfaces: [{ ...eth1, deviceId: "Eth-1" }] }, /Eth-1/],
    ["overrides without a bridge", { interfaces: [{ ...eth1, overrides: {} }] }, /no bridge/],
    ["an address without prefix", { interfaces: [{ ...eth1, address: { address: "10.0.0.2" } }] }, /prefix/],
    [
      "a gateway without prefix",
      { interfaces: [{ ...eth1, address: { address: "10.0.0.2/24", gateway: "10.0.0.1" } }] },
      /prefix/,
    ],
    [
      "a name server by name",
      { interfaces: [{ ...eth1, address: { address: "10.0.0.2/24", nameservers: ["dns"] } }] },
      /name server/,
    ],
    ["metadata that is not base64", { metadata: { firerunner: "a=b\n" } }, /not base64/],
    ["empty metadata", { metadata: { firerunner: "" } }, /not base64/],
    [
      "too much metadata",
      { metadata: { a: base64("x".repeat(30_000)), b: base64("y".repeat(20_000)) } },
      /bytes of/,
    ],
    [
      "an image without a registry",
      { rootVolume: { source: { containerSource: `lab/root@${digest}` } } },
      /registry/,
    ],
    [
      "an image without a digest",
      { rootVolume: { source: { containerSource: `${registry}/root:v1` } } },
      /no digest/,
    ],
  ])("not %s", (_, change, words) => {
    expect(() => checkRequest(aRequest(change))).toThrow(words);
    expect(() => checkRequest(aRequest(change))).toThrow(expect.objectContaining({ code: "vm_bad_spec" }));
  });
});

describe("sizes", () => {
  test.each([
    [1, 1_024, undefined],
    [2, 4_096, undefined],
    [32, 32_768, undefined],
    [3, 4_096, "even"],
    [0, 4_096, "CPUs"],
    [1.5, 4_096, "whole CPUs"],
    [33, 4_096, "CPUs"],
    [2, 1_023, "memory"],
    [2, 32_769, "memory"],
    [2, 2_048.5, "memory"],
  ])("%s CPUs and %s MiB", (cpus, memoryMib, words) => {
    const problem = flintlockSizeProblem({ cpus, memoryMib, diskMib: 1_024 });

    if (words === undefined) expect(problem).toBeUndefined();
    else expect(problem).toContain(words);
  });
});
