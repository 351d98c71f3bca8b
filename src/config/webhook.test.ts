import { inspect } from "node:util";
import { describe, expect, test } from "vitest";
import { type FilesInMemory, filesInMemory } from "../../test/builders/files-in-memory.ts";
import { usualContainers } from "../../test/builders/pool.ts";
import { normalEgress } from "../domain/egress.ts";
import { ConfigError } from "./errors.ts";
import { type Config, type LoadOptions, loadConfig, loadLocalConfig } from "./load.ts";
import { tagRulesOf } from "./machine-kinds.ts";

const key = (letter: string) => `whsec_${letter.repeat(42)}A=`;
const gitlab = "gitlab: { url: https://gitlab.example.com }\n";
const webhook = "webhook: { group: g, apiTokenFile: api }\n";
const files: FilesInMemory = { "/etc/fr/api": "glpat-one\n" };

function options(yaml: string, given: FilesInMemory = files, env: NodeJS.ProcessEnv = {}): LoadOptions {
  return {
    file: "/etc/fr/c.yaml",
    env,
    root: true,
    readFile: filesInMemory({ "/etc/fr/c.yaml": yaml, ...given }),
  };
}

async function load(yaml: string, given?: FilesInMemory, env?: NodeJS.ProcessEnv): Promise<Config> {
  return await loadConfig(options(gitlab + yaml, given, env));
}

/** What is wrong with a configuration that must be refused. */
async function problemsOf(yaml: string, given?: FilesInMemory, env?: NodeJS.ProcessEnv): Promise<string[]> {
  const error = await load(yaml, given, env).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(ConfigError);
  return (error as ConfigError).problems.map(({ where, message }) => `${where}: ${message}`);
}

