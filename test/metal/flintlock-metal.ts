import { mkdtemp, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { run } from "../../src/base/process.ts";
import { hostLayer, hostSystem } from "./disks.ts";
import { startMetal } from "./machine.ts";

/** An emulated host of a fleet, and the image in its registry. */
export interface Fleet extends AsyncDisposable {
  /** Of its flintlockd. */
  readonly address: string;
  /** References by which its containerd pulls the image. */
  readonly image: { readonly kernel: string; readonly root: string };
  /** Where the same image lies here, with what is known of its publication. */
  readonly images: string;
  onHost(command: string): Promise<string>;
}

/** On 127.0.0.1. */
export const flintlockPorts = { daemon: 19_090, registry: 15_000, relay: 18_443 } as const;

const START_MS = 120_000;
const packages = [
  "containerd",
  "curl",
  "dmsetup",
  "docker-registry",
  "e2fsprogs",
  "iproute2",
  "nftables",
  "procps",
  "thin-provisioning-tools",
];

export async function startFlintlockMetal(programs: readonly string[]): Promise<Fleet> {
  const system = await hostSystem("metal-flintlock", packages);
  const { daemon, registry, relay } = flintlockPorts;
  const metal = await startMetal({
    ...system,
    layers: [...system.layers.slice(0, 1), await hostLayer(programs)],
    forward: [
      { from: daemon, to: 9_090 },
      { from: registry, to: 5_000 },
    ],
    reach: [relay],
    cpus: 2,
  });
  const images = await mkdtemp("/tmp/fr-fleet-images-");

  async function onHost(command: string): Promise<string> {
    const { status, output } = await metal.run(command, { silenceMs: START_MS });
    if (status !== 0) throw new Error(`on the emulated host: ${command}: status ${status}: ${output}`);
    return output;
  }

  async function dispose(): Promise<void> {
    await metal[Symbol.asyncDispose]();
    await rm(images, { recursive: true, force: true });
  }

  try {
    await onHost(await readFile(join(import.meta.dirname, "flintlock-host"), "utf8"));
    const image = await publish(images);
    return { address: `127.0.0.1:${daemon}`, image, images, onHost, [Symbol.asyncDispose]: dispose };
  } catch (error) {
    await dispose();
    throw error;
  }
}

/** In a directory of its own: nobody else is to take this registry for one that stays. */
async function publish(images: string): Promise<Fleet["image"]> {
  const main = join(import.meta.dirname, "../../src/main.ts");
  const firerunner = (...args: string[]) =>
    run(process.execPath, [main, "image", ...args, "--directory", images], { onStderrLine: console.error });
  await firerunner("build", "--runner", "stand-in");
  const target = `127.0.0.1:${flintlockPorts.registry}/fleet/base`;
  const pushed = await firerunner("push", target, "--pull-from", "localhost:5000", "--json");
  return (JSON.parse(pushed) as { published: Fleet["image"] }).published;
}
