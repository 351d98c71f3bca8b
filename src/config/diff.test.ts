import { expect, test } from "vitest";
import { diffConfig } from "./diff.ts";
import { type Config, loadConfig } from "./load.ts";

async function config(yaml: string): Promise<Config> {
  return await loadConfig({
    file: "/f.yaml",
    env: {},
    readFile: async () => ({ text: `gitlab: { url: https://gitlab.example.com }\n${yaml}`, mode: 0o600 }),
  });
}

test("nothing changed", async () => {
  const yaml = "pools: { a: { runner: { token: t } } }";

  expect(diffConfig(await config(yaml), await config(yaml))).toEqual({ live: [], restart: [] });
});

test("pools, tokens and the log's level change at once", async () => {
  const old = await config("pools: { a: { runner: { token: t1 } }, b: { runner: { token: t2 } } }");
  const next = await config(
    "pools: { a: { runner: { token: t3 }, concurrency: 4 }, c: { runner: { token: t4 } } }\nlog: { level: debug }",
  );

  const { live, restart } = diffConfig(old, next);

  expect(restart).toEqual([]);
  expect(live).toEqual([
    "pool c added",
    "pool b removed: its jobs end as usual, no new ones are claimed",
    "pool a: new runner token",
    "pools.a.concurrency: 10 → 4",
    "log.level: info → debug",
  ]);
});

test("the state directory and the log's format wait for a restart", async () => {
  const old = await config("pools: { a: { runner: { token: t } } }\nstate: /a");
  const next = await config("pools: { a: { runner: { token: t } } }\nstate: /b\nlog: { format: json }");

  expect(diffConfig(old, next)).toEqual({
    live: [],
    restart: ["state: /a → /b (after a restart)", "log.format: auto → json (after a restart)"],
  });
});
