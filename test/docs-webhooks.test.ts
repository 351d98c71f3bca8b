import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { parse, stringify } from "yaml";
import { loadConfig } from "../src/config/load.ts";

const page = readFileSync(join(import.meta.dirname, "../docs/webhooks.md"), "utf8");
const blocks = [...page.matchAll(/^ *```yaml\n([\s\S]*?)^ *```$/gm)].map(
  ([, text = ""]) => parse(text) as Record<string, object>,
);
const [base = {}, ...parts] = blocks.filter((block) => "webhook" in block || "http" in block);

test("the set-up of docs/webhooks.md has its parts", () => {
  expect(base).toHaveProperty("gitlab");
  expect(parts.length).toBeGreaterThanOrEqual(2);
});

test.each([{}, ...parts])("the configuration of docs/webhooks.md can be used with %j", async (part) => {
  const config = {
    ...base,
    webhook: { ...base["webhook"], ...part["webhook"] },
    http: { ...base["http"], ...part["http"] },
    pools: { release: {} },
  };

  const loaded = await loadConfig({ file: "/etc/firerunner/config.yaml", env: {}, readFile: read });

  expect(loaded.webhook).toMatchObject({ group: "example/apps" });

  async function read(path: string) {
    return { text: path.endsWith(".yaml") ? stringify(config) : contents(path), mode: 0o600 };
  }
});

function contents(path: string): string {
  if (path.endsWith("webhook.key")) return `whsec_${Buffer.alloc(32).toString("base64")}`;
  if (path.endsWith(".crt")) return "-----BEGIN CERTIFICATE-----";
  return path.endsWith(".key") ? "-----BEGIN PRIVATE KEY-----" : "glpat-example";
}
