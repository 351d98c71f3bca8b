import { execFile } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import { systemClock } from "../../src/base/clock.ts";
import { directRoutes } from "../../src/base/proxy/routes.ts";
import { MIB_BYTES } from "../../src/base/units.ts";
import { openJobImages } from "../../src/containers/job-images.ts";
import { imageOf, tarOf } from "../builders/layer.ts";
import { temporaryDirectory } from "../builders/temporary-directory.ts";
import { startImageRegistry } from "../servers/image-registry.ts";
import { createRelayBench } from "./relay-bench.ts";

/** What skopeo, podman and buildah get by the mirror at the relay: `npm run test:podman`, as root, where they are installed. */
const isWanted = process.env["FIRERUNNER_PODMAN"] === "1";
const exec = promisify(execFile);

const image = imageOf([
  tarOf([{ path: "a", content: Buffer.alloc(3_000_000, "a") }]),
  tarOf([{ path: "b", content: "b" }]),
]);
const login = { username: "me", password: "right" };

async function start(
  path: string,
  options: { login?: typeof login; variables?: Record<string, string> } = {},
) {
  const registry = await startImageRegistry(options.login ? { login } : {});
  registry.put("team/tool", "1", image);
  const images = await openJobImages({
    ...{ directory: join(path, "cache"), sizeBytes: 1_000 * MIB_BYTES, minFreeBytes: 0 },
    registries: new Map([[registry.host, { plaintext: true }]]),
    ...{ proxies: directRoutes, clock: systemClock },
  });
  const bench = await createRelayBench({
    pool: { egress: [registry.host] },
    relay: { mirror: images.mirror },
  });
  const variables =
    options.variables === undefined
      ? {}
      : { DOCKER_AUTH_CONFIG: JSON.stringify({ auths: { [registry.host]: { auth: btoa("me:right") } } }) };
  const machine = await bench.machine({ variables });
  await machine.handOver();
  const mirror = `${new URL(machine.url).host}/${registry.host.replace(":", "__")}`;
  const file = join(path, "registries.conf");
  await writeFile(
    file,
    `[[registry]]\nlocation = "${registry.host}"\ninsecure = true\n[[registry.mirror]]\nlocation = "${mirror}"\ninsecure = true\n`,
  );
  await writeFile(join(path, "policy.json"), '{"default":[{"type":"insecureAcceptAnything"}]}');
  const run = async (program: string, ...args: string[]) => {
    const env = { ...process.env, CONTAINERS_REGISTRIES_CONF: file };
    const { stdout } = await exec(program, args, { encoding: "utf8", timeout: 120_000, env });
    return stdout;
  };
  const storage = ["--root", join(path, "root"), "--runroot", join(path, "run"), "--storage-driver", "vfs"];
  return {
    ...{ registry, mirror, run, storage },
    async [Symbol.asyncDispose]() {
      await bench.close();
      await images.close();
      await registry[Symbol.asyncDispose]();
    },
  };
}

const digestIn = async (path: string) =>
  (JSON.parse(await readFile(join(path, "manifest.json"), "utf8")) as { config: { digest: string } }).config
    .digest;

describe.skipIf(!isWanted)("by the mirror", () => {
  test("podman and buildah pull, and ask nobody else", async () => {
    await using place = await temporaryDirectory();
    await using world = await start(place.path);
    const { registry, run, storage } = world;

    const id = await run("podman", ...storage, "pull", "-q", `${registry.host}/team/tool:1`);
    const built = await run("buildah", ...storage, "from", "--pull-always", `${registry.host}/team/tool:1`);

    expect(id.trim()).toBe(image.config.digest.slice(7));
    expect(built).toContain("working-container");
    expect(new Set(registry.server.seen.map(({ headers }) => headers["user-agent"]))).toEqual(
      new Set(["firerunner"]),
    );
    for (const { digest } of image.layers)
      expect(registry.asked().filter((line) => line === `GET blobs/${digest}`)).toHaveLength(1);
  });

  test("skopeo reads a private image with its own login, and with the job's where it has none", async () => {
    await using place = await temporaryDirectory();
    await using world = await start(place.path, { login });
    const from = ["--src-tls-verify=false"];
    const source = `docker://${world.mirror}/team/tool:1`;
    const to = (name: string) => `dir:${join(place.path, name)}`;

    await world.run("skopeo", "copy", "-q", ...from, "--src-creds", "me:right", source, to("own"));
    const denied = await world
      .run("skopeo", "copy", "-q", ...from, source, to("none"))
      .catch((error: Error) => error.message);
    expect(await digestIn(join(place.path, "own"))).toBe(image.config.digest);
    expect(denied).toMatch(/unauthorized|denied/i);

    await using jobs = await temporaryDirectory();
    await using withLogin = await start(jobs.path, { login, variables: {} });
    const path = join(jobs.path, "job");
    await withLogin.run(
      ...["skopeo", "copy", "-q", ...from, `docker://${withLogin.mirror}/team/tool:1`, `dir:${path}`],
    );
    expect(await digestIn(path)).toBe(image.config.digest);
  });
});
