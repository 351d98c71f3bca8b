import { expect, test } from "vitest";
import { aFlintlockHost } from "../../../test/builders/flintlock-host.ts";
import { startFlintlockd } from "../../../test/flintlockd/stand-in.ts";
import { systemClock } from "../../base/clock.ts";
import { VmConfig } from "../../vm/config.ts";
import type { FlintlockHost } from "../../vm/flintlock/config.ts";
import { fleetChecks } from "./fleet.ts";

async function look(...hosts: FlintlockHost[]) {
  const config = { hosts: new Map(hosts.map((host) => [host.name, host])), vm: VmConfig.parse({}) };
  const signal = AbortSignal.timeout(15_000);
  const checks = fleetChecks(config, systemClock);
  return await Promise.all(checks.map(async ({ name, run }) => ({ name, ...(await run(signal)) })));
}

test("a host that answers is asked for its list alone, and its whole trial is pointed to", async () => {
  await using daemon = await startFlintlockd();
  const [found] = await look(aFlintlockHost({ addresses: [daemon.address] }));

  expect(found).toMatchObject({
    name: "host metal-1",
    level: "ok",
    hint: expect.stringContaining("hosts check metal-1"),
  });
  expect(daemon.wire.calls.every(({ kind }) => kind === "list")).toBe(true);
});

test("a host that is away keeps jobs from running only where it is the only one", async () => {
  await using daemon = await startFlintlockd();
  const away = aFlintlockHost({ name: "metal-2", addresses: ["127.0.0.1:1"] });
  const there = aFlintlockHost({ addresses: [daemon.address] });

  expect(await look(away)).toMatchObject([{ level: "fail", hint: expect.any(String) }]);
  expect(await look(there, away)).toMatchObject([
    { level: "ok" },
    { level: "warn", message: expect.stringContaining("metal-2") },
  ]);
});
