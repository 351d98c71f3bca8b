import { chmod, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect } from "node:util";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { normalEgress } from "../domain/egress.ts";
import { ConfigError } from "./errors.ts";
import {
  type Config,
  defaultState,
  findConfigFile,
  findSigningKeyFile,
  type LoadOptions,
  loadConfig,
} from "./load.ts";

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "fr-config-"));
});

afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

async function write(name: string, text: string, mode = 0o600): Promise<string> {
  const path = join(directory, name);
  await writeFile(path, text);
  await chmod(path, mode);
  return path;
}

const gitlab = "gitlab: { url: https://gitlab.example.com }\n";

async function load(yaml: string, options: Partial<LoadOptions> = {}): Promise<Config> {
  return await loadConfig({ file: await write("firerunner.yaml", yaml), env: {}, root: true, ...options });
}

/** The problems of a configuration that must be refused, without the directory's name. */
async function problemsOf(yaml: string, options: Partial<LoadOptions> = {}): Promise<string[]> {
  const error = await load(yaml, options).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(ConfigError);
  return (error as ConfigError).problems.map(({ where, message }) =>
    `${where}: ${message}`.replaceAll(`${directory}/`, ""),
  );
}

const onePool = `${gitlab}pools:\n  small:\n    runner: { token: glrt-one }\n`;

describe("a usable configuration", () => {
  test("fills in defaults and makes pools of the lifecycle's kind", async () => {
    const config = await load(`${onePool}    size: { cpus: 2, memory: 4GiB }\n`);

    expect(config.pools.get("small")).toMatchObject({
      name: "small",
      size: { cpus: 2, memoryMib: 4096, diskMib: 20_480 },
      driver: "qemu",
      concurrency: 10,
      egress: normalEgress("internet"),
    });
    expect(config.pools.get("small")?.runnerToken.reveal()).toBe("glrt-one");
    expect(config.state).toBe("/var/lib/firerunner");
    expect(config.log.level).toBe("info");
  });

  test("reads tokens from files named beside the configuration", async () => {
    await write("small.token", "glrt-from-file\n");

    const config = await load(`${gitlab}pools: { small: { runner: { tokenFile: small.token } } }`);

    expect(config.pools.get("small")?.runnerToken.reveal()).toBe("glrt-from-file");
  });

  test("prefers systemd's credentials directory for a relative token file", async () => {
    const credentials = join(directory, "credentials");
    await mkdir(credentials);
    await write("credentials/small.token", "glrt-credential");
    await write("small.token", "glrt-beside");

    const config = await load(`${gitlab}pools: { small: { runner: { tokenFile: small.token } } }`, {
      env: { CREDENTIALS_DIRECTORY: credentials },
    });

    expect(config.pools.get("small")?.runnerToken.reveal()).toBe("glrt-credential");
  });

  test("takes values from the environment over the file, in the form each field wants", async () => {
    const config = await load(onePool, {
      env: {
        FIRERUNNER_POOLS__SMALL__CONCURRENCY: "3",
        FIRERUNNER_POOLS__SMALL__SIZE__MEMORY: "1GiB",
        FIRERUNNER_POOLS__SMALL__EGRESS: "[a.example:443, b.example]",
        FIRERUNNER_LOG__LEVEL: "debug",
        FIRERUNNER_CONFIG: "/elsewhere",
      },
    });

    const pool = config.pools.get("small");
    expect(pool?.concurrency).toBe(3);
    expect(pool?.size.memoryMib).toBe(1024);
    expect(pool?.egress).toEqual(normalEgress(["a.example:443", "b.example"]));
    expect(config.log.level).toBe("debug");
  });

  test("a token file from the environment replaces a token in the file", async () => {
    const path = await write("other.token", "glrt-two");

    const config = await load(onePool, { env: { FIRERUNNER_POOLS__SMALL__RUNNER__TOKEN_FILE: path } });

    expect(config.pools.get("small")?.runnerToken.reveal()).toBe("glrt-two");
  });

  test("needs no file when the environment gives everything", async () => {
    const config = await loadConfig({
      env: {
        FIRERUNNER_GITLAB__URL: "https://gitlab.example.com",
        FIRERUNNER_POOLS__BIG_ONE__RUNNER__TOKEN: "12345678",
      },
      root: true,
    });

    expect(config.pools.get("big-one")?.runnerToken.reveal()).toBe("12345678");
  });

  test("says where each value came from and shows no secret", async () => {
    const config = await load(onePool, { env: { FIRERUNNER_POOLS__SMALL__CONCURRENCY: "3" } });

    const origins = Object.fromEntries(config.values.map((each) => [each.path.join("."), each]));
    expect(origins["pools.small.runner.token"]).toMatchObject({ value: "[secret]" });
    expect(origins["pools.small.runner.token"]?.origin).toMatch(/firerunner\.yaml:4:15$/);
    expect(origins["pools.small.concurrency"]?.origin).toBe("FIRERUNNER_POOLS__SMALL__CONCURRENCY");
    expect(origins["pools.small.size.memory"]).toMatchObject({ value: "2GiB", origin: "default" });
    expect(JSON.stringify({ ...config, pools: [...config.pools] })).not.toContain("glrt-one");
    expect(inspect(config, { depth: 9 })).not.toContain("glrt-one");
  });
});

