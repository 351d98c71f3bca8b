import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { temporaryDirectory } from "../../test/builders/temporary-directory.ts";
import { makeCertificateAuthority } from "../../test/servers/certificates.ts";
import { containersDirectory } from "../containers/config.ts";
import { ConfigError } from "./errors.ts";
import { loadConfig, loadLocalConfig } from "./load.ts";

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
