/**
 * The container image of the demo's own job, in a registry on loopback, so that nothing from outside is needed: it holds what the machine
 * image's own file system does, as one layer.
 */
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createReadStream, createWriteStream } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { readSquashfsAsTar } from "../image/squashfs.ts";
import { createImageStore } from "../image/store.ts";

export interface SampleImage {
  close(): Promise<void>;
}

interface Content {
  readonly type: string;
  readonly bytes: number;
  readonly digest: string;
  /** What it holds, or the file that does. */
  readonly body: Buffer | string;
}

const REPOSITORY = "demo/debian";

/** As a job names it. `registry`: `127.0.0.1:PORT`. */
export function sampleImageName(registry: string): string {
  return `${registry}/${REPOSITORY}`;
}

const architectures: Readonly<Record<string, string>> = { x64: "amd64" };

/**
 * Serves it on that port of loopback, without TLS. `image`: the name of a machine image in `imagesDirectory`. `directory`: where the layer
 * is kept until it is removed.
 */
export async function serveSampleImage(options: {
  readonly port: number;
  readonly imagesDirectory: string;
  readonly image: string;
  readonly directory: string;
  readonly signal: AbortSignal;
}): Promise<SampleImage> {
  const store = createImageStore({ directory: options.imagesDirectory });
  const { layers } = await store.resolve(options.image);
  const [archive = ""] = layers;
  const layer = await layerOf(archive, join(options.directory, "demo-layer.tar"), options.signal);
  const config = document("application/vnd.oci.image.config.v1+json", {
    architecture: architectures[process.arch] ?? process.arch,
    os: "linux",
    config: {
      Cmd: ["/bin/bash"],
      Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
    },
    rootfs: { type: "layers", diff_ids: [layer.digest] },
  });
  const manifest = document("application/vnd.oci.image.manifest.v1+json", {
    schemaVersion: 2,
    mediaType: "application/vnd.oci.image.manifest.v1+json",
    config: descriptor(config),
    layers: [descriptor(layer)],
  });
  return await serve(options.port, { manifest, config, layer });
}

async function layerOf(archive: string, path: string, signal: AbortSignal): Promise<Content> {
  const hash = createHash("sha256");
  let bytes = 0;
  async function* counted(): AsyncGenerator<Buffer> {
    for await (const chunk of readSquashfsAsTar(archive, signal)) {
      hash.update(chunk);
      bytes += chunk.length;
      yield chunk;
    }
  }
  await pipeline(counted(), createWriteStream(path, { mode: 0o600 }));
  const type = "application/vnd.oci.image.layer.v1.tar";
  return { type, bytes, digest: `sha256:${hash.digest("hex")}`, body: path };
}

function document(type: string, value: unknown): Content {
  const body = Buffer.from(JSON.stringify(value));
  const digest = `sha256:${createHash("sha256").update(body).digest("hex")}`;
  return { type, bytes: body.length, digest, body };
}

function descriptor({ type, bytes, digest }: Content): Record<string, unknown> {
  return { mediaType: type, size: bytes, digest };
}

/** The reading half of the distribution protocol, for one image. */
async function serve(
  port: number,
  {
    manifest,
    config,
    layer,
  }: { readonly manifest: Content; readonly config: Content; readonly layer: Content },
): Promise<SampleImage> {
  const paths = new Map([
    ["manifests/latest", manifest],
    [`manifests/${manifest.digest}`, manifest],
    [`blobs/${config.digest}`, config],
    [`blobs/${layer.digest}`, layer],
  ]);
  const server = createServer((request, response) => answer(paths, request, response));
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  return {
    async close() {
      server.close();
      server.closeAllConnections();
      await once(server, "close");
    },
  };
}

function answer(
  paths: ReadonlyMap<string, Content>,
  { method, url = "" }: IncomingMessage,
  response: ServerResponse,
): void {
  const found = paths.get(url.replace(`/v2/${REPOSITORY}/`, ""));
  if (found === undefined || (method !== "GET" && method !== "HEAD")) {
    response.writeHead(url === "/v2/" ? 200 : 404).end();
    return;
  }
  const { type, bytes, digest, body } = found;
  const head = { "content-type": type, "content-length": bytes, "docker-content-digest": digest };
  response.writeHead(200, head);
  if (method === "HEAD") response.end();
  else if (typeof body === "string")
    createReadStream(body)
      .on("error", () => response.destroy())
      .pipe(response);
  else response.end(body);
}