describe("settings that do nothing any more", () => {
  test("are accepted, told of with their place, and are no settings", async () => {
    await write("api", "glpat-one");
    const config = await load(
      `${onePool}    executor: shell\n  other: { executor: auto }\nwebhook: { group: g, apiTokenFile: api, machine: { executor: docker } }\n`,
    );

    const says =
      "is no setting any more: whether a job runs in containers is decided by what it names (“shell” is taken for containers.ignore: true)";
    const notes = config.notes.map(({ problem, hint }) => [problem, hint.replace(`${directory}/`, "")]);
    expect(notes).toEqual([
      [`pools.small.executor ${says}`, "take it out: firerunner.yaml:5:5"],
      [`pools.other.executor ${says}`, "take it out: firerunner.yaml:6:12"],
      [`webhook.machine.executor ${says}`, "take it out: firerunner.yaml:7:52"],
    ]);
    expect(config.pools.get("small")?.runnerToken.reveal()).toBe("glrt-one");
    expect(config.values.filter(({ path }) => path.includes("executor"))).toEqual([]);
    expect([...config.kinds.values()].map(({ containers }) => containers.ignore)).toEqual([true, false]);
  });

  test("also as variables of the environment", async () => {
    const env = { FIRERUNNER_POOLS__SMALL__EXECUTOR: "shell", FIRERUNNER_POOLS__SMALL__CONCURRENCY: "3" };

    const config = await load(onePool, { env });

    expect(config.notes.map(({ hint }) => hint)).toEqual(["unset FIRERUNNER_POOLS__SMALL__EXECUTOR"]);
    expect(config.pools.get("small")).toMatchObject({ concurrency: 3, containers: { ignore: true } });
  });

  test("what looks like one elsewhere is a mistake as ever", async () => {
    expect(await problemsOf(`${onePool}executor: shell\n`)).toEqual([
      expect.stringContaining("firerunner.yaml:5:1: unknown key “executor”"),
    ]);
  });
});

