import { randomBytes } from "node:crypto";
import { mkdir, readdir, readFile, rename, writeFile } from "node:fs/promises";
import { connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { inspect } from "node:util";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { systemClock } from "../../src/base/clock.ts";
import { sha256, shortDigest } from "../../src/image/manifest.ts";
import { type PushOptions, pushImage } from "../../src/image/push.ts";
import { createImageStore } from "../../src/image/store.ts";
import { parsePushTarget } from "../../src/registry/reference.ts";
import { storeImage, upperEntries } from "../builders/stored-image.ts";
import { temporaryDirectory } from "../builders/temporary-directory.ts";
import { pullImage, tarWithLayer } from "../harness/pulled-image.ts";
import { makeCertificateAuthority } from "../servers/certificates.ts";
import {
  REGISTRY_PASSWORD,
  REGISTRY_USER,
  type RegistryOptions,
  startDockerRegistry,
} from "../servers/docker-registry.ts";

const kernel = randomBytes(300_000);
const open: AsyncDisposable[] = [];
let directory: string;
beforeEach(async () => {
  const temporary = await temporaryDirectory();
  open.push(temporary);
  directory = temporary.path;
});
afterEach(async () => {
  for (const each of open.splice(0).reverse()) await each[Symbol.asyncDispose]();
});

async function registry(options?: RegistryOptions) {
  const started = await startDockerRegistry(options);
  open.push(started);
  return started;
}

const push = (target: string, options: Partial<PushOptions> = {}) =>
  pushImage(
    {
      directory: join(directory, "images"),
      image: "base",
      target: parsePushTarget(target),
      dockerConfig: join(directory, "config.json"),
      clock: systemClock,
      ...options,
    },
    () => {},
  );
const store = () => createImageStore({ directory: join(directory, "images") });
const image = (name = "base", content = {}) =>
  storeImage(join(directory, "images"), name, { kernel, ...content });
const logIn = (host: string, password: string) =>
  writeFile(
    join(directory, "config.json"),
    JSON.stringify({ auths: { [host]: { auth: btoa(`${REGISTRY_USER}:${password}`) } } }),
  );
const writes = (requests: readonly string[]) => requests.filter((line) => !/^(GET|HEAD) /.test(line));

describe("a pushed image", () => {
  test("is pulled by another program as it was: kernel, files, owners, devices, what is hidden", async () => {
    const manifest = await image();
    const { port } = await registry();

    const { published, tags } = await push(`localhost:${port}/lab/fr:v1`);

    expect(tags).toEqual([shortDigest(manifest.digest), "v1"]);
    const pulled = await pullImage(published.kernel, join(directory, "kernel"));
    expect(pulled.config).toMatchObject({ architecture: "amd64", os: "linux" });
    await mkdir(join(directory, "boot"));
    await tarWithLayer(pulled.layers[0]!, ["-C", directory, "--no-same-owner", "-x"]);
    expect(sha256(await readFileOf("boot/vmlinux"))).toBe(sha256(kernel));
    expect(String(await readFileOf("boot/initrd.img"))).toBe("initramfs");
    const root = await pullImage(`localhost:${port}/lab/fr/root:v1`, join(directory, "root"));
    expect(root.layers).toHaveLength(2);
    const [base, upper] = await Promise.all(
      root.layers.map((layer) => tarWithLayer(layer, ["-tv", "--xattrs"])),
    );
    const words = (line: string) =>
      line
        .trim()
        .replace(/ +/g, " ")
        .replace(/ \d{4}-\d\d-\d\d \d\d:\d\d/, "");
    expect(base?.trim().split("\n").map(words)).toEqual([
      "drwxr-xr-x 0/0 0 ./",
      "lrwxrwxrwx 0/0 0 ./bin -> usr/bin",
      "drwxr-xr-x 0/0 0 ./dev/",
      "crw-rw-rw- 0/0 1,3 ./dev/null",
      "drwxr-xr-x 0/0 0 ./etc/",
      "-rw-r--r-- 0/0 11 ./etc/removed",
      "drwx------ 1000/100 0 ./home/",
      "-rw-------* 1000/100 4 ./home/note",
      "drwxr-xr-x 0/0 0 ./usr/",
      "drwxr-xr-x 0/0 0 ./usr/bin/",
      "-rwsr-xr-x 0/0 11 ./usr/bin/su",
      "hrwsr-xr-x 0/0 0 ./usr/bin/su-too link to ./usr/bin/su",
    ]);
    expect(upper?.trim().split("\n").map(words)).toEqual([
      "drwxr-xr-x 0/0 0 ./",
      "drwxr-xr-x 0/0 0 ./builds/",
      "drwxr-xr-x 0/0 0 ./etc/",
      "-rw-r--r-- 0/0 0 ./etc/.wh.removed",
      "-rwxr-xr-x 0/0 4 ./sbin-init",
    ]);
  });

  test("is known to the store until it is built anew", async () => {
    await image();
    const { port } = await registry();

    const { published } = await push(`localhost:${port}/fr`, { pullFrom: "registry.example.org:5000" });

    expect(published.root).toMatch(/^registry\.example\.org:5000\/fr\/root@sha256:[0-9a-f]{64}$/);
    expect((await store().resolve("base")).published).toEqual({
      ...published,
      ...{ registry: `localhost:${port}`, pushed: {} },
    });
    expect((await store().find("base"))?.publications).toMatchObject([
      { registry: `localhost:${port}`, name: "fr" },
    ]);
    await image("base", { upper: [...upperEntries, { path: "./new", content: "new" }] });
    expect((await store().resolve("base")).published).toBeUndefined();
  });

  test("is not sent again, and neither is a layer that another image has", async () => {
    await image();
    await image("other", { upper: [...upperEntries, { path: "./new", content: "new" }] });
    const { port, requests } = await registry();
    await push(`localhost:${port}/fr`);
    const packed = await readdir(
      join(directory, "images", shortDigest((await store().resolve("base")).digest)),
    );

    const before = requests.length;
    expect(await push(`localhost:${port}/fr`)).toMatchObject({ sent: { blobs: 0, bytes: 0 } });
    expect(writes(requests.slice(before))).toEqual([]);
    const other = await push(`localhost:${port}/elsewhere`, { image: "other" });

    // The upper layer and the configuration that names it; the kernel's and the base layer are taken over.
    expect(other.sent.blobs).toBe(3);
    expect(other.sent.bytes).toBeLessThan(2_000);
    expect(requests.filter((line) => line.includes("mount=") && line.endsWith(" 201"))).toHaveLength(2);
    expect(packed).not.toContain("oci");
  });

  test("has the same digests wherever it is made", async () => {
    await image();
    const first = await push(`localhost:${(await registry()).port}/fr`, { pullFrom: "localhost" });
    await rename(join(directory, "images"), join(directory, "images-before"));
    await image();

    const second = await push(`localhost:${(await registry()).port}/fr`, { pullFrom: "localhost" });

    expect(second.published).toEqual(first.published);
    expect(second.sent).toEqual(first.sent);
  });
});

describe("a push that is interrupted", () => {
  /** A way to the registry that is cut once, after so many bytes have gone through. */
  async function cutAfter(bytes: number, port: number): Promise<number> {
    let left = bytes;
    const sockets = new Set<Socket>();
    const server = createServer((incoming) => {
      const outgoing = connect(port, "127.0.0.1");
      for (const socket of [incoming, outgoing]) {
        sockets.add(socket);
        socket.on("error", () => {});
        socket.on("close", () => [incoming, outgoing].map((each) => each.destroy()));
      }
      incoming.on("data", (chunk) => {
        const isCut = left > 0 && chunk.length >= left;
        left -= chunk.length;
        if (isCut) incoming.destroy();
      });
      incoming.pipe(outgoing).pipe(incoming);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    open.push({
      async [Symbol.asyncDispose]() {
        for (const socket of sockets) socket.destroy();
        await new Promise((resolve) => server.close(resolve));
      },
    });
    return (server.address() as { port: number }).port;
  }

  test("by a broken connection goes on by itself", async () => {
    await image();
    const { port, requests } = await registry();
    const throughCut = await cutAfter(200_000, port);

    const { published } = await push(`127.0.0.1:${throughCut}/fr`, {
      chunkBytes: 64 * 1024,
      pullFrom: `localhost:${port}`,
    });

    expect(requests.filter((line) => line.startsWith("PATCH ")).length).toBeGreaterThanOrEqual(5);
    await pullImage(published.kernel, join(directory, "kernel"));
  });

  test("by the user is taken up by the next one", async () => {
    await image();
    const { port, requests } = await registry();
    const control = new AbortController();
    const reason = new Error("left");
    const first = pushImage(
      {
        directory: join(directory, "images"),
        image: "base",
        target: parsePushTarget(`localhost:${port}/fr`),
        dockerConfig: join(directory, "config.json"),
        clock: systemClock,
        signal: control.signal,
      },
      ({ phase, line }) => {
        if (phase === "push" && line?.startsWith("fr/root")) control.abort(reason);
      },
    );
    await expect(first).rejects.toBe(reason);
    expect((await store().resolve("base")).published).toBeUndefined();
    const before = requests.length;

    const { sent } = await push(`localhost:${port}/fr`);

    expect(sent.present).toBe(2);
    expect(writes(requests.slice(before)).filter((line) => line.includes("/fr/kernel/blobs"))).toEqual([]);
  });
});

describe("a registry with TLS and a password", () => {
  async function guarded() {
    const authority = await makeCertificateAuthority();
    open.push(authority);
    const tls = await authority.issue("localhost");
    const { port } = await registry({ tls, login: true });
    return { host: `localhost:${port}`, ca: authority.ca };
  }

  test("is pushed to with the login of docker", async () => {
    await image();
    const { host, ca } = await guarded();
    await logIn(host, REGISTRY_PASSWORD);

    const { published } = await push(`${host}/fr`, { ca });
    // Whoever asks the registry later needs the authority, too.
    expect((await store().resolve("base")).published?.pushed).toEqual({ ca });

    const options = ["--src-tls-verify=false", "--src-creds", `${REGISTRY_USER}:${REGISTRY_PASSWORD}`];
    expect((await pullImage(published.root, join(directory, "root"), options)).layers).toHaveLength(2);
  });

  test("refuses others, whose error tells no secret and costs no packing", async () => {
    const { digest } = await image();
    const { host, ca } = await guarded();
    await expect(push(`${host}/fr`, { ca })).rejects.toMatchObject({ code: "registry_unauthorized" });
    await logIn(host, "wrong-word");

    const error = await push(`${host}/fr`, { ca }).catch((thrown: unknown) => thrown);

    expect(error).toMatchObject({ code: "registry_unauthorized", hint: expect.stringContaining("log in") });
    expect(inspect(error, { depth: 9 })).not.toMatch(
      new RegExp(`wrong-word|${btoa(`${REGISTRY_USER}:wrong-word`)}`),
    );
    expect(await readdir(join(directory, "images", shortDigest(digest)))).not.toContain("oci");
  });

  test("and one without are not mistaken for each other", async () => {
    await image();
    const { host } = await guarded();
    const plain = `localhost:${(await registry()).port}`;

    const codeOf = (target: string, options: Partial<PushOptions> = {}) =>
      push(target, options).then(
        () => "pushed",
        ({ code, hint }) => [code, /--[a-z][a-z-]+/.exec(hint)?.[0]],
      );

    expect(await codeOf(`${host}/fr`, { plainHttp: false })).toEqual(["registry_tls", "--ca"]);
    expect(await codeOf(`${host}/fr`)).toEqual(["registry_tls", "--plain-http"]);
    expect(await codeOf(`${plain}/fr`, { plainHttp: false })).toEqual(["registry_tls", "--plain-http"]);
    expect(await codeOf(`${host}/fr`, { ca: "no certificate" })).toEqual(["registry_tls", undefined]);
  });
});

test("a registry that is not there is told as such, at once", async () => {
  await image();
  const { port, [Symbol.asyncDispose]: stop } = await startDockerRegistry();
  await stop();

  await expect(push(`localhost:${port}/fr`)).rejects.toMatchObject({
    code: "registry_unreachable",
    message: expect.stringContaining("the connection was refused"),
  });
});

async function readFileOf(path: string): Promise<Buffer> {
  return await readFile(join(directory, path));
}
