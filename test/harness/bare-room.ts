import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { run } from "../../src/base/process.ts";
import type { BootImage } from "../../src/domain/images.ts";

/** What a machine is made of, without the machine: the image's own init with all that it starts, natively, in namespaces. Only for root. */
interface BareRoom extends AsyncDisposable {
  /** Returns the moment, of `performance.now()`, at which it was started. */
  start(): number;
  /** Resolves when nothing runs in it any more. */
  readonly ended: Promise<void>;
  console(): Promise<string>;
}

interface Options {
  readonly machineId: string;
  /** Of the relay that it asks for its boot data and all else; it must listen before the start. */
  readonly relaySocket: string;
  readonly imageDisks?: readonly string[];
}

const NAMESPACES = ["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--fork", "--kill-child"];

export async function createBareRoom(image: BootImage, options: Options): Promise<BareRoom> {
  const directory = await mkdtemp(join(tmpdir(), "fr-room-"));
  const files = [...image.layers, ...(options.imageDisks ?? [])];
  const devices: string[] = [];
  for (const file of files) devices.push((await run("losetup", ["-rf", "--show", file])).trim());
  const layers = image.layers.length;
  const words = `fr.machine=${options.machineId} fr.relay=10.0.2.100:80 fr.layers=${layers}\n`;
  await writeFile(join(directory, "command-line"), words);
  await writeFile(join(directory, "console"), "");
  const ended = Promise.withResolvers<void>();
  const script = join(import.meta.dirname, "bare-room.sh");
  let isRunning = false;
  let output = "";
  let end = () => {};

  return {
    start() {
      const at = performance.now();
      const args = [...NAMESPACES, script, directory, options.relaySocket, String(layers), ...devices];
      const child = spawn("unshare", args, { stdio: ["ignore", "pipe", "pipe"] });
      for (const stream of [child.stdout, child.stderr])
        stream.setEncoding("utf8").on("data", (text: string) => {
          output += text;
        });
      child.once("error", ended.reject);
      child.once("exit", () => ended.resolve());
      isRunning = true;
      end = () => void child.kill("SIGKILL");
      return at;
    },
    ended: ended.promise,
    console: async () => output + (await readFile(join(directory, "console"), "utf8").catch(() => "")),
    async [Symbol.asyncDispose]() {
      end();
      if (isRunning) await ended.promise;
      for (const device of devices) await run("losetup", ["-d", device]);
      await rm(directory, { recursive: true, force: true, maxRetries: 3 });
    },
  };
}
