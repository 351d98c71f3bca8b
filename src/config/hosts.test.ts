import { describe, expect, test } from "vitest";
import { filesInMemory } from "../../test/builders/files-in-memory.ts";
import { hostNotes } from "./hosts.ts";
import { type Config, loadConfig } from "./load.ts";
import { diffConfig } from "./reload.ts";

const ca = "-----BEGIN CERTIFICATE-----\nca\n-----END CERTIFICATE-----\n";
const key = "-----BEGIN PRIVATE KEY-----\nkey\n-----END PRIVATE KEY-----\n";
const files: Readonly<Record<string, string>> = {
  "/etc/fr/ca.pem": ca,
  "/etc/fr/own.pem": ca,
  "/etc/fr/own.key": key,
  "/etc/fr/token": "s3cret\n",
};

async function load(hosts: string, more: Partial<Record<string, string>> = {}, rest = ""): Promise<Config> {
  const yaml = `gitlab: { url: https://gitlab.example.com }
pools: { small: { runner: { token: glrt-one } } }
relay: { listen: [0.0.0.0:9443], advertise: relay.example.org:9443 }
vm: { flintlock: { hosts: ${hosts} } }
${rest}`;
  return await loadConfig({
    file: "/etc/fr/f.yaml",
    env: {},
    readFile: filesInMemory({ ...files, ...more, "/etc/fr/f.yaml": yaml }),
  });
}

const small = "address: metal-1:9090, cpus: 4, memory: 8GiB";