describe("a configuration with mistakes", () => {
  test("is told of at the variable that made one, though the file has something there too", async () => {
    const loaded = load(`${onePool}    egress: [ 'a.example' ]\n`, {
      env: { FIRERUNNER_POOLS__SMALL__EGRESS: "[ 'a.example:0' ]" },
    });

    await expect(loaded).rejects.toThrow(
      "FIRERUNNER_POOLS__SMALL__EGRESS: pools.small.egress.0 is not acceptable",
    );
  });

  test.each([
    [
      "concurency: 4",
      "firerunner.yaml:5:5: unknown key “concurency” of pools.small; did you mean “concurrency”?",
    ],
    ["size: { cpu: 4 }", "firerunner.yaml:5:13: unknown key “cpu” of pools.small.size; did you mean “cpus”?"],
    ["zzzzz: 1", "firerunner.yaml:5:5: unknown key “zzzzz” of pools.small; known are size, image, driver, "],
    ["concurrency: ten", "firerunner.yaml:5:5: pools.small.concurrency is “ten”: expected a number"],
    ["concurrency: 0", "firerunner.yaml:5:5: pools.small.concurrency is 0: expected at least 1"],
    ["concurrency: 1.5", "firerunner.yaml:5:5: pools.small.concurrency is 1.5: expected a whole number"],
    ["concurrency:", "firerunner.yaml:5:5: pools.small.concurrency is empty: expected a number"],
    [
      "driver: qmeu",
      "firerunner.yaml:5:5: pools.small.driver is “qmeu”: expected one of auto, qemu, flintlock, fake; did you",
    ],
    [
      "size: { memory: 4096 }",
      "firerunner.yaml:5:13: pools.small.size.memory is 4096: expected a size such as",
    ],
    [
      "size: { memory: 4Gb4 }",
      "firerunner.yaml:5:13: pools.small.size.memory is not acceptable: “4Gb4” is not a size",
    ],
    ["size: 4", "firerunner.yaml:5:5: pools.small.size is 4: expected a map of keys"],
    [
      "egress: some",
      "firerunner.yaml:5:5: pools.small.egress is “some”: expected one of none, internet, or a list",
    ],
    ["egress: [ 'a b' ]", "firerunner.yaml:5:15: pools.small.egress.0 is not acceptable: expected host:port"],
    [
      "egress: { mode: lst }",
      "firerunner.yaml:5:15: pools.small.egress.mode is “lst”: expected one of none, internet, list",
    ],
    [
      "egress: { mode: list, host: [] }",
      "firerunner.yaml:5:27: unknown key “host” of pools.small.egress; did you mean “hosts”?",
    ],
    [
      "egress: { mode: list, hosts: [ { host: a, privat: true } ] }",
      "unknown key “privat” of pools.small.egress.hosts.0; did you mean “private”?",
    ],
    [
      "egress: { mode: none, hosts: [ a ] }",
      "firerunner.yaml:5:27: pools.small.egress.hosts is not acceptable: nothing can be reached with mode none",
    ],
    [
      "egress: { mode: list, hosts: [ { host: a, private: [ 10.0.0.0/99 ] } ] }",
      "pools.small.egress.hosts.0.private.0 is not acceptable: a range is between /8 and /32",
    ],
  ])("%s → %s", async (line, expected) => {
    const problems = await problemsOf(`${onePool}    ${line}\n`);

    expect(problems).toHaveLength(1);
    expect(problems[0]).toContain(expected);
  });

  test.each([
    ["", "gitlab"],
    ["- a\n- b", "the file must be a map of keys"],
    [`${gitlab}pools: {}`, "firerunner.yaml:2:1: no job could ever be found: add “pools”"],
    [gitlab, "firerunner.yaml: no job could ever be found: add “pools”"],
    [`${gitlab}pools: { Bad_Name: { runner: { token: t } } }`, "pools.Bad_Name is not an acceptable name"],
    [`${gitlab}pools: { a: { } }`, "pools.a.runner is missing: give runner.tokenFile"],
    [`${gitlab}pools: { a: { runner: { } } }`, "give exactly one of token and tokenFile"],
    [`${onePool}state: relative/path`, "firerunner.yaml:5:1: state is not acceptable: give an absolute path"],
    [`${onePool}state: /${"x".repeat(80)}`, "at most 70 characters"],
    [`${onePool}      bad\n`, "firerunner.yaml:5:7: not valid YAML: "],
    [`${onePool}state: /a\nstate: /b`, "firerunner.yaml:6:1: not valid YAML: Map keys must be unique"],
  ])("%j is refused: %s", async (yaml, expected) => {
    expect((await problemsOf(yaml)).join("\n")).toContain(expected);
  });

  test("reports all problems at once", async () => {
    const problems = await problemsOf(`${onePool}    concurency: 1\n    driver: x\nlgo: {}\n`, {
      env: { FIRERUNNER_NOTHING: "1" },
    });

    expect(problems).toHaveLength(4);
  });

  test("names the variable for a problem in the environment", async () => {
    const problems = await problemsOf(onePool, {
      env: {
        FIRERUNNER_POOLS__SMALL__CONCURRENCY: "lots",
        FIRERUNNER_LOG_LEVEL: "debug",
        FIRERUNNER_STAET: "/x",
      },
    });

    expect(problems).toEqual([
      "FIRERUNNER_LOG_LEVEL: sets no known setting; did you mean FIRERUNNER_LOG__LEVEL?",
      "FIRERUNNER_STAET: sets no known setting; did you mean FIRERUNNER_STATE?",
      "FIRERUNNER_POOLS__SMALL__CONCURRENCY: pools.small.concurrency is “lots”: expected a number",
    ]);
  });

  test("refuses one token in two pools", async () => {
    const problems = await problemsOf(`${onePool}  big:\n    runner: { token: glrt-one }\n`);

    expect(problems).toEqual([
      "firerunner.yaml:6:15: pools small and big have the same runner token: give each pool a GitLab runner of its own",
    ]);
  });

  test("never repeats a token, however wrong its place", async () => {
    const secret = "glrt-PLANTED";
    const attempts = [
      `${gitlab}pools: { a: { runner: { token: [${secret}] } } }`,
      `${gitlab}pools: { a: { runner: { token: ${secret}, tokenFile: x } } }`,
      `${gitlab}pools:\n  a:\n    runner:\n      token: "${secret}\n  b: 1`,
      `${gitlab}pools:\n  a:\n    runner:\n      token: !odd ${secret}\n`,
      `${gitlab}pools: { a: { runner: { token: "${secret} and more" } } }`,
    ];

    for (const yaml of attempts) {
      const error = await load(yaml).catch((thrown: unknown) => thrown);
      expect(error, yaml).toBeInstanceOf(ConfigError);
      expect((error as ConfigError).message).not.toContain("PLANTED");
    }
  });
});

