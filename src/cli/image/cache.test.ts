import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { text } from "node:stream/consumers";
import { expect, test } from "vitest";
import { imageOf, tarOf } from "../../../test/builders/layer.ts";
import { temporaryDirectory } from "../../../test/builders/temporary-directory.ts";
import { startImageRegistry } from "../../../test/servers/image-registry.ts";
import { runCli } from "../program.ts";

test("images are pulled with the configured login, listed, verified and pruned", async () => {
  await using directory = await temporaryDirectory();
  await using registry = await startImageRegistry({ login: { username: "robot", password: "secret-word" } });
  const image = imageOf([tarOf([{ path: "etc/motd", content: "hello" }])]);
  registry.put("team/tool", "1", image);
  const name = `${registry.host}/team/tool:1`;
  const config = join(directory.path, "firerunner.yaml");
  const put = (file: string, content: string) =>
    writeFile(join(directory.path, file), content, { mode: 0o600 });
  await put("user", "robot\n");
  await put("word", "secret-word\n");
  await put(
    "firerunner.yaml",
    `state: ${directory.path}\nimages: { warm: ['${name}', 'node:24'] }\ncontainers: { cache: { minFree: 1MiB }, registries: { '${registry.host}': { usernameFile: user, passwordFile: word } } }\n`,
  );
  const run = async (...args: string[]) => {
    const [stdout, stderr] = [new PassThrough(), new PassThrough()];
    const argv = ["image", "cache", ...args, "--config", config];
    const executable = ["firerunner"] as const;
    const code = await runCli({ argv, env: {}, stdout, stderr, version: "0", executable });
    stdout.end();
    stderr.end();
    return { code, out: await text(stdout), err: await text(stderr) };
  };

  const pulled = await run("pull", name);
  const again = await run("pull", name, "--policy", "never", "--json");
  const listed = await run("list");
  const json = JSON.parse((await run("list", "--json")).out);
  const verified = await run("verify");
  const missing = await run("pull", `${registry.host}/team/tool:2`);
  const pruned = await run("prune", "--unused-days", "1");

  expect(pulled).toMatchObject({ code: 0, err: expect.stringContaining("fetching") });
  expect(pulled.out).toContain(`${name}: ${image.manifest.digest.slice(0, 19)}, fetched`);
  expect(JSON.parse(again.out)).toMatchObject([{ reference: name, isFromCache: true, fetchedBytes: 0 }]);
  expect(listed.out).toContain(name);
  expect(listed.out.split("\n").every((line) => line.length <= 80)).toBe(true);
  expect(json.images).toMatchObject([{ name, digest: image.manifest.digest, machines: 0, warm: true }]);
  expect(listed.out).toContain("node:24 (images.warm) is not here");
  expect(verified).toMatchObject({ code: 0, out: expect.stringContaining("intact") });
  expect(missing).toMatchObject({ code: 4, err: expect.stringContaining("there is no image") });
  expect(pruned).toMatchObject({ code: 0, out: expect.stringContaining("removed 0 files") });
  for (const { out, err } of [pulled, again, listed, missing]) expect(out + err).not.toContain("secret-word");
});

test("a number of days that is none is told", async () => {
  await using directory = await temporaryDirectory();
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const config = join(directory.path, "firerunner.yaml");
  await writeFile(config, `state: ${directory.path}\n`, { mode: 0o600 });

  const argv = ["image", "cache", "prune", "--unused-days", "soon", "--config", config];

  expect(await runCli({ argv, env: {}, stdout, stderr, version: "0", executable: ["firerunner"] })).toBe(2);
});
