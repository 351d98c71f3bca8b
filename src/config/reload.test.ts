import { describe, expect, test } from "vitest";
import type { z } from "zod";
import { type Config, loadConfig } from "./load.ts";
import { diffConfig, mergeReloadable } from "./reload.ts";
import { fieldsOf, metaOf, type ReloadMark, Settings, valuesOf } from "./schema.ts";

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

async function whole(yaml: string): Promise<Config> {
  return await loadConfig({ file: "/f.yaml", env: {}, readFile: async () => ({ text: yaml, mode: 0o600 }) });
}

const gitlab = "gitlab: { url: https://gitlab.example.com }\n";

test("a reload changes what is live and keeps what waits for a restart", async () => {
  const running = await whole(
    `${gitlab}state: /a\nwebhook: { group: g, apiToken: one }\nhttp: { bodyLimit: 1MiB, listen: [] }`,
  );
  const next = await whole(
    "gitlab: { url: https://other.example.com }\nstate: /b\n" +
      "webhook: { project: g/p, apiToken: two, token: hook-token, installation: i, sizes: { maxCpus: 2 } }\n" +
      "http: { bodyLimit: 2MiB, listen: [http://127.0.0.1:1], allow: [10.0.0.1], unprovenPerMinute: 7 }",
  );

  const now = mergeReloadable(running, next);

  expect(now).toMatchObject({ state: "/a", gitlab: { url: "https://gitlab.example.com" } });
  expect(now.http).toMatchObject({ bodyLimit: 1, listen: [], allow: ["10.0.0.1"], unprovenPerMinute: 7 });
  expect(now.webhook).toMatchObject({ group: "g", sizes: { maxCpus: 2 } });
  expect(now.webhook?.project ?? now.webhook?.installation).toBeUndefined();
  expect(now.webhook?.secrets.apiToken.reveal()).toBe("two");
});

test("jobs by tag neither begin nor end with a reload", async () => {
  const without = await whole(`${gitlab}pools: { a: { runner: { token: t } } }`);
  const withIt = await whole(`${gitlab}webhook: { group: g, apiToken: one }`);

  expect(mergeReloadable(without, withIt).webhook).toBeUndefined();
  expect(mergeReloadable(withIt, without).webhook).toBe(withIt.webhook);
});

test("what waits for a restart is told until there is one, and no more once it is as it was", async () => {
  const running = await config("pools: { a: { runner: { token: t } } }\nstate: /a\nlog: { level: info }");
  const next = await config("pools: { a: { runner: { token: t } } }\nstate: /b\nlog: { level: debug }");

  const now = mergeReloadable(running, next);

  expect(diffConfig(now, next)).toEqual({ live: [], restart: ["state: /a → /b (after a restart)"] });
  expect(diffConfig(now, running)).toEqual({ live: ["log.level: debug → info"], restart: [] });
});

test("a certificate that is named for the first time, or no more, waits for a restart; another one does not", async () => {
  const tls = (file: string) =>
    `webhook: { group: g, apiToken: t, token: hook-token }\nhttp: { tls: { certificateFile: /${file}, keyFile: /k } }`;
  const files = {
    "/c": "-----BEGIN CERTIFICATE-----",
    "/d": "-----BEGIN CERTIFICATE-----",
    "/k": "-----BEGIN PRIVATE KEY-----",
  };
  const none = await config("webhook: { group: g, apiToken: t, token: hook-token }");
  const [first, second] = [await config(tls("c"), files), await config(tls("d"), files)];

  expect(diffConfig(none, first).live).toEqual([]);
  expect(mergeReloadable(none, first).http.tls).toBeUndefined();
  expect(diffConfig(first, none).live).toEqual([]);
  expect(mergeReloadable(first, none).http.tls).toEqual(first.http.tls);
  expect(diffConfig(first, second)).toEqual({ live: ["http.tls.certificateFile: /c → /d"], restart: [] });
  expect(mergeReloadable(first, second).http.tls).toEqual(second.http.tls);
});