describe("a token file that cannot be used", () => {
  const yaml = `${gitlab}pools:\n  small:\n    runner: { tokenFile: t }\n`;

  test.each([
    ["missing", undefined, 0o600, "t does not exist: create it, or correct the path"],
    ["empty", " \n", 0o600, "t is empty: put the runner's authentication token"],
    ["readable by all", "glrt-x", 0o644, "everyone on this computer may read it (mode 0644): chmod 600"],
    ["writable by the group", "glrt-x", 0o660, "t: group 0 may write to it (mode 0660): chmod go-w "],
    ["of several lines", "glrt-x\nglrt-y", 0o600, "it must be one line without spaces"],
    ["with a personal token", "glpat-x", 0o600, "holds a personal access token: create a runner in GitLab"],
    ["with a registration token", "GR1348941abc", 0o600, "holds a runner registration token"],
  ])("%s", async (_name, text, mode, expected) => {
    if (text !== undefined) await write("t", text, mode);

    const problems = await problemsOf(yaml);

    expect(problems).toHaveLength(1);
    expect(problems[0]).toContain("firerunner.yaml:4:15: ");
    expect(problems[0]).toContain(expected);
  });

  test("is a directory", async () => {
    await mkdir(join(directory, "t"), { mode: 0o700 });

    expect((await problemsOf(yaml))[0]).toContain("t is a directory: name a file in it");
  });

  test("belongs to another user", async () => {
    const config = await write("firerunner.yaml", yaml);
    const denied = Object.assign(new Error("denied"), { code: "EACCES" });
    const error = await loadConfig({
      file: config,
      env: {},
      readFile: async (path) => (path === config ? { text: yaml, mode: 0o600 } : Promise.reject(denied)),
    }).catch((thrown: unknown) => thrown);

    expect((error as ConfigError).problems[0]?.message).toContain("may not be read by this user");
  });

  test("may be readable by its group", async () => {
    await write("t", "glrt-x", 0o640);

    expect((await load(yaml)).pools.get("small")?.runnerToken.reveal()).toBe("glrt-x");
  });

  test("a token written into a configuration that everyone may read is refused", async () => {
    const file = await write("open.yaml", onePool, 0o644);
    const error = await loadConfig({ file, env: {} }).catch((thrown: unknown) => thrown);

    expect((error as ConfigError).message).toContain("everyone on this computer may read it");
  });
});

