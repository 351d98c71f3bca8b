import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { parse, stringify } from "yaml";
import { loadConfig } from "../src/config/load.ts";

const page = readFileSync(join(import.meta.dirname, "../docs/flintlock.md"), "utf8");
const blocks = [...page.matchAll(/^```yaml\n([\s\S]*?)^```$/gm)].map(
  ([, text = ""]) => parse(text) as Record<string, unknown>,
);
const base = blocks.find((block) => "gitlab" in block) ?? {};
const tagged = blocks.find((block) => "webhook" in block) ?? {};

test.each([
  ["alone", {}],
  ["with jobs by tag", tagged],
])("the configuration of docs/flintlock.md can be used %s", async (_, more) => {
  const read = async (path: string) => ({
    text: path.endsWith(".yaml") ? stringify({ ...base, ...more }) : contents(path),
    mode: 0o600,
  });
  const config = await loadConfig({ file: "/etc/firerunner/config.yaml", env: {}, readFile: read });

  expect([...config.hosts.keys()]).toEqual(["metal-1", "metal-2"]);
  expect(config.pools.get("builds")).toMatchObject({ driver: "flintlock", hostLabels: { disk: "nvme" } });
  expect(config.webhook !== undefined).toBe(more === tagged);
});

function contents(path: string): string {
  if (path.endsWith("webhook.key")) return `whsec_${Buffer.alloc(32).toString("base64")}`;
  if (path.endsWith("api.token")) return "glpat-example";
  if (path.endsWith("builds.token")) return "glrt-example";
  if (path.endsWith(".key")) return "-----BEGIN PRIVATE KEY-----";
  return /\.(pem|crt)$/.test(path) ? "-----BEGIN CERTIFICATE-----" : "token-of-the-host";
}