describe("a configuration for jobs by tag", () => {
  test("needs a scope and an API token, and no pools", async () => {
    const config = await load(webhook);

    expect(config.pools.size).toBe(0);
    expect(config.webhook).toMatchObject({
      group: "g",
      tagPrefix: "firecracker",
      sizes: { maxCpus: 16, maxMemory: 65_536 },
      machine: { image: "base", disk: 20_480 },
      runners: { perJob: false, keepUnused: 86_400_000, most: 50, verifyInterval: 1_200_000 },
      poll: { interval: 60_000 },
      secrets: { signingKeys: [], tokens: [] },
    });
    expect(config.webhook?.secrets.apiToken.reveal()).toBe("glpat-one");
    expect(config.http).toMatchObject({ listen: [], bodyLimit: 10 });
  });

  test("may name group, project and projects by their numbers", async () => {
    const byNumber = await load("webhook: { project: 12, apiTokenFile: api, projects: [7, g/p] }");

    expect(byNumber.webhook).toMatchObject({ project: "12", projects: ["7", "g/p"] });
  });

  test("lets GitLab hear of runners before it takes them for offline", async () => {
    const problems = await problemsOf(
      "webhook: { group: g, apiTokenFile: api, runners: { verifyInterval: 2h } }",
    );

    expect(problems.join()).toContain("expected a time from 1m to 90m");
  });

  test("is undefined where none is wanted", async () => {
    expect((await load("pools: { a: { runner: { token: t } } }")).webhook).toBeUndefined();
  });

  test("tells pools that claim from pools that only say what a machine is", async () => {
    const config = await load(
      `${webhook}pools: { a: { runner: { token: t } }, gpu: { image: gpu, driver: fake, size: { disk: 1GiB } } }`,
    );

    expect([...config.pools.keys()]).toEqual(["a"]);
    expect([...config.kinds.keys()]).toEqual(["a", "gpu"]);
    expect(config.kinds.get("gpu")).toEqual({
      image: "gpu",
      driver: "fake",
      concurrency: 10,
      egress: normalEgress("internet"),
      hostLabels: {},
      containers: usualContainers,
      diskMib: 1_024,
    });
  });

  test.each([
    [`webhook: { apiTokenFile: api }`, "webhook is not acceptable: give exactly one of group, project and"],
    [`webhook: { group: g, project: p, apiTokenFile: api }`, "give exactly one of group, project and"],
    [`webhook: { group: g }`, "give exactly one of apiToken and apiTokenFile"],
    [
      `webhook: { group: g, apiTokenFile: api, signingKey: ${key("a")}, signingKeyFile: x }`,
      "only one of signingKey and",
    ],
    [`webhook: { group: g, apiTokenFile: api, token: t, tokenFile: x }`, "only one of token and tokenFile"],
    [
      `webhook: { group: https://gitlab.example.com/g, apiTokenFile: api }`,
      "webhook.group is not acceptable: expected a path such as group/project",
    ],
    [
      `webhook: { group: g, apiTokenFiel: api }`,
      "2:22: unknown key “apiTokenFiel” of webhook; did you mean “apiTokenFile”?",
    ],
    [`webhook: { group: g, apiTokenFile: api, runners: { perjob: true } }`, "did you mean “perJob”?"],
    [
      `webhook:\n  group: g\n  apiTokenFile: api\n  rules:\n    - tag: x\n      imag: y`,
      "c.yaml:7:7: unknown key “imag” of webhook.rules.0; did you mean “image”?",
    ],
    [
      `webhook: { group: g, apiTokenFile: api, rules: [{ tag: x }] }`,
      "webhook.rules.0 is not acceptable: give image, pool or hostLabels",
    ],
    [
      `${webhook.replace(" }", ", rules: [{ tag: x, pool: gpuu }] }")}pools: { gpu: {} }`,
      "webhook.rules.0.pool names no pool: did you mean “gpu”?",
    ],
    [
      `webhook: { group: g, apiTokenFile: api, rules: [{ tag: x, pool: gpu }] }`,
      "2:59: webhook.rules.0.pool names no pool: there are none",
    ],
    [`${webhook}http: { listn: [] }`, "unknown key “listn” of http; did you mean “listen”?"],
    [
      `${webhook}http: { listen: [0.0.0.0:8443] }`,
      "http.tls is not acceptable: an address of “listen” speaks TLS",
    ],
    [
      `${webhook}http: { listen: [http://127.0.0.1:8080] }`,
      "nothing could prove that a webhook comes from GitLab: add webhook.signingKeyFile",
    ],
    [`${webhook}pools: { a: {} }\nwebhok: {}`, "unknown key “webhok”; did you mean “webhook”?"],
  ])("%s: %s", async (yaml, expected) => {
    expect((await problemsOf(yaml)).join("\n")).toContain(expected);
  });

  test("health alone may be served without anything that proves webhooks", async () => {
    const config = await load(
      "pools: { a: { runner: { token: t } } }\nhttp: { listen: [http://127.0.0.1:1] }",
    );

    expect(config.http.listen).toEqual(["http://127.0.0.1:1"]);
  });

  test("an unfinished one does not keep commands about images from working", async () => {
    const local = await loadLocalConfig(options(`${gitlab}webhook: { group: [] }\nstate: /s`));

    expect(local.state).toBe("/s");
  });
});

