import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { usualContainers } from "../../test/builders/pool.ts";
import { temporaryDirectory } from "../../test/builders/temporary-directory.ts";
import { makeCertificateAuthority } from "../../test/servers/certificates.ts";
import { containersDirectory } from "../containers/config.ts";
import { ConfigError } from "./errors.ts";
import { loadConfig, loadLocalConfig } from "./load.ts";
import { tagRulesOf } from "./machine-kinds.ts";

const base =
  "gitlab: { url: https://gitlab.example.com }\npools: { small: { runner: { token: glrt-one } } }\n";

async function load(yaml: string, files: Readonly<Record<string, string>> = {}) {
  await using directory = await temporaryDirectory();
  const file = join(directory.path, "firerunner.yaml");
  await writeFile(file, base + yaml, { mode: 0o600 });
  for (const [name, text] of Object.entries(files))
    await writeFile(join(directory.path, name), text, { mode: 0o600 });
  const options = { file, env: {}, root: true };
  // The daemon refuses what the commands refuse.
  await loadConfig(options);
  return await loadLocalConfig(options);
}

test("job images lie in the state directory, and have a size, unless the configuration says otherwise", async () => {
  const usual = await load("");
  const own = await load("containers: { cache: { directory: /srv/images, size: 1TiB, minFree: 10GiB } }\n");

  expect(containersDirectory(usual)).toBe("/var/lib/firerunner/containers");
  expect(usual.containers.cache).toEqual({ size: 40 * 1024, minFree: 5 * 1024 });
  expect(containersDirectory(own)).toBe("/srv/images");
  expect(own.containers.cache).toMatchObject({ size: 1024 ** 2, minFree: 10 * 1024 });
});

test("a registry has what its files hold, and no secret is shown", async () => {
  const yaml =
    "containers: { registries: { 'r.example.org:5000': { usernameFile: user, passwordFile: word, caFile: ca, mirror: m.example.org } } }\n";
  await using authority = await makeCertificateAuthority();
  const { ca } = authority;

  const { registries, containers } = await load(yaml, { user: "robot\n", word: "secret-word\n", ca });

  const registry = registries.get("r.example.org:5000");
  expect(registry).toMatchObject({ ca, mirror: "m.example.org", plaintext: false });
  expect(registry?.login?.kind === "password" && registry.login.password.reveal()).toBe("secret-word");
  expect(JSON.stringify([registry, containers])).not.toContain("secret-word");
});

test.each([
  ["{ r.example.org: { usernameFile: user } }", /give both of usernameFile and passwordFile/],
  ["{ r.example.org: { usernameFile: user, passwordFile: none } }", /none does not exist/],
  ["{ r.example.org: { usernameFile: user, passwordFile: empty } }", /empty is empty/],
  ["{ r.example.org: { usernameFile: user, passwordFile: two } }", /more than one line/],
  ["{ r.example.org: { caFile: user } }", /user cannot be used/],
  ["{ r.example.org: { caFile: user, plaintext: true } }", /without TLS/],
  ["{ 'https://r.example.org': {} }", /HOST or HOST:PORT/],
])("%s is refused", async (registries, problem) => {
  const files = { user: "robot", empty: "", two: "a\nb" };

  const error = await load(`containers: { registries: ${registries} }\n`, files).catch(
    (thrown: unknown) => thrown,
  );

  expect(error).toBeInstanceOf(ConfigError);
  expect(String(error)).toMatch(problem);
});

const inPool = (containers: string) =>
  `webhook: { group: g, apiToken: t, machine: { containers: ${containers} } }\n`;

test("a pool says for itself what becomes of jobs that name images", async () => {
  await using directory = await temporaryDirectory();
  const file = join(directory.path, "firerunner.yaml");
  const containers =
    "{ enabled: true, defaultImage: 'r.example.org/ci:1', privileged: false, allow: ['r.example.org/team/*', 'docker.io/library/node', 'localhost:5000/*'], engine: docker, socket: true, pullDeadline: 90s }";
  const pools = base.replace("token: glrt-one }", `token: glrt-one }, containers: ${containers}`);
  await writeFile(file, pools + inPool("{ ignore: true }"), { mode: 0o600 });

  const { kinds, webhook } = await loadConfig({ file, env: {}, root: true });

  expect(kinds.get("small")?.containers).toEqual({
    enabled: true,
    ignore: false,
    defaultImage: "r.example.org/ci:1",
    privileged: false,
    engine: "docker",
    socket: true,
    allow: ["r.example.org/team/*", "docker.io/library/node", "localhost:5000/*"],
    pullDeadline: 90_000,
  });
  expect(webhook?.machine.containers).toEqual({ ...usualContainers, ignore: true });
});

test.each([
  ["{ enabled: true, ignore: true }", "enabled and ignore cannot both be true"],
  ["{ allow: ['*'] }", "with the host in full"],
  ["{ allow: ['node'] }", "with the host in full"],
  ["{ allow: ['team/*'] }", "with the host in full"],
  ["{ allow: ['*.example.org/x'] }", "with the host in full"],
  ["{ allow: ['r.example.org/te*'] }", "with the host in full"],
  ["{ allow: ['r.example.org/a:1'] }", "with the host in full"],
  ["{ defaultImage: $IMAGE }", "without variables"],
  ["{ pullDeadline: 10 }", "duration"],
  ["{ engine: containerd }", "podman"],
  ["{ enable: true }", "did you mean “enabled”?"],
])("containers: %s of a pool is refused", async (containers, words) => {
  const error = await load(inPool(containers)).catch((thrown: unknown) => thrown);

  expect(error).toBeInstanceOf(ConfigError);
  expect((error as ConfigError).problems.map(({ message }) => message).join()).toContain(words);
});

test("a pool's environment and scripts are those of its jobs, and undefined where it has none", async () => {
  await using directory = await temporaryDirectory();
  const file = join(directory.path, "firerunner.yaml");
  const said = '{ environment: ["A=b c", "B="], preBuild: "echo a\\necho b" }';
  await writeFile(file, `${base}webhook: { group: g, apiToken: t, machine: ${said} }\n`, { mode: 0o600 });

  const { kinds, webhook } = await loadConfig({ file, env: {}, root: true });

  expect(kinds.get("small")).not.toHaveProperty("runnerSettings");
  const byTag = webhook && tagRulesOf(webhook, kinds, () => undefined).kind;
  expect(byTag?.runnerSettings).toEqual({ environment: ["A=b c", "B="], preBuild: "echo a\necho b" });
});

test.each([
  ['environment: ["A"]', "expected NAME=VALUE"],
  ['environment: ["1A=b"]', "expected NAME=VALUE"],
  ['environment: ["A=b\\nc"]', "expected NAME=VALUE"],
  [`environment: ["A=${"x".repeat(16 * 1024)}"]`, "more than 16 KiB together"],
  [`preBuild: "${"é".repeat(8 * 1024)}"`, "more than 16 KiB together"],
  ['postBuild: ""', "postBuild"],
])("%.40s of a machine is refused", async (said, words) => {
  const error = await load(`webhook: { group: g, apiToken: t, machine: { ${said} } }\n`).catch(
    (thrown: unknown) => thrown,
  );

  expect(error).toBeInstanceOf(ConfigError);
  expect(JSON.stringify((error as ConfigError).problems)).toContain(words);
});
