import { expect, test } from "vitest";
import { systemClock } from "../../base/clock.ts";
import { silentLog } from "../../base/log.ts";
import { Secret } from "../../base/secret.ts";
import { MetricsConfig } from "../../server/metrics/config.ts";
import { openMetricsServer } from "../../server/metrics/metrics-server.ts";
import { metricsChecks } from "./metrics.ts";

async function findings(settings: object, { isRunning = false, token = "" } = {}) {
  const given = token === "" ? undefined : new Secret(token);
  const checks = metricsChecks({
    config: { metrics: { ...MetricsConfig.parse(settings), token: given } },
    running: isRunning ? { addresses: [] } : undefined,
    clock: systemClock,
  });
  const signal = new AbortController().signal;
  const all = await Promise.all(checks.map(async ({ name, run }) => [name, await run(signal)] as const));
  return Object.fromEntries(
    all.map(([name, { level, message }]) => [name.replace(/:\d+$/, ""), `${level} ${message}`]),
  );
}

const files = { certificateFile: "/no/such.crt", keyFile: "/no/such.key" };

test("nothing is said where no metrics are to be served", async () => {
  expect(await findings({})).toEqual({});
});

test("an address is tried: free, taken, and with nobody behind it though FireRunner runs", async () => {
  const metrics = { ...MetricsConfig.parse({ listen: ["http://127.0.0.1:0"] }), token: undefined };
  const scrape = async () => ({ contentType: "", text: "" });
  const server = await openMetricsServer({ config: metrics, scrape, clock: systemClock, log: silentLog });
  const listen = [server.addresses[0]];

  expect(await findings({ listen })).toMatchObject({
    "metrics 127.0.0.1": "fail another program listens there",
  });
  expect(await findings({ listen }, { isRunning: true })).toMatchObject({
    "metrics 127.0.0.1": expect.stringContaining("ok something listens there"),
  });
  await server.close();
  expect(await findings({ listen }, { isRunning: true })).toMatchObject({
    "metrics 127.0.0.1": "warn the running FireRunner does not listen there",
  });
  expect(await findings({ listen })).toMatchObject({
    "metrics 127.0.0.1": expect.stringMatching(/^ok free/),
  });
});

test("a certificate that cannot be read is named", async () => {
  expect(await findings({ listen: ["127.0.0.1:0"], tls: files })).toMatchObject({
    "metrics certificate": expect.stringMatching(/^fail .*such.crt.* does not exist/),
  });
});

test("who may read is said, and warned of where that is everybody", async () => {
  const readers = async (settings: object, token?: string) =>
    (
      await findings(
        { listen: ["127.0.0.1:0"], tls: files, ...settings },
        token === undefined ? {} : { token },
      )
    )["metrics readers"];

  expect(await readers({})).toMatch(/^warn whoever reaches/);
  expect(await readers({ allow: ["10.0.0.0/8"] })).toBe("ok 10.0.0.0/8 may read metrics");
  expect(await readers({}, "a-long-token")).toBe("ok those with the token may read metrics");
  expect(await readers({ listen: ["http://127.0.0.1:0"], tls: undefined })).toMatch(/^ok everybody on this/);
});
