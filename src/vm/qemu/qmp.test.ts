import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { connectQmp, type QmpEvent } from "./control.ts";

const GREETING = `{"QMP": {"version": {}, "capabilities": []}}\r\n`;

describe("the QMP client", () => {
  let directory: string;
  let path: string;
  let server: Server | undefined;
  const sockets: Socket[] = [];

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "fr-qmp-"));
    path = join(directory, "qmp.sock");
  });

  afterEach(async () => {
    for (const socket of sockets.splice(0)) socket.destroy();
    server?.close();
    server = undefined;
    await rm(directory, { recursive: true });
  });

  /** A hypervisor that greets and then answers each command with what `answer` returns. */
  async function serve(answer: (command: string, id: number) => string, greeting = GREETING): Promise<void> {
    server = createServer((socket) => {
      sockets.push(socket.on("error", () => {}));
      socket.write(greeting);
      socket.setEncoding("utf8").on("data", (text: string) => {
        for (const line of text.trim().split("\n")) {
          const { execute, id } = JSON.parse(line) as { execute: string; id: number };
          socket.write(answer(execute, id));
        }
      });
    });
    await new Promise<void>((resolve) => server?.listen(path, resolve));
  }

  const agree = (_: string, id: number) => `{"return": {}, "id": ${id}}\r\n`;
  const soon = () => AbortSignal.timeout(5_000);

  test("shakes hands and matches answers to commands by id", async () => {
    const commands: string[] = [];
    let held = "";
    await serve((command, id) => {
      commands.push(command);
      if (command !== "first") return `${agree(command, id).replace("{}", `"${command}"`)}${held}`;
      held = `{"return": "late", "id": ${id}}\r\n`;
      return "";
    });
    const client = await connectQmp(path, soon());

    const answers = await Promise.all([client.execute("first"), client.execute("second")]);

    client.close();
    expect(commands).toEqual(["qmp_capabilities", "first", "second"]);
    expect(answers).toEqual(["late", "second"]);
  });

  test("tells events, also those that come in pieces", async () => {
    await serve(agree);
    const client = await connectQmp(path, soon());
    const events: QmpEvent[] = [];
    client.onEvent((event) => events.push(event));

    sockets[0]?.write(`{"event": "STOP"}\r\n{"event": "SHUTDOWN", "data": {"guest": true, `);
    await new Promise((resolve) => setTimeout(resolve, 20));
    sockets[0]?.write(`"reason": "guest-reset"}}\r\n`);

    await expect.poll(() => events.length).toBe(2);
    client.close();
    expect(events).toEqual([
      { event: "STOP", data: {} },
      { event: "SHUTDOWN", data: { guest: true, reason: "guest-reset" } },
    ]);
  });

  test("rejects a refused command with the reason", async () => {
    await serve((command, id) =>
      command === "nonsense" ? `{"error": {"desc": "no such command"}, "id": ${id}}\n` : agree(command, id),
    );
    const client = await connectQmp(path, soon());

    await expect(client.execute("nonsense")).rejects.toThrow("no such command");
    client.close();
  });

  test("a closing connection is told, and ends what waits", async () => {
    await serve((command, id) => (command === "wait" ? "" : agree(command, id)));
    const client = await connectQmp(path, soon());
    const waiting = client.execute("wait").catch((error: Error) => error.message);

    sockets[0]?.destroy();
    await client.closed;

    expect(await waiting).toMatch(/closed|reset/i);
    await expect(client.execute("more")).rejects.toThrow();
  });

  test("gives up on somebody who does not greet, or is not there", async () => {
    await serve(agree, "");
    const failure = { code: "vm_create_failed", retryable: true };

    await expect(connectQmp(path, AbortSignal.timeout(50))).rejects.toMatchObject(failure);
    await expect(connectQmp(join(directory, "none"), soon())).rejects.toMatchObject(failure);
    await expect(connectQmp(path, AbortSignal.abort())).rejects.toThrow();
  });

  test("drops a hypervisor that sends what is not its protocol, or never ends a line", async () => {
    await serve(agree);
    const talker = await connectQmp(path, soon());
    sockets[0]?.write("hello?\n");
    await talker.closed;

    const flooder = await connectQmp(path, soon());
    sockets[1]?.write("x".repeat(2 * 1024 ** 2));
    await flooder.closed;
  });
});
