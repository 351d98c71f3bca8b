import { writeFile } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { temporaryDirectory } from "../../../test/builders/temporary-directory.ts";
import { createRelayBench } from "../../../test/integration/relay-bench.ts";
import { makeCertificateAuthority } from "../../../test/servers/certificates.ts";
import { systemClock } from "../../base/clock.ts";
import { RelaySettings } from "../../relay/config.ts";
import type { Finding, RunningFireRunner } from "./findings.ts";
import { relayChecks } from "./fleet.ts";

const running: RunningFireRunner = { addresses: [] };

async function look(
  relay: Record<string, unknown>,
  state: string,
  runs?: RunningFireRunner,
): Promise<Record<string, Finding>> {
  const config = { relay: RelaySettings.parse(relay), state };
  const checks = relayChecks({ config, running: runs, clock: systemClock });
  const signal = AbortSignal.timeout(15_000);
  return Object.fromEntries(
    await Promise.all(checks.map(async ({ name, run }) => [name, await run(signal)] as const)),
  );
}

test("nothing is asked where no machine comes from elsewhere", async () => {
  expect(await look({}, "/nowhere")).toEqual({});
});

test("before the first start: the address is free, the certificate is still to be made", async () => {
  await using directory = await temporaryDirectory();
  const found = await look({ listen: ["127.0.0.1:0"], advertise: "relay.example.org:8444" }, directory.path);

  expect(found).toMatchObject({
    "relay 127.0.0.1:0": { level: "ok", message: expect.stringContaining("free") },
    "relay certificate": { level: "ok", message: expect.stringContaining("first start") },
    "relay.advertise": { level: "ok", message: expect.stringContaining("relay.example.org:8444") },
  });
});

test("an address that only this computer can call is warned of", async () => {
  const found = await look({ listen: ["127.0.0.1:0"] }, "/nowhere");

  expect(found["relay.advertise"]).toMatchObject({
    level: "warn",
    hint: expect.stringContaining("relay.advertise"),
  });
});

test("an address that another program has is a failure that names it", async () => {
  await using directory = await temporaryDirectory();
  const server = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  const [quiet, busy] = [
    await look({ listen: [address] }, directory.path),
    await look({ listen: [address] }, directory.path, running),
  ];
  await new Promise((resolve) => server.close(resolve));

  for (const found of [quiet, busy]) {
    expect(found[`relay ${address}`]).toMatchObject({
      level: "fail",
      message: expect.stringContaining("another"),
    });
  }
});

test("the running FireRunner's own relay is known by its authority", async () => {
  const bench = await createRelayBench({ network: true });
  const { address } = await bench.relay.trials.open("fr-aaaaaaaa");
  const found = await look({ listen: [address] }, bench.directory, running);
  await bench.close();

  expect(found[`relay ${address}`]).toEqual({
    level: "ok",
    message: "the running FireRunner's relay listens there",
  });
  expect(found["relay certificate"]?.message).toMatch(/is for 127\.0\.0\.1, ends in .+ renewed by itself/);
});

test("a FireRunner that runs and does not listen wants a restart", async () => {
  await using directory = await temporaryDirectory();
  const found = await look({ listen: ["127.0.0.1:0"] }, directory.path, running);

  expect(found["relay 127.0.0.1:0"]).toMatchObject({
    level: "warn",
    hint: expect.stringContaining("Restart"),
  });
});

describe("a certificate of the operator's", () => {
  async function certificateFinding(host: string, days: number): Promise<Finding | undefined> {
    await using authority = await makeCertificateAuthority();
    await using directory = await temporaryDirectory();
    const at = (file: string) => join(directory.path, file);
    const { cert, key } = await authority.issue(host, days);
    await writeFile(at("tls.crt"), cert);
    await writeFile(at("tls.key"), key, { mode: 0o600 });
    await writeFile(at("ca.pem"), authority.ca);
    const tls = { certificateFile: at("tls.crt"), keyFile: at("tls.key"), caFile: at("ca.pem") };
    const relay = { listen: ["127.0.0.1:0"], advertise: "relay.example.org:8444", tls };
    return (await look(relay, directory.path))["relay certificate"];
  }

  test.each<[string, number, Finding["level"], string]>([
    ["relay.example.org", 90, "ok", "fits its key, is for relay.example.org"],
    ["relay.example.org", 3, "warn", "ends in"],
    ["relay.example.org", -1, "fail", "has expired"],
    ["other.example.org", 90, "fail", "cannot be used"],
  ])("for %s with %i days is %s", async (host, days, level, words) => {
    const finding = await certificateFinding(host, days);

    expect(finding?.level).toBe(level);
    expect(finding?.message).toContain(words);
    if (level !== "ok") expect(finding?.hint).toBeDefined();
  });
});
