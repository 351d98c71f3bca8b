import { createHash } from "node:crypto";
import { gzipSync } from "node:zlib";

/** An entry of a layer, as strange as a test wants it. */
export interface LayerEntry {
  readonly path: string;
  /** A letter of tar's: 0 file, 1 hard link, 2 symbolic link, 3 device, 5 directory, 6 pipe. */
  readonly type?: string;
  readonly content?: string | Buffer;
  readonly target?: string;
  readonly mode?: number;
  readonly uid?: number;
  readonly mtimeS?: number;
  /** Records of a pax header before it. */
  readonly pax?: Readonly<Record<string, string>>;
  /** Said to be its size, whatever there is. */
  readonly bytes?: number;
}

export function tarOf(entries: readonly LayerEntry[], { isEnded = true } = {}): Buffer {
  return Buffer.concat([...entries.map(entryBytes), ...(isEnded ? [Buffer.alloc(1024)] : [])]);
}

function entryBytes(entry: LayerEntry): Buffer {
  const content = Buffer.from(entry.content ?? "");
  const own = header({ ...entry, bytes: entry.bytes ?? content.length });
  const filled = Buffer.concat([content, Buffer.alloc(-content.length & 511)]);
  if (entry.pax === undefined) return Buffer.concat([own, filled]);
  const body = Buffer.concat(Object.entries(entry.pax).map(([key, value]) => record(key, value)));
  const pax = header({ path: "pax", type: "x", bytes: body.length });
  return Buffer.concat([pax, body, Buffer.alloc(-body.length & 511), own, filled]);
}

function record(key: string, value: string): Buffer {
  const rest = Buffer.from(` ${key}=${value}\n`, "latin1");
  let length = rest.length + 1;
  while (`${length}`.length + rest.length !== length) length = `${length}`.length + rest.length;
  return Buffer.concat([Buffer.from(`${length}`), rest]);
}

function header({
  path,
  type = "0",
  target = "",
  mode = 0o644,
  uid = 0,
  mtimeS = 0,
  bytes = 0,
}: LayerEntry): Buffer {
  const block = Buffer.alloc(512);
  block.write(path.slice(0, 100), 0, "latin1");
  const octal = (value: number, at: number, length: number) =>
    block.write(`${value.toString(8).padStart(length - 1, "0")}\0`, at, "latin1");
  octal(mode, 100, 8);
  octal(uid, 108, 8);
  octal(0, 116, 8);
  octal(bytes, 124, 12);
  octal(mtimeS, 136, 12);
  block.write(type, 156, "latin1");
  block.write(target.slice(0, 100), 157, "latin1");
  block.write("ustar\u000000", 257, "latin1");
  block.fill(" ", 148, 156);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return block;
}

export function sha256Of(bytes: Buffer | string): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

export interface TestImage {
  readonly manifest: { readonly digest: string; readonly body: Buffer };
  readonly config: { readonly digest: string; readonly body: Buffer };
  readonly layers: readonly { readonly digest: string; readonly blob: Buffer; readonly diffId: string }[];
}

/** An image of these layers, each an archive; `pack` compresses them, `settings` are what its containers have without another word. */
export function imageOf(
  archives: readonly Buffer[],
  {
    architecture = process.arch === "arm64" ? "arm64" : "amd64",
    pack = (archive: Buffer): Buffer => gzipSync(archive),
    settings = {} as Readonly<Record<string, unknown>>,
  } = {},
): TestImage {
  const layers = archives.map((archive) => {
    const blob = pack(archive);
    return { digest: sha256Of(blob), blob, diffId: sha256Of(archive) };
  });
  const config = document({
    architecture,
    os: "linux",
    created: "2024-01-02T03:04:05Z",
    config: { Cmd: ["/bin/sh"], ...settings },
    rootfs: { type: "layers", diff_ids: layers.map(({ diffId }) => diffId) },
  });
  const manifest = document({
    schemaVersion: 2,
    mediaType: "application/vnd.oci.image.manifest.v1+json",
    config: {
      mediaType: "application/vnd.oci.image.config.v1+json",
      digest: config.digest,
      size: config.body.length,
    },
    layers: layers.map(({ digest, blob }) => ({
      mediaType: "application/vnd.oci.image.layer.v1.tar+gzip",
      digest,
      size: blob.length,
    })),
  });
  return { manifest, config, layers };
}

function document(content: object): { digest: string; body: Buffer } {
  const body = Buffer.from(JSON.stringify(content));
  return { digest: sha256Of(body), body };
}