describe("hosts of the flintlock driver", () => {
  test("are ready for use: files read, CPUs over-committed, secrets hidden", async () => {
    const config = await load(`{ metal-1: {
      address: [metal-1.example.org:9090, "[2001:db8::1]:9090"], cpus: 16, cpuOvercommit: 1.5, memory: 64GiB, disk: 100GiB,
      tokenFile: token, tls: { caFile: ca.pem, certificateFile: own.pem, keyFile: own.key, serverName: metal },
      labels: { zone: a }, network: { bridge: fl0, addresses: 10.77.0.10-10.77.0.99/24, gateway: 10.77.0.1 } } }`);
    const host = config.hosts.get("metal-1");

    expect(host).toMatchObject({
      name: "metal-1",
      addresses: ["metal-1.example.org:9090", "[2001:db8::1]:9090"],
      capacity: { cpus: 24, memoryMib: 65_536, machines: 24, diskMib: 102_400 },
      labels: { zone: "a" },
      tls: { ca, certificate: ca, serverName: "metal" },
      network: {
        bridge: "fl0",
        addresses: { first: "10.77.0.10", last: "10.77.0.99", prefixLength: 24 },
        gateway: "10.77.0.1",
        nameservers: [],
      },
    });
    expect(host?.token?.reveal()).toBe("s3cret");
    expect(host?.tls?.key?.reveal()).toBe(key);
    expect(JSON.stringify(config)).not.toContain("s3cret");
  });

  test("without a disk have no limit by disk", async () => {
    const config = await load(`{ a: { ${small} } }`);

    expect(config.hosts.get("a")?.capacity.diskMib).toBeUndefined();
  });

  test.each([
    ["without TLS is refused", "plaintext: true, token: s3cret", /would go over the network for all to read/],
    ["from a file, too", "plaintext: true, tokenFile: token", /tokenOverPlaintext: true/],
    ["with TLS is sent", "token: s3cret", undefined],
    [
      "without TLS is sent where that is said",
      "plaintext: true, token: s3cret, tokenOverPlaintext: true",
      undefined,
    ],
  ])("a token %s", async (_, how, problem) => {
    const loading = load(`{ a: { ${small}, ${how} } }`);

    if (problem) await expect(loading).rejects.toThrow(problem);
    else expect((await loading).hosts.get("a")?.token?.reveal()).toBe("s3cret");
  });

  test.each(["127.0.0.1:9090", "localhost:9090", "'[::1]:9090'"])(
    "a token that stays on this computer (%s) needs no TLS",
    async (address) => {
      const config = await load(
        `{ a: { address: ${address}, cpus: 1, memory: 1GiB, plaintext: true, token: s3cret } }`,
      );

      expect(config.hosts.get("a")?.token?.reveal()).toBe("s3cret");
    },
  );

  test("a token is not sent without TLS when one of several addresses is elsewhere", async () => {
    const address = "[127.0.0.1:9090, 127.0.0.1.example.org:9090]";

    await expect(
      load(`{ a: { address: ${address}, cpus: 1, memory: 1GiB, plaintext: true, token: s3cret } }`),
    ).rejects.toThrow(/for all to read/);
  });

  test("speak TLS unless the configuration says that they do not", async () => {
    const config = await load(`{ a: { ${small} }, b: { ${small}, plaintext: true } }`);

    expect(config.hosts.get("a")?.tls).toEqual({});
    expect(config.hosts.get("b")?.tls).toBeUndefined();
  });

  test.each([
    [`{ a: { ${small}, token: t, tokenFile: token } }`, "give only one of token and tokenFile"],
    [`{ a: { ${small}, token: "two words" } }`, "is no token"],
    [`{ a: { ${small}, tls: { caFile: none.pem } } }`, "none.pem does not exist"],
    [`{ a: { ${small}, tls: { caFile: token } } }`, "is no PEM file with a certificate"],
    [`{ a: { ${small}, tls: { keyFile: own.key } } }`, "give both of certificateFile and keyFile"],
    [`{ local: { ${small} } }`, "“local” is this computer"],
    [`{ a: { address: metal-1, cpus: 4, memory: 8GiB } }`, "expected host:port"],
    [
      `{ a: { ${small}, network: { addresses: 10.0.0.9-10.0.0.2/24 } } }`,
      "the first address is behind the last",
    ],
    [`{ a: { ${small}, network: { addresses: 10.0.0.9-10.0.1.2/24 } } }`, "not within one /24 network"],
    [`{ a: { ${small}, network: { addresses: 10.0.0.0-10.0.0.9/24 } } }`, "the network's own address"],
    [`{ a: { ${small}, network: { addresses: 10.0.0.300-10.0.1.2/24 } } }`, "0 to 255"],
  ])("%s is refused: %s", async (hosts, words) => {
    await expect(load(hosts)).rejects.toThrow(words);
  });

  test("must exist where a pool needs them, with the labels it asks for", async () => {
    const pool = (words: string) => `webhook: { group: g, apiToken: t, machine: { ${words} } }`;
    const hosts = `{ a: { ${small}, labels: { zone: a } } }`;

    await expect(load("{}", {}, pool("driver: flintlock"))).rejects.toThrow(
      "vm.flintlock.hosts names no host",
    );
    await expect(load(hosts, {}, pool("driver: flintlock, hostLabels: { zone: b }"))).rejects.toThrow(
      "webhook.machine.hostLabels can never be met: no host in vm.flintlock.hosts has them all (zone: b is missing)",
    );
    await expect(load(hosts, {}, pool("hostLabels: { zone: a }"))).rejects.toThrow(
      "this computer has no labels",
    );
    await expect(load(hosts, {}, pool("driver: flintlock, hostLabels: { zone: a }"))).resolves.toBeDefined();
  });

  test("are needed for roots of other people, which are pinned by their digest", async () => {
    const hosts = `{ a: { ${small} } }`;
    const roots = (reference: string) => `images: { roots: { ubuntu: { root: "${reference}" } } }`;
    const pinned = roots(`registry.example.org/ci/ubuntu@sha256:${"a".repeat(64)}`);
    const machine = (words: string) => `webhook: { group: g, apiToken: t, machine: { ${words} } }\n${pinned}`;

    await expect(load(hosts, {}, machine("image: ubuntu"))).rejects.toThrow(
      "webhook.machine.image is ubuntu of images.roots, which machines on this computer cannot boot: it needs driver: flintlock",
    );
    const config = await load(hosts, {}, machine("driver: flintlock, image: ubuntu"));
    expect(config.images.roots["ubuntu"]).toMatchObject({ base: "base" });
    for (const reference of ["ci/ubuntu", "registry.example.org/ci/ubuntu:24.04"])
      await expect(load(hosts, {}, roots(reference))).rejects.toThrow("expected REGISTRY/NAME@sha256:…");
  });

  test("get no more machines than they have addresses, and that is said where their room allows more", async () => {
    const network = (addresses: string) => `network: { addresses: ${addresses}, gateway: 10.77.0.1 }`;
    const { hosts } = await load(`{
      few: { ${small}, ${network("10.77.0.1-10.77.0.3/24")} },
      enough: { ${small}, ${network("10.77.0.10-10.77.0.99/24")} },
      settled: { ${small}, machines: 2, ${network("10.77.0.10-10.77.0.11/24")} },
      more: { ${small}, machines: 3, ${network("10.77.0.10-10.77.0.11/24")} },
      fewer: { ${small}, machines: 1, ${network("10.77.0.10-10.77.0.11/24")} } }`);

    expect([...hosts.values()].map(({ capacity }) => capacity.machines)).toEqual([2, 8, 2, 2, 1]);
    expect(hostNotes(hosts)).toEqual([
      {
        problem: expect.stringMatching(/^the host few has no more than 2 machines/),
        hint: expect.stringMatching(/^its other settings allow 8: .+, or say machines: 2 there$/),
      },
      {
        problem: expect.stringMatching(/^the host more has no more than 2 machines/),
        hint: expect.stringMatching(/^its other settings allow 3: /),
      },
    ]);
    await expect(load(`{ none: { ${small}, ${network("10.77.0.1-10.77.0.1/24")} } }`)).rejects.toThrow(
      "no address beside the gateway's",
    );
  });

  test("that come, go or change are told of in a line each, and take effect at once", async () => {
    const old = await load(`{ a: { ${small}, tokenFile: token }, b: { ${small} }, c: { ${small} } }`);
    const next = await load(
      `{ a: { ${small}, tokenFile: token }, c: { ${small}, machines: 2 }, d: { ${small} } }`,
      {
        "/etc/fr/token": "another\n",
      },
    );

    expect(diffConfig(old, next)).toEqual({
      live: [
        "host a changed",
        "host b removed: its machines end as usual, no new ones are started",
        "host c changed",
        "host d added",
        "vm.flintlock.hosts.c.machines: not set → 2",
      ],
      restart: [],
    });
  });
});
