import { chmod, lstat, rm } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { dirname } from "node:path";
import { systemCode } from "../base/errors.ts";
import { listenOn } from "../base/listen.ts";
import { makeDirectory } from "../base/make-directory.ts";
import { RelayError } from "./errors.ts";

/** `sun_path` of Linux has 108 bytes, one of them for the end. */
const MAX_PATH_BYTES = 107;

export interface GuestSocketOptions {
  readonly machineId: string;
  readonly path: string;
  readonly maxConnections: number;
  readonly onConnection: (socket: Socket) => void;
  readonly onTooMany: () => void;
}

/** The unix socket of one machine. */
export interface GuestSocket {
  readonly path: string;
  /** Listens no more at once; resolves when the last connection has ended and the file is gone. */
  close(): Promise<void>;
}

/** Throws RelayError `relay_socket` or `relay_socket_path`. */
export async function openGuestSocket(options: GuestSocketOptions): Promise<GuestSocket> {
  const { machineId, path } = options;
  const bytes = Buffer.byteLength(path);
  if (bytes > MAX_PATH_BYTES) {
    throw new RelayError(
      "relay_socket_path",
      `opening the relay socket of ${machineId}: its path has ${bytes} bytes, a socket's may have ${MAX_PATH_BYTES}: ${path}`,
      { hint: "choose a shorter state directory" },
    );
  }
  const server = createServer({ allowHalfOpen: true, noDelay: true }, options.onConnection);
  server.maxConnections = options.maxConnections;
  server.on("drop", options.onTooMany);
  try {
    await makeWay(path);
    await listenOn(server, { path: path });
    // The machine's process runs as another user; the directory lets only that user in.
    await chmod(path, 0o666);
  } catch (cause) {
    server.close();
    throw cannotOpen(machineId, path, cause);
  }
  return {
    path,
    async close() {
      await new Promise<void>((resolve) => server.close(() => resolve()));
      await rm(path, { force: true });
    },
  };
}

/** Makes the directory, and removes the socket of an earlier process; anything else in its place is left alone. */
async function makeWay(path: string): Promise<void> {
  await makeDirectory(dirname(path), 0o700);
  const there = await lstat(path).catch((error: unknown) => {
    if (systemCode(error) === "ENOENT") return undefined;
    throw error;
  });
  if (there === undefined) return;
  if (!there.isSocket()) throw new Error("something that is no socket lies in its place");
  await rm(path);
}

function cannotOpen(machineId: string, path: string, cause: unknown): RelayError {
  return new RelayError("relay_socket", `opening the relay socket of ${machineId} at ${path} failed`, {
    cause,
    hint: "check the rights and the free space of the state directory",
  });
}
