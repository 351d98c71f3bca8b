import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { temporaryDirectory } from "../../../test/builders/temporary-directory.ts";
import { startS3Server } from "../../../test/servers/s3-server.ts";
import { loadConfig } from "../../config/load.ts";
import { cacheChecks } from "./caches.ts";

test("doctor reads and lists at the server of caches, and tells of a wrong key and of nobody there", async () => {
  await using directory = await temporaryDirectory();
  const server = await startS3Server();
  const look = async (secretKey: string) => {
    const file = async (name: string, text: string) => {
      await writeFile(join(directory.path, name), text, { mode: 0o600 });
      return join(directory.path, name);
    };
    const s3 = {
      ...{ endpoint: server.url, bucket: server.bucket, region: server.region, plaintext: true },
      accessKeyFile: await file("access", server.accessKey),
      secretKeyFile: await file("secret", secretKey),
    };
    const settings = {
      gitlab: { url: "https://gitlab.example.com" },
      state: directory.path,
      pools: { small: { runner: { token: "glrt-one" } } },
      cache: { s3 },
    };
    const path = await file("firerunner.yaml", JSON.stringify(settings));
    const [check] = cacheChecks(await loadConfig({ file: path, env: {} }));
    return await check?.run(AbortSignal.timeout(30_000));
  };

  const right = await look(server.secretKey);
  const wrong = await look("wrong");
  const { requests } = server;
  await server[Symbol.asyncDispose]();
  const nobody = await look(server.secretKey);

  expect(right).toMatchObject({ level: "ok" });
  expect(wrong).toMatchObject({ level: "fail", message: expect.stringMatching(/403/) });
  expect(nobody).toMatchObject({ level: "fail" });
  expect(requests.filter((line) => /^(PUT|DELETE|POST)/.test(line))).toEqual([]);
});

test("doctor asks nobody where caches lie in a directory, or are not kept", async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, "firerunner.yaml");
  const settings = {
    gitlab: { url: "https://gitlab.example.com" },
    state: directory.path,
    pools: { small: { runner: { token: "glrt-one" } } },
  };
  await writeFile(path, JSON.stringify(settings), { mode: 0o600 });

  expect(cacheChecks(await loadConfig({ file: path, env: {} }))).toEqual([]);
});
