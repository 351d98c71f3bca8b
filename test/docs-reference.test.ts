import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { wantedApiPages } from "../scripts/docs-api.ts";
import { wantedPage } from "../scripts/docs-config.ts";
import { codesIn, collectErrors, renderErrors } from "../scripts/docs-errors.ts";
import { renderMetrics } from "../scripts/docs-metrics.ts";
import { advice, meanings } from "../scripts/error-advice.ts";
import { loadConfig } from "../src/config/load.ts";
import { metricSections } from "../src/telemetry/metrics/table.ts";

const docs = join(import.meta.dirname, "../docs");

describe("docs/configuration.md", () => {
  test("is what the schema says (else: npm run docs)", () => {
    expect(readFileSync(join(docs, "configuration.md"), "utf8")).toBe(wantedPage());
  });

  test("its example can be used", async () => {
    const example = readFileSync(join(docs, "firerunner.example.yaml"), "utf8");

    const config = await loadConfig({
      file: "/etc/firerunner/config.yaml",
      env: {},
      readFile: async (path) => ({ text: path.endsWith(".yaml") ? example : `glrt-${path}`, mode: 0o600 }),
    });

    expect([...config.pools.keys()]).toEqual(Object.keys((parse(example) as { pools: object }).pools));
  });

  test("the part of its example that is commented out can be used too", async () => {
    const example = readFileSync(join(docs, "firerunner.example.yaml"), "utf8");
    const [head, commented, tail] = partsOf(example);
    const text = `${head}\n${commented.replaceAll(/^# ?/gm, "")}\n${tail}`;

    const config = await loadConfig({
      file: "/etc/firerunner/config.yaml",
      env: {},
      readFile: async (path) => ({ text: path.endsWith(".yaml") ? text : secretIn(path), mode: 0o600 }),
    });

    expect(config.webhook).toMatchObject({ group: "engineering", sizes: { maxCpus: 8 } });
    expect(config.webhook?.rules).toHaveLength(2);
    expect(config.http.listen).toEqual(["0.0.0.0:8443"]);
  });

  test("has no setting without a description", () => {
    const bare = wantedPage()
      .split("\n")
      .filter((line) => line.startsWith("| <span") && line.endsWith("|  |"));

    expect(bare).toEqual([]);
  });
});

/** Before, within and after the sections that the example has as comments. */
function partsOf(example: string): [string, string, string] {
  const start = example.indexOf("# webhook:");
  const end = example.indexOf("\nshutdown:");
  expect([start > 0, end > start]).toEqual([true, true]);
  const within = example.slice(start, end).replace(/^# The public server that .*$/m, "");
  return [example.slice(0, start), within, example.slice(end)];
}

function secretIn(path: string): string {
  if (path.endsWith(".key") && path.includes("webhook")) return `whsec_${"a".repeat(42)}A=`;
  if (path.endsWith(".crt")) return "-----BEGIN CERTIFICATE-----";
  if (path.endsWith(".key")) return "-----BEGIN PRIVATE KEY-----";
  return path.includes("api") ? "glpat-x" : `glrt-${path}`;
}

test("docs/metrics.md is what the table says (else: npm run docs)", () => {
  expect(readFileSync(join(docs, "metrics.md"), "utf8")).toBe(renderMetrics(metricSections));
});

describe("docs/errors.md", () => {
  const entries = collectErrors();

  test("is what the codes say (else: npm run docs)", () => {
    expect(readFileSync(join(docs, "errors.md"), "utf8")).toBe(renderErrors(entries));
  });

  test("every code has a meaning and advice, and no advice is for a code that is gone", () => {
    const codes = entries.map(({ code }) => code);

    expect(entries.filter(({ meaning }) => meaning === "")).toEqual([]);
    expect(codes.filter((code) => !advice[code])).toEqual([]);
    expect(
      [...Object.keys(advice), ...Object.keys(meanings)].filter((code) => !codes.includes(code)),
    ).toEqual([]);
  });

  test("codes are found in unions with their comments, and where they are thrown by name", () => {
    const union = 'export type C =\n  /** One\n   * thing. */\n  | "a_one"\n  /** Two. */\n  | "a_two";';

    expect(codesIn("src/store/errors.ts", union)).toEqual([
      { code: "a_one", module: "store", meaning: "One thing." },
      { code: "a_two", module: "store", meaning: "Two." },
    ]);
    expect(codesIn("src/store/x.ts", 'throw new FireRunnerError("bad_unit", "")')).toMatchObject([
      { code: "bad_unit" },
    ]);
  });
});

test("docs/api.md and openapi.json are what the routes say (else: npm run docs)", () => {
  for (const [name, text] of wantedApiPages()) expect(readFileSync(join(docs, name), "utf8")).toBe(text);
});
