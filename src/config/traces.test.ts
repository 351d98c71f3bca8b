import { inspect } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { filesInMemory } from "../../test/builders/files-in-memory.ts";
import { type CertificateAuthority, makeCertificateAuthority } from "../../test/servers/certificates.ts";
import { describeError } from "../base/errors.ts";
import { loadConfig } from "./load.ts";
import { diffConfig, mergeReloadable } from "./reload.ts";

const TOKEN = "sesame-of-the-collector";
const base = "gitlab: { url: https://gitlab.example.com }\npools: { a: { runner: { token: glrt-a } } }\n";
const endpoint = "endpoint: http://collector:4318";
let authority: CertificateAuthority;

beforeAll(async () => {
  authority = await makeCertificateAuthority();
});
afterAll(() => authority[Symbol.asyncDispose]());

async function load(yaml: string, headers = `Authorization: Bearer ${TOKEN}\n`, mode = 0o600) {
  return await loadConfig({
    file: "/e/f.yaml",
    env: {},
    readFile: filesInMemory({
      "/e/f.yaml": base + yaml,
      "/e/headers": { text: headers, mode },
      "/e/ca.pem": authority.ca,
    }),
  });
}

async function problem(...given: Parameters<typeof load>): Promise<string> {
  return await load(...given).then(
    () => "none",
    (error: unknown) => describeError(error),
  );
}

test("without traces there is nothing to send to", async () => {
  const config = await load("");

  expect(config.traces).toBeUndefined();
  expect(config.tracesAccess).toBeUndefined();
});

test("headers and authorities are read from their files, and a header's value is shown nowhere", async () => {
  const text = `# for the tenant\nAuthorization: Bearer ${TOKEN}\r\n\nX-Scope-OrgID:  ci: one \n`;
  const config = await load(`traces: { ${endpoint}, headersFile: headers, caFile: ca.pem }`, text);

  expect(config.traces).toMatchObject({ sampling: 1, guests: false, timeout: 10_000, keep: 86_400_000 });
  expect(config.tracesAccess?.headers.map(([name, value]) => [name, value.reveal()])).toEqual([
    ["authorization", `Bearer ${TOKEN}`],
    ["x-scope-orgid", "ci: one"],
  ]);
  expect(config.tracesAccess?.ca).toBe(authority.ca);
  expect(`${JSON.stringify(config)} ${inspect(config, { depth: 9 })}`).not.toContain(TOKEN);
});

describe("is refused with what is wrong", () => {
  test.each([
    [
      "endpoint: collector:4318",
      "expected the collector's address, such as http://collector.example.org:4318",
    ],
    ["endpoint: 'http://collector:4317'", "4317 is where collectors speak gRPC"],
    [`endpoint: 'http://me:${TOKEN}@collector:4318'`, "write credentials into headersFile"],
    ["endpoint: 'http://collector:4318/#x'", "has no fragment"],
    [`${endpoint}, sampling: 1.5`, "traces.sampling"],
    [`${endpoint}, sampling: 10%`, "traces.sampling"],
    [`${endpoint}, headersFile: none`, "/e/none does not exist"],
    [`${endpoint}, header: x`, "traces"],
  ])("%s", async (yaml, expected) => {
    const said = await problem(`traces: { ${yaml} }`);

    expect(said).toContain(expected);
  });

  test.each([
    ["", "is empty"],
    ["Bearer sesame", "header 1 is none"],
    [`A: b\nAuthorization Bearer ${TOKEN}`, "header 2 is none"],
    [`Authorization: ${TOKEN}\u0007`, "header 1 is none"],
    ["Content-Type: text/plain", "sets content-type, which FireRunner says itself"],
    ["Host: other.example", "sets host"],
    ["A: b\n".repeat(33), "more than 32 headers"],
  ])("headers of %j", async (text, expected) => {
    const said = await problem(`traces: { ${endpoint}, headersFile: headers }`, text);

    expect(said).toContain(expected);
    expect(said).not.toContain(TOKEN);
  });

  test("headers that strangers can read", async () => {
    const said = await problem(`traces: { ${endpoint}, headersFile: headers }`, undefined, 0o644);

    expect(said).toContain("/e/headers");
    expect(said).toContain("chmod");
  });
});

test("a reload takes all of it over, and says so without the header's value", async () => {
  const none = await load("");
  const before = await load(`traces: { ${endpoint}, headersFile: headers }`);
  const after = await load(
    `traces: { ${endpoint}, headersFile: headers, guests: true }`,
    "Authorization: new",
  );

  expect(diffConfig(none, before).restart).toEqual([]);
  expect(mergeReloadable(none, before).traces).toEqual(before.traces);
  expect(diffConfig(before, after)).toEqual({
    live: ["traces: other headers", "traces.guests: false → true"],
    restart: [],
  });
  expect(mergeReloadable(before, after)).toMatchObject({ traces: { guests: true } });
  expect(mergeReloadable(before, after).tracesAccess).toBe(after.tracesAccess);
  expect(mergeReloadable(after, none).traces).toBeUndefined();
});