describe("the secrets of webhooks", () => {
  const full = "webhook: { group: g, apiTokenFile: api, signingKeyFile: keys, tokenFile: token }";
  const reveal = (secrets: readonly { reveal(): string }[] = []) => secrets.map((each) => each.reveal());

  test("are read from files beside the configuration, several while they are rotated", async () => {
    const config = await load(full, {
      ...files,
      "/etc/fr/keys": `${key("a")}\n\n${key("b")}\n${key("a")}\n`,
      "/etc/fr/token": "first-token\nsecond-token\n",
    });

    expect(reveal(config.webhook?.secrets.signingKeys)).toEqual([key("a"), key("b")]);
    expect(reveal(config.webhook?.secrets.tokens)).toEqual(["first-token", "second-token"]);
  });

  test("are systemd's credentials before they are files beside the configuration", async () => {
    const config = await load(
      webhook,
      { ...files, "/run/cred/api": "glpat-credential" },
      { CREDENTIALS_DIRECTORY: "/run/cred" },
    );

    expect(config.webhook?.secrets.apiToken.reveal()).toBe("glpat-credential");
  });

  test("come from the environment, as text or as the name of a file, and win over the configuration", async () => {
    const inline = await load(full, files, {
      FIRERUNNER_WEBHOOK__API_TOKEN: "glpat-environment",
      FIRERUNNER_WEBHOOK__SIGNING_KEY: `${key("a")} ${key("b")}`,
      FIRERUNNER_WEBHOOK__TOKEN: "12345678",
    });
    const byFile = await load(
      "webhook: { group: g, apiToken: glpat-inline }",
      { "/else": "glpat-else" },
      {
        FIRERUNNER_WEBHOOK__API_TOKEN_FILE: "/else",
      },
    );

    expect(inline.webhook?.secrets.apiToken.reveal()).toBe("glpat-environment");
    expect(reveal(inline.webhook?.secrets.signingKeys)).toEqual([key("a"), key("b")]);
    expect(reveal(inline.webhook?.secrets.tokens)).toEqual(["12345678"]);
    expect(byFile.webhook?.secrets.apiToken.reveal()).toBe("glpat-else");
  });

  test("need no file at all", async () => {
    const config = await loadConfig({
      root: true,
      env: {
        FIRERUNNER_GITLAB__URL: "https://gitlab.example.com",
        FIRERUNNER_WEBHOOK__GROUP: "42",
        FIRERUNNER_WEBHOOK__API_TOKEN: "glpat-x",
        FIRERUNNER_WEBHOOK__SIGNING_KEY: key("a"),
        FIRERUNNER_WEBHOOK__RULES: "[{ tag: gpu, image: gpu }]",
        FIRERUNNER_HTTP__LISTEN: "[http://127.0.0.1:8080]",
      },
    });

    expect(config.webhook).toMatchObject({ group: "42", rules: [{ tag: "gpu", image: "gpu" }] });
  });

  test.each([
    ["api", "", "/etc/fr/api is empty: put an access token of GitLab's API into it"],
    ["api", "glpat-a\nglpat-b", "it must be one line without spaces"],
    ["api", "glrt-a", "/etc/fr/api holds a runner's authentication token: create an access token"],
    ["api", key("a"), "/etc/fr/api holds a webhook's signing token: create an access token"],
    ["api", "GR1348941abc", "/etc/fr/api holds a runner registration token: create an access token"],
    ["keys", " \n", "/etc/fr/keys is empty: put the hook's signing token (whsec_…) into it"],
    ["keys", "whsec_c2hvcnQ=", "/etc/fr/keys is no signing token: expected whsec_ and 32 bytes in Base64"],
    ["keys", "some-secret", "/etc/fr/keys is no signing token"],
    ["keys", `${key("a")}\nwhsec_`, "one of the keys in /etc/fr/keys is no signing token"],
    ["keys", "glpat-a", "/etc/fr/keys holds a personal access token: put the hook's signing token"],
    ["token", "", "/etc/fr/token is empty: put the hook's secret token into it"],
    ["token", key("a"), "/etc/fr/token holds a webhook's signing token: put it into webhook.signingKeyFile"],
    [
      "token",
      "glpat-abcdefgh",
      "/etc/fr/token holds a personal access token: put a secret of the hook's own",
    ],
    ["token", "short", "/etc/fr/token is too short"],
    ["token", "pässwörter", "/etc/fr/token has letters that a header of HTTP does not carry"],
  ])("%s with %j is refused: %s", async (file, text, expected) => {
    const right = { "/etc/fr/api": "glpat-one", "/etc/fr/keys": key("a"), "/etc/fr/token": "hook-token" };
    const problems = await problemsOf(full, { ...right, [`/etc/fr/${file}`]: text });

    expect(problems).toHaveLength(1);
    expect(problems[0]).toMatch(/^\/etc\/fr\/c\.yaml:2:\d+: /);
    expect(problems[0]).toContain(expected);
  });

  test.each([
    ["readable by all", 0o604, "everyone on this computer may read it (mode 0604): chmod 600 /etc/fr/"],
    ["writable by others", 0o620, "group 0 may write to it (mode 0620): chmod go-w /etc/fr/"],
  ])("in files %s are refused, each of them", async (_what, mode, expected) => {
    const problems = await problemsOf(full, {
      "/etc/fr/api": { text: "glpat-one", mode },
      "/etc/fr/keys": { text: key("a"), mode },
      "/etc/fr/token": { text: "hook-token", mode },
    });

    expect(problems).toHaveLength(3);
    for (const problem of problems) expect(problem).toContain(expected);
  });

  test("are missed where their files are missing", async () => {
    expect(await problemsOf(full, {})).toEqual([
      expect.stringContaining("/etc/fr/api does not exist: create it, or correct the path"),
      expect.stringContaining("/etc/fr/keys does not exist"),
      expect.stringContaining("/etc/fr/token does not exist"),
    ]);
  });

  test("may stand in a configuration that nobody else may read, and in no other", async () => {
    const inline = `${gitlab}webhook: { group: g, apiToken: glpat-inline }`;

    expect((await loadConfig(options(inline))).webhook?.secrets.apiToken.reveal()).toBe("glpat-inline");
    await expect(
      loadConfig(options("", { "/etc/fr/c.yaml": { text: inline, mode: 0o644 } })),
    ).rejects.toThrow("everyone on this computer may read it");
  });
});

