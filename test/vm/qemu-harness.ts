import { chmod, mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { z } from "zod";
import { systemClock } from "../../src/base/clock.ts";
import { silentLog } from "../../src/base/log.ts";
import type { BootImage } from "../../src/domain/images.ts";
import { VmConfig } from "../../src/vm/config.ts";
import type { VmDriverHarness } from "../../src/vm/driver.contract.ts";
import type { VmDriver } from "../../src/vm/driver.ts";
import { hostProcesses, isAlive, killProcess } from "../../src/vm/local/processes.ts";
import { createQemuDriver } from "../../src/vm/qemu/driver.ts";

export interface QemuHarness extends VmDriverHarness {
  readonly stateDirectory: string;
  /** Listens where the guest expects the relay; each of its connections is answered with the next command. */
  command(id: string, text: string): Promise<void>;
  processes(id: string): ReturnType<typeof hostProcesses>;
}

/** Real machines, emulated or not, whose guest does what its relay socket tells it (tiny-image.ts). */
export async function createQemuHarness(
  image: BootImage,
  qemu: NonNullable<z.input<typeof VmConfig>["qemu"]> = { accelerator: "tcg" },
): Promise<QemuHarness> {
  const stateDirectory = await mkdtemp(join(tmpdir(), "fr-qemu-"));
  const machines = join(stateDirectory, "machines");
  const settings = VmConfig.parse({ qemu });
  const relays = new Map<string, { server: Server; commands: string[]; waiting: Socket[] }>();

  const open = (): VmDriver =>
    createQemuDriver({ stateDirectory, settings, clock: systemClock, log: silentLog });
  const names = open();

  const processes = async (id: string) =>
    (await hostProcesses(() => true)).filter((each) => each.machine === join(machines, id));

  async function relayOf(id: string) {
    const known = relays.get(id);
    if (known) return known;
    const relay = { server: createServer(), commands: [] as string[], waiting: [] as Socket[] };
    relays.set(id, relay);
    relay.server.on("connection", (socket) => {
      socket.on("error", () => {});
      const next = relay.commands.shift();
      if (next === undefined) relay.waiting.push(socket);
      else socket.end(`${next}\n`);
    });
    const path = names.relaySocket(id);
    if (path === undefined) throw new Error("a machine of this computer has a relay socket");
    await mkdir(dirname(path), { recursive: true });
    await new Promise<void>((resolve, reject) => relay.server.on("error", reject).listen(path, resolve));
    await chmod(path, 0o666);
    return relay;
  }

  async function command(id: string, text: string): Promise<void> {
    const relay = await relayOf(id);
    const socket = relay.waiting.shift();
    if (socket) socket.end(`${text}\n`);
    else relay.commands.push(text);
  }

  async function guestUp(id: string): Promise<void> {
    const deadline = Date.now() + 60_000;
    await relayOf(id);
    while (!(await names.console(id, 10_000)).includes("tiny: up")) {
      if (Date.now() > deadline)
        throw new Error(`the guest did not come up: ${await names.console(id, 2_000)}`);
      await systemClock.sleep(50);
    }
  }

  return {
    image,
    stateDirectory,
    open,
    command,
    processes,
    guestUp,
    guestPrints: (id, text) => command(id, `echo ${text}`),
    guestEnds: (id, how) => command(id, how === "orderly" ? "$b poweroff -f" : "exit 1"),
    async kill(id) {
      const all = await processes(id);
      const hypervisor = all.find((each) => each.args.includes("-kernel"));
      if (!hypervisor) throw new Error(`no hypervisor of ${id}`);
      await killProcess(hypervisor);
      while (await isAlive(hypervisor)) await systemClock.sleep(5);
    },
    async leaveHalfMade(id) {
      const directory = join(machines, id);
      await mkdir(join(directory, "run"), { recursive: true });
      await writeFile(join(directory, "scratch.img"), "half a disk");
      await writeFile(join(directory, "run", "pid"), "1\n");
    },
    runningCount: async (id) => (await processes(id)).filter((each) => each.args.includes("-kernel")).length,
    async leftovers(id) {
      const files = await readdir(join(machines, id)).catch((): string[] => []);
      const directory = (await readdir(machines)).filter((name) => name === id);
      return [...directory, ...files, ...(await processes(id)).map((each) => each.args.join(" "))];
    },
    async dispose() {
      await names.close();
      for (const { server, waiting } of relays.values()) {
        for (const socket of waiting) socket.destroy();
        server.close();
      }
      const last = open();
      for (const { id } of await last.list(AbortSignal.timeout(10_000)))
        await last.destroy(id, AbortSignal.timeout(30_000));
      await last.close();
      await rm(stateDirectory, { recursive: true, force: true });
    },
  };
}
