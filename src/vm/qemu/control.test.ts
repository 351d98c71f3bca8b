import { spawn } from "node:child_process";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import { expect, test } from "vitest";
import { temporaryDirectory } from "../../../test/builders/temporary-directory.ts";
import { systemClock } from "../../base/clock.ts";
import type { Exit, ExitKind } from "../driver.ts";
import { startTicksOf } from "../local/processes.ts";
import { watchMachine } from "../local/running-machines.ts";
import { connectControl } from "./control.ts";

const WAIT = { timeout: 20_000, interval: 10 };

/** A process that stands for the hypervisor, and a monitor that says what a test lets it say. */
async function aHypervisor(path: string, status: () => string) {
  const child = spawn("sleep", ["600"], { stdio: "ignore" });
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket.on("error", () => {}));
    socket.write(`{"QMP": {}}\n`);
    socket.setEncoding("utf8").on("data", (text: string) => {
      for (const line of text.trim().split("\n")) {
        const { execute, id } = JSON.parse(line) as { execute: string; id: number };
        const answer = execute === "query-status" ? { status: status() } : {};
        socket.write(`${JSON.stringify({ return: answer, id })}\n`);
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  const pid = child.pid ?? 0;
  return {
    process: { pid, startTicks: (await startTicksOf(pid)) ?? 0 },
    sockets,
    say: (event: string, data: object = {}) =>
      sockets.forEach((socket) => void socket.write(`${JSON.stringify({ event, data })}\n`)),
    end: () => child.kill("SIGKILL"),
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

test("a machine that stands still, or whose disk errs, is told of while its process runs on", async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, "qmp.sock");
  let [status, questions] = ["running", 0];
  await using hypervisor = await aHypervisor(path, () => {
    questions++;
    return status;
  });
  const faults: Exit[] = [];
  const ends: ExitKind[] = [];
  const watch = watchMachine({
    ...{ process: hypervisor.process, clock: systemClock },
    connect: (signal) => connectControl(path, signal),
    onFault: (fault) => void faults.push(fault),
    onEnd: async (exit) => void ends.push(exit),
  });
  await expect.poll(() => questions, WAIT).toBe(1);

  hypervisor.say("BLOCK_IO_ERROR", { operation: "write", action: "report", nospace: true });
  await expect.poll(() => faults.map(({ exit }) => exit), WAIT).toEqual(["host-disk"]);
  status = "internal-error";
  hypervisor.say("STOP");
  await expect.poll(() => faults.map(({ exit }) => exit), WAIT).toEqual(["host-disk", "crash"]);

  expect(ends).toEqual([]);
  hypervisor.end();
  for (const socket of hypervisor.sockets) socket.destroy();
  await watch.ended;
  expect(ends).toEqual(["killed"]);
});

test("a machine that stood still before anybody looked is told of at the first look", async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, "qmp.sock");
  await using hypervisor = await aHypervisor(path, () => "io-error");
  const faults: Exit[] = [];
  const watch = watchMachine({
    ...{ process: hypervisor.process, clock: systemClock },
    connect: (signal) => connectControl(path, signal),
    onFault: (fault) => void faults.push(fault),
    onEnd: async () => {},
  });

  await expect.poll(() => faults, WAIT).toMatchObject([{ exit: "host-disk" }]);
  watch.stop();
});