describe("the certificate of the public server", () => {
  const yaml =
    `${webhook}http: { listen: [":8443"], tls: { certificateFile: c.pem, keyFile: k.pem } }`.replace(
      '":8443"',
      "127.0.0.1:8443",
    );
  const token = yaml.replace(" }\n", ", token: hook-token }\n");
  const certificate = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n";
  const privateKey = "-----BEGIN EC PRIVATE KEY-----\nPLANTED\n-----END EC PRIVATE KEY-----\n";

  test("lies beside the configuration or among systemd's credentials", async () => {
    const config = await load(
      token,
      { ...files, "/etc/fr/c.pem": certificate, "/run/cred/k.pem": privateKey },
      { CREDENTIALS_DIRECTORY: "/run/cred" },
    );

    expect(config.http.tls).toEqual({ certificateFile: "/etc/fr/c.pem", keyFile: "/run/cred/k.pem" });
  });

  test("is refused when others may read its key, when it is none, and when it is missing", async () => {
    const open = { text: privateKey, mode: 0o644 };

    expect(
      await problemsOf(token, { ...files, "/etc/fr/c.pem": certificate, "/etc/fr/k.pem": open }),
    ).toEqual([
      expect.stringContaining("/etc/fr/k.pem holds a secret and everyone on this computer may read it"),
    ]);
    expect(
      await problemsOf(token, { ...files, "/etc/fr/c.pem": open, "/etc/fr/k.pem": certificate }),
    ).toEqual([
      expect.stringContaining("/etc/fr/c.pem is no PEM file with a certificate"),
      expect.stringContaining("/etc/fr/k.pem is no PEM file with a private key"),
    ]);
    expect(await problemsOf(token)).toEqual([
      expect.stringContaining("/etc/fr/c.pem does not exist"),
      expect.stringContaining("/etc/fr/k.pem does not exist"),
    ]);
  });

  test("may be readable by all when the key is in another file", async () => {
    const config = await load(token, {
      ...files,
      "/etc/fr/c.pem": { text: certificate, mode: 0o644 },
      "/etc/fr/k.pem": privateKey,
    });

    expect(config.http.tls?.certificateFile).toBe("/etc/fr/c.pem");
  });
});

