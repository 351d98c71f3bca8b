import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { ConfigError } from "./errors.ts";
import { type Config, loadConfig } from "./load.ts";

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "fr-config-"));
});

afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

const base =
  "gitlab: { url: https://gitlab.example.com }\npools: { small: { runner: { token: glrt-one } } }\n";
const fleet =
  "vm: { flintlock: { hosts: { metal-1: { address: 'metal-1:9090', cpus: 8, memory: 16GiB } } } }\n";

async function load(yaml: string): Promise<Config> {
  const file = join(directory, "firerunner.yaml");
  await writeFile(file, base + yaml, { mode: 0o600 });
  return await loadConfig({ file, env: {}, root: true });
}

async function problemsOf(yaml: string): Promise<string[]> {
  const error = await load(yaml).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(ConfigError);
  return (error as ConfigError).problems.map(({ where, message }) =>
    `${where}: ${message}`.replaceAll(`${directory}/`, ""),
  );
}

describe("the relay's network side", () => {
  test("is closed unless it is asked for", async () => {
    expect((await load("")).relay).toMatchObject({ listen: [] });
    expect((await load("")).relay.advertise).toBeUndefined();
  });

  test("is needed by machines on other hosts", async () => {
    const [problem, ...others] = await problemsOf(fleet);

    expect(problem).toMatch(/^firerunner\.yaml:3:\d+: machines on other hosts .* add relay\.listen/);
    expect(others).toEqual([]);
  });

  test.each([["[0.0.0.0:8444]"], ["['[::]:8444']"], ["[10.0.0.1:8444, 10.1.0.1:8444]"]])(
    "must say how %s is reached",
    async (listen) => {
      expect(await problemsOf(`${fleet}relay: { listen: ${listen} }\n`)).toEqual([
        expect.stringMatching(/^firerunner\.yaml:4:\d+: relay\.advertise is missing/),
      ]);
      const told = `relay: { listen: ${listen}, advertise: 'relay.example.org:8444' }\n`;
      expect((await load(fleet + told)).relay.advertise).toBe("relay.example.org:8444");
    },
  );

  test("is reached at its one address when nothing else is said", async () => {
    expect((await load(`${fleet}relay: { listen: ['10.0.0.1:8444'] }\n`)).relay.listen).toEqual([
      "10.0.0.1:8444",
    ]);
  });

  test.each([
    ["listen: ['8444']", /expected host:port/],
    ["listen: ['10.0.0.1:70000']", /at most 65535/],
    ["listen: ['10.0.0.1:8444'], advertise: '10.0.2.100:8444'", /machines have 10.0.2.100 themselves/],
    ["listen: ['10.0.0.1:8444'], advertise: '0.0.0.0:8444'", /name an address by which machines reach/],
    ["listen: ['10.0.0.1:8444'], tls: { certificateFile: a.pem, keyFile: a.key }", /caFile/],
    [
      "listen: ['10.0.0.1:8444'], tls: { certificateFile: a.pem, keyFile: a.key, caFile: c.pem }",
      /a\.pem .*not exist/,
    ],
  ])("refuses %s", async (relay, message) => {
    expect((await problemsOf(`${fleet}relay: { ${relay} }\n`)).join("\n")).toMatch(message);
  });

  test("finds the certificate's files beside the configuration", async () => {
    const certificate = "-----BEGIN CERTIFICATE-----\n";
    await writeFile(join(directory, "a.pem"), certificate);
    await writeFile(join(directory, "c.pem"), certificate);
    await writeFile(join(directory, "a.key"), "-----BEGIN PRIVATE KEY-----\n", { mode: 0o600 });
    const tls = "tls: { certificateFile: a.pem, keyFile: a.key, caFile: c.pem }";

    expect((await load(`${fleet}relay: { listen: ['10.0.0.1:8444'], ${tls} }\n`)).relay.tls).toEqual({
      certificateFile: join(directory, "a.pem"),
      keyFile: join(directory, "a.key"),
      caFile: join(directory, "c.pem"),
    });
  });
});
