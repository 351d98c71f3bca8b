import { expect, test } from "vitest";
import { type Config, loadConfig } from "./load.ts";
import { diffConfig } from "./reload.ts";

async function config(yaml: string, files: Readonly<Record<string, string>> = {}): Promise<Config> {
  return await loadConfig({
    file: "/f.yaml",
    env: {},
    readFile: async (path) => ({
      text: files[path] ?? `gitlab: { url: https://gitlab.example.com }\n${yaml}`,
      mode: 0o600,
    }),
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

test("egress is compared in the words of the file, by what it means", async () => {
  const pool = (egress: string) => `pools: { a: { runner: { token: t }, egress: ${egress} } }`;
  const hosts = "[ { host: nexus.example.org:8081, private: true } ]";
  const old = await config(pool("[ a.example ]"));

  expect(diffConfig(old, await config(pool("{ mode: list, hosts: [ 'A.example:443' ] }"))).live).toEqual([]);
  expect(diffConfig(old, await config(pool(`{ mode: internet, hosts: ${hosts} }`))).live).toEqual([
    'pools.a.egress: ["a.example:443"] → {"mode":"internet","hosts":[{"host":"nexus.example.org:8081","private":true}]}',
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

test("pools without a runner change too, and may get or lose one", async () => {
  const webhook = "\nwebhook: { group: g, apiToken: t }";
  const old = await config(`pools: { a: {}, b: { runner: { token: t1 } }, c: {} }${webhook}`);
  const next = await config(`pools: { a: { image: x, runner: { token: t2 } }, b: {} }${webhook}`);

  expect(diffConfig(old, next)).toEqual({
    live: [
      "pool c removed",
      "pool a: has a runner now",
      "pool b: has no runner any more; its jobs end as usual, no new ones are claimed",
      "pools.a.image: base → x",
      "pools.b.runner.token: [secret] → not set",
      "pools.a.runner.token: not set → [secret]",
    ],
    restart: [],
  });
});

test("what a webhook may ask for changes at once, for whom it works after a restart", async () => {
  const old = await config("webhook: { group: g, apiToken: t }");
  const next = await config(
    "webhook: { project: g/p, apiToken: t, token: hook-token, sizes: { maxCpus: 4 }, rules: [{ tag: x, image: y }], installation: i }\n" +
      "http: { listen: [http://127.0.0.1:1], allow: [10.0.0.0/8], bodyLimit: 1MiB }",
  );

  expect(diffConfig(old, next)).toEqual({
    live: [
      "webhook: other secret tokens",
      "webhook.sizes.maxCpus: 16 → 4",
      'webhook.rules: [] → [{"tag":"x","image":"y"}]',
      'http.allow: [] → ["10.0.0.0/8"]',
      "webhook.token: not set → [secret]",
    ],
    restart: [
      "webhook.group: g → not set (after a restart)",
      'http.listen: [] → ["http://127.0.0.1:1"] (after a restart)',
      "http.bodyLimit: 10MiB → 1MiB (after a restart)",
      "webhook.project: not set → g/p (after a restart)",
      "webhook.installation: not set → i (after a restart)",
    ],
  });
});

test("secrets that changed in their files are named and not shown", async () => {
  const key = (letter: string) => `whsec_${letter.repeat(42)}A=`;
  const yaml = "webhook: { group: g, apiTokenFile: api, signingKeyFile: key, tokenFile: token }";
  const files = (api: string, keys: string, token: string) => ({
    "/api": api,
    "/key": keys,
    "/token": token,
  });
  const old = await config(yaml, files("one", key("a"), "12345678"));

  expect(diffConfig(old, await config(yaml, files("one\n", `${key("a")}\n`, "12345678")))).toEqual({
    live: [],
    restart: [],
  });
  expect(diffConfig(old, await config(yaml, files("two", `${key("b")}\n${key("a")}`, "87654321")))).toEqual({
    live: ["webhook: new API token", "webhook: other signing tokens", "webhook: other secret tokens"],
    restart: [],
  });
});

test("a webhook section that comes or goes waits for a restart, in one line", async () => {
  const without = await config("pools: { a: { runner: { token: t } } }");
  const with_ = await config("pools: { a: { runner: { token: t } } }\nwebhook: { group: g, apiToken: t }");

  expect(diffConfig(without, with_)).toEqual({ live: [], restart: ["webhook added (after a restart)"] });
  expect(diffConfig(with_, without)).toEqual({ live: [], restart: ["webhook removed (after a restart)"] });
});