describe("no secret is shown", () => {
  const inline = `webhook:\n  group: g\n  apiToken: glpat-PLANTED\n  signingKey: ${key("P")}\n  token: PLANTED-token\n`;
  const planted = new RegExp(`PLANTED|${key("P").slice(6)}`);

  test("by the loaded configuration and its settings with their origins", async () => {
    const config = await load(inline);

    for (const text of [
      inspect(config, { depth: 12 }),
      JSON.stringify(config),
      JSON.stringify(config.values),
    ]) {
      expect(text).not.toMatch(planted);
    }
    expect(
      config.values.filter(({ value }) => value === "[secret]").map(({ path }) => path.join(".")),
    ).toEqual(["webhook.apiToken", "webhook.signingKey", "webhook.token"]);
  });

  test("by what is said of mistakes, however wrong its place", async () => {
    const attempts: [string, FilesInMemory?, NodeJS.ProcessEnv?][] = [
      ["webhook: { group: g, apiToken: [glpat-PLANTED] }"],
      ["webhook: { group: g, apiToken: { a: glpat-PLANTED } }"],
      ["webhook: { group: g, apiToken: glrt-PLANTED }"],
      ["webhook: { group: g, apiToken: 'glpat-PLANTED and more' }"],
      ["webhook: { group: g, apiToken: t, signingKey: whsec_PLANTED }"],
      ["webhook: { group: g, apiToken: t, signingKey: [whsec_PLANTED] }"],
      ["webhook: { group: g, apiToken: t, token: P }"],
      ["webhook:\n  group: g\n  token: 'PLANTED\n  apiToken: t"],
      ["webhook:\n  group: g\n  apiToken: !odd PLANTED"],
      [webhook, { "/etc/fr/api": "glrt-PLANTED" }],
      [webhook, { "/etc/fr/api": { text: "glpat-PLANTED", mode: 0o644 } }],
      [webhook, files, { FIRERUNNER_WEBHOOK__SIGNING_KEY: "whsec_PLANTED" }],
      [webhook, files, { FIRERUNNER_WEBHOOK__API_TOKEN: "glrt-PLANTED" }],
      ["webhook: { group: g }", files, { FIRERUNNER_WEBHOOK__APITOKNE: "glpat-PLANTED" }],
    ];

    for (const [yaml, given, env] of attempts) {
      const error = await load(yaml, given, env).catch((thrown: unknown) => thrown);
      expect(error, yaml).toBeInstanceOf(ConfigError);
      expect(inspect(error, { depth: 12 }), yaml).not.toMatch(/PLANTED/);
    }
  });
});

test("the rules for tags: pools and images by further tags, in order", async () => {
  const config = await load(
    `webhook:
  group: g
  apiTokenFile: api
  tagPrefix: vm
  sizes: { maxCpus: 4, maxMemory: 8GiB }
  machine: { image: small, disk: 5GiB, egress: none, concurrency: 3 }
  rules: [{ tag: gpu, pool: gpu }, { tag: debian, image: debian }]
pools: { gpu: { image: gpu, size: { disk: 40GiB } } }`,
  );
  const rules = config.webhook && tagRulesOf(config.webhook, config.kinds, (driver) => `${driver} cannot`);
  const machine = {
    image: "small",
    driver: "qemu",
    egress: normalEgress("none"),
    concurrency: 3,
    diskMib: 5_120,
  };

  expect(rules).toMatchObject({
    prefix: "vm",
    maxCpus: 4,
    maxMemoryMib: 8_192,
    kind: machine,
    rules: [
      { tag: "gpu", kind: config.kinds.get("gpu") },
      { tag: "debian", kind: { ...machine, image: "debian" } },
    ],
  });
  expect(rules?.sizeProblem("qemu", { cpus: 1, memoryMib: 1, diskMib: 1 })).toBe("qemu cannot");
});