/** Every key of the schema with what it, or the nearest section around it, says of a reload; `*` stands for names. */
function keysOf(
  schema: z.core.$ZodType,
  path: readonly string[] = [],
  above: unknown = undefined,
): { path: readonly string[]; mark: unknown }[] {
  const mark = metaOf(schema).reload ?? above;
  const entry = valuesOf(schema);
  if (entry) return keysOf(entry, [...path, "*"], mark);
  const fields = fieldsOf(schema);
  if (!fields) return [{ path, mark }];
  return [...fields].flatMap(([key, field]) => keysOf(field, [...path, key], mark));
}

describe("every key", () => {
  const keys = keysOf(Settings);

  test("says whether it is live or waits for a restart", () => {
    const marks: readonly ReloadMark[] = ["live", "restart"];

    expect(keys.length).toBeGreaterThan(140);
    expect(keys.filter(({ mark }) => !marks.some((each) => each === mark))).toEqual([]);
  });

  test("is told by the difference as the merged configuration has it", async () => {
    const full = await config(
      "webhook: { group: g, apiToken: t, token: hook-token }\nhttp: { tls: { certificateFile: /c, keyFile: /k } }\nmetrics: { tls: { certificateFile: /c, keyFile: /k } }\napi: { tls: { certificateFile: /c, keyFile: /k } }",
      { "/c": "-----BEGIN CERTIFICATE-----", "/k": "-----BEGIN PRIVATE KEY-----" },
    );
    // What the configuration in force holds in another form: pools, hosts and secrets have tests of their own; a proxy is one value.
    const plain = keys.filter(
      ({ path: [section, key = ""] }) =>
        section !== "pools" && section !== "proxy" && !/apiToken|signingKey|^token/.test(key),
    );
    const wrong = plain.filter(({ path, mark }) => {
      if (path.includes("*")) return false;
      const next = changed(full, path);
      const { live, restart } = diffConfig(full, next);
      const isTaken = valueAt(mergeReloadable(full, next), path) === OTHER;
      const told = (lines: readonly string[]) => lines.some((line) => line.startsWith(`${path.join(".")}:`));
      return isTaken !== (mark === "live") || told(live) !== isTaken || told(restart) === isTaken;
    });

    expect(plain.length).toBeGreaterThan(90);
    expect(wrong.map(({ path }) => path.join("."))).toEqual([]);
  });

  test.each([
    ["history.keep", "live"],
    ["log.level", "live"],
    ["images.roots.*.root", "live"],
    ["vm.flintlock.hosts.*.cpus", "live"],
    ["pools.*.size.cpus", "live"],
    ["webhook.runners.most", "live"],
    ["webhook.poll.interval", "restart"],
    ["http.allow", "live"],
    ["http.listen", "restart"],
    ["metrics.listen", "restart"],
    ["metrics.allow", "live"],
    ["metrics.tokenFile", "live"],
    ["api.listen", "restart"],
    ["api.allow", "live"],
    ["scheduler.bootDeadline", "restart"],
    ["images.directory", "restart"],
    ["proxy.url", "restart"],
    ["claiming.parallelPolls", "restart"],
    ["shutdown.drainLimit", "restart"],
  ])("%s: %s", (name, mark) => {
    expect(keys.find(({ path }) => path.join(".") === name)?.mark).toBe(mark);
  });
});

const OTHER = "something else";

/** The configuration with one key changed, both as it is in force and as `config show` lists it. */
function changed(config: Config, path: readonly string[]): Config {
  const values = config.values.filter((value) => value.path.join(".") !== path.join("."));
  return { ...(withValue(config, path) as Config), values: [...values, { path, value: OTHER, origin: "f" }] };
}

function withValue(tree: unknown, [key = "", ...rest]: readonly string[]): unknown {
  const node = tree as Readonly<Record<string, unknown>>;
  return { ...node, [key]: rest.length === 0 ? OTHER : withValue(node[key], rest) };
}

function valueAt(tree: unknown, path: readonly string[]): unknown {
  let here = tree;
  for (const key of path) here = (here as Readonly<Record<string, unknown>> | undefined)?.[key];
  return here;
}
