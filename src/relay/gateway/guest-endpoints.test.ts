import { existsSync } from "node:fs";
import { mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { silentLog } from "../../base/log.ts";
import { createManualClock } from "../../base/manual-clock.ts";
import { RelaySettings } from "../config.ts";
import { createGuest, type Guest } from "./guest.ts";
import { createGuestEndpoints, type GuestEndpoints } from "./guest-endpoints.ts";

let directory: string;
let endpoints: GuestEndpoints;
let served: string[];
let tooMany: number;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "fr-endpoints-"));
  served = [];
  tooMany = 0;
  endpoints = createGuestEndpoints({
    createGuest: (machineId, isRemote) =>
      createGuest({
        ...{ machineId, isRemote, clock: createManualClock(), log: silentLog },
        settings: RelaySettings.parse({}),
      }),
    serve: (guest: Guest, socket) => {
      served.push(guest.machineId);
      guest.sockets.add(socket);
      socket.on("error", () => {});
      socket.write("hello");
    },
    onTooMany: () => {
      tooMany += 1;
    },
    maxConnections: 2,
  });
});

afterEach(async () => {
  await endpoints.closeAll();
  await rm(directory, { recursive: true, force: true });
});

function greet(path: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once("data", (data) => {
      resolve(data.toString());
    });
    socket.once("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? ""));
    socket.once("close", () => resolve("closed"));
  });
}

describe("endpoints", () => {
  test("open makes a private directory and a socket that another user can connect to", async () => {
    const path = join(directory, "machines", "fr-aaaaaaaa", "relay.sock");
    await endpoints.open("fr-aaaaaaaa", path);

    expect(await greet(path)).toBe("hello");
    expect((await stat(join(directory, "machines", "fr-aaaaaaaa"))).mode & 0o777).toBe(0o700);
    expect((await stat(path)).mode & 0o777).toBe(0o666);
    expect(served).toEqual(["fr-aaaaaaaa"]);
  });

  test("opening again changes nothing; opening elsewhere moves the socket", async () => {
    const [first, second] = [join(directory, "a"), join(directory, "b")];
    await endpoints.open("fr-aaaaaaaa", first);
    const guest = endpoints.guest("fr-aaaaaaaa");
    await Promise.all([endpoints.open("fr-aaaaaaaa", first), endpoints.open("fr-aaaaaaaa", first)]);
    const same = endpoints.guest("fr-aaaaaaaa");
    await endpoints.open("fr-aaaaaaaa", second);

    expect(same).toBe(guest);
    expect([existsSync(first), existsSync(second)]).toEqual([false, true]);
  });

  test("replaces the socket that a killed process has left behind", async () => {
    const path = join(directory, "relay.sock");
    const earlier = createServer();
    await new Promise<void>((resolve) => earlier.listen(path, resolve));
    await endpoints.open("fr-aaaaaaaa", path);
    const answer = await greet(path);
    earlier.close();

    expect(answer).toBe("hello");
  });

  test("leaves alone what is no socket, and says so", async () => {
    const path = join(directory, "relay.sock");
    await writeFile(path, "precious");

    await expect(endpoints.open("fr-aaaaaaaa", path)).rejects.toMatchObject({
      code: "relay_socket",
      cause: expect.objectContaining({ message: expect.stringContaining("no socket") }),
    });
    expect(existsSync(path)).toBe(true);
  });

  test("refuses a path that no socket can have, with what to do", async () => {
    const path = join(directory, "x".repeat(108));

    await expect(endpoints.open("fr-aaaaaaaa", path)).rejects.toMatchObject({
      code: "relay_socket_path",
      hint: expect.stringContaining("shorter"),
    });
  });

  test("close ends connections and removes the socket; closing again is nothing", async () => {
    const path = join(directory, "relay.sock");
    await endpoints.open("fr-aaaaaaaa", path);
    const socket = connect(path);
    await new Promise((resolve) => socket.once("data", resolve));
    const closed = new Promise((resolve) => socket.once("close", resolve));
    await endpoints.close("fr-aaaaaaaa");
    await endpoints.close("fr-aaaaaaaa");
    await closed;

    expect(existsSync(path)).toBe(false);
    expect(endpoints.guest("fr-aaaaaaaa")).toBeUndefined();
  });

  test("turns away more connections than allowed", async () => {
    const path = join(directory, "relay.sock");
    await endpoints.open("fr-aaaaaaaa", path);
    const answers = [await greet(path), await greet(path), await greet(path)];

    expect(answers.slice(0, 2)).toEqual(["hello", "hello"]);
    expect(["closed", "ECONNRESET", "EPIPE"]).toContain(answers[2]);
    await expect.poll(() => tooMany).toBe(1);
  });
});
