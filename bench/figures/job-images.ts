import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createGunzip } from "node:zlib";
import { run } from "../../src/base/process.ts";
import { MIB_BYTES } from "../../src/base/units.ts";
import { usualLimits, writeStore } from "../../src/containers/compose/compose.ts";
import { type BenchContext, compare, type Figure } from "../core/figure.ts";
import { summarize } from "../core/statistics.ts";

/** Directories of this computer with files as images have them: programs, and many small files. */
const DIRECTORIES = ["usr/bin", "usr/include", "usr/lib/python3"];

export const jobImages: Figure = {
  name: "job-images",
  title: "Composing the disk of a job's image",
  about:
    "Layers of this computer's own /usr/bin, /usr/include and /usr/lib/python3, packed by gzip, go through all of the composing but the squashfs program: unpacked, hashed, checked, described for podman, and written on. The bytes of the archives over the processor time of the process, of all its threads. Beside it the unpacking alone, which is most of the work and cannot be left out.",
  machines: false,
  limitMs: 240_000,
  async measure(context) {
    const layers = await makeLayers(context);
    const archiveBytes = layers.reduce((sum, { archiveBytes: bytes }) => sum + bytes, 0);
    const document = { digest: `sha256:${"0".repeat(64)}`, body: Buffer.from("{}") };
    const image = { names: ["bench"], manifest: document, config: document, layers };
    const rates = { composed: [] as number[], unpacked: [] as number[] };
    const spool = `${layers[0]?.path}.spool`;
    for (let turn = 0; turn < (context.quick ? 1 : 7); turn++) {
      context.progress(`composing ${Math.round(archiveBytes / MIB_BYTES)} MiB`);
      const ways = {
        composed: () => writeStore({ ...image, limits: usualLimits, spool }, async () => {}),
        unpacked: () => unpackAll(layers.map(({ path }) => path)),
      };
      for (const way of ["composed", "unpacked"] as const) {
        const before = process.cpuUsage();
        await ways[way]();
        const { user, system } = process.cpuUsage(before);
        rates[way].push(archiveBytes / MIB_BYTES / ((user + system) / 1e6));
      }
    }
    const promised = { of: "ratio", bound: "at least", value: 0.35 } as const;
    const row = {
      what: "layers composed by one core",
      unit: "MiB/s",
      measured: summarize(rates.composed),
      promised,
    } as const;
    return [compare(row, "unpacked only", summarize(rates.unpacked))];
  },
};

async function unpackAll(paths: readonly string[]): Promise<void> {
  for (const path of paths)
    for await (const _ of createReadStream(path).pipe(createGunzip({ chunkSize: 128 * 1024 })));
}

async function makeLayers(context: BenchContext) {
  const directory = await mkdtemp(join(tmpdir(), "fr-bench-"));
  context.defer(() => rm(directory, { recursive: true, force: true }));
  const layers = [];
  for (const [number, source] of DIRECTORIES.slice(context.quick ? 2 : 0).entries()) {
    context.progress(`packing /${source}`);
    const path = join(directory, String(number));
    await run("tar", ["-C", "/", "-cf", path, source]);
    const archive = await readFile(path);
    await run("gzip", ["-f", path]);
    const blob = await readFile(`${path}.gz`);
    await writeFile(path, blob);
    const digest = (bytes: Buffer) => `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
    const ids = { digest: digest(blob), diffId: digest(archive) };
    layers.push({ path, bytes: blob.length, ...ids, archiveBytes: archive.length });
  }
  return layers;
}