test("a configuration file that is not there is named, with what to do", async () => {
  const error = await loadConfig({ file: join(directory, "no.yaml"), env: {} }).catch(
    (thrown: unknown) => thrown,
  );

  expect(error).toMatchObject({ code: "config_unreadable" });
  expect((error as ConfigError).message).toContain("no.yaml does not exist");
  expect((error as ConfigError).hint).toContain("--config FILE");
});

test("the default state directory follows the user", () => {
  expect(defaultState({}, true)).toBe("/var/lib/firerunner");
  expect(defaultState({ XDG_STATE_HOME: "/s" }, false)).toBe("/s/firerunner");
  expect(defaultState({ HOME: "/home/x" }, false)).toBe("/home/x/.local/state/firerunner");
});

test.each([
  ["{ memory: 64MiB }", "the qemu driver needs 128 MiB of memory"],
  ["{ disk: 1MiB }", "a machine needs 16 MiB of disk"],
])("a size that cannot work is objected to with its line: %s", async (size, problem) => {
  expect(await problemsOf(`${onePool}    size: ${size}\n`)).toEqual([
    `firerunner.yaml:5:5: pools.small.size cannot work: ${problem}`,
  ]);
});

test.each([
  ["{ cpus: 3, memory: 4GiB }", "the flintlock driver gives 1 CPU or an even number of CPUs"],
  ["{ cpus: 16, memory: 4GiB }", "none of metal in vm.flintlock.hosts has 16 CPUs, 4 GiB and 20 GiB of disk"],
])("so is one that no host of a fleet could hold: %s", async (size, problem) => {
  const fleet = `relay: { listen: [0.0.0.0:8444], advertise: "10.0.0.1:8444" }
vm: { flintlock: { hosts: { metal: { address: "10.0.0.2:9090", plaintext: true, cpus: 4, memory: 16GiB } } } }
`;
  const problems = await problemsOf(`${fleet}${onePool}    driver: flintlock\n    size: ${size}\n`);

  expect(problems).toEqual([expect.stringContaining(`pools.small.size cannot work: ${problem}`)]);
});

test("the file that is named wins, then the variable, then the defaults in order", () => {
  const env = { FIRERUNNER_CONFIG: "/by/variable" };
  const all = () => true;

  expect(findConfigFile("/by/option", env, all)).toBe("/by/option");
  expect(findConfigFile(undefined, env, all)).toBe("/by/variable");
  expect(findConfigFile(undefined, { FIRERUNNER_CONFIG: "" }, all)).toBe("/etc/firerunner/config.yaml");
  expect(findConfigFile(undefined, {}, (path) => path.startsWith("./"))).toBe("./firerunner.yaml");
  expect(findConfigFile(undefined, {}, () => false)).toBeUndefined();
});

async function find(text: string, env: NodeJS.ProcessEnv = {}): Promise<string | undefined> {
  const readFile = async () => ({ text, mode: 0o600 });
  return await findSigningKeyFile({ file: "/etc/firerunner/config.yaml", env, readFile });
}

test("the key's file is looked for beside the configuration, whatever else is unfinished", async () => {
  expect(await find("webhook: { signingKeyFile: hook.key, group: }")).toBe("/etc/firerunner/hook.key");
  expect(await find("webhook: { signingKeyFile: /run/hook.key }")).toBe("/run/hook.key");
});

test("the environment has the last word", async () => {
  const env = { FIRERUNNER_WEBHOOK__SIGNING_KEY_FILE: "/run/other.key" };

  expect(await find("webhook: { signingKeyFile: hook.key }", env)).toBe("/run/other.key");
});

test.each(["webhook: { signingKey: whsec_x }", "pools: {}", "[", "- a list", ""])(
  "there is none in “%s”",
  async (text) => {
    expect(await find(text)).toBeUndefined();
  },
);
