import { connect as connectPlain, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";

/** A connection on which a test writes what no client of good manners would. */
export interface RawSocket {
  readonly socket: Socket;
  write(text: string | Buffer): void;
  /** All that has come back. */
  received(): string;
  /** Resolves once there is something in it that fits. */
  receives(pattern: RegExp): Promise<string>;
  /** Resolves with all that came once the other side has closed; how long after the opening is `elapsedMs`. */
  readonly closed: Promise<{ readonly text: string; readonly elapsedMs: number }>;
}

/** Opens a connection to `http://…` or `https://…`; for the latter any certificate is accepted. */
export async function openRawSocket(address: string): Promise<RawSocket> {
  const { protocol, hostname, port } = new URL(address);
  const to = { host: hostname.replace(/^\[|\]$/g, ""), port: Number(port) };
  const isTls = protocol === "https:";
  const openedAt = performance.now();
  const socket = isTls ? connectTls({ ...to, rejectUnauthorized: false }) : connectPlain(to);
  let text = "";
  socket.setEncoding("latin1").on("data", (chunk: string) => {
    text += chunk;
  });
  // A reset is one way of being closed.
  socket.on("error", () => {});
  const closed = new Promise<{ text: string; elapsedMs: number }>((resolve) => {
    socket.once("close", () => resolve({ text, elapsedMs: performance.now() - openedAt }));
  });
  await Promise.race([
    new Promise((resolve) => socket.once(isTls ? "secureConnect" : "connect", resolve)),
    closed.then(() => Promise.reject(new Error(`${address} refused the connection`))),
  ]);
  return {
    socket,
    closed,
    write: (data) => void socket.write(data),
    received: () => text,
    receives: (pattern) =>
      new Promise((resolve, reject) => {
        const look = () => pattern.test(text) && resolve(text);
        socket.on("data", look);
        closed.then(() => reject(new Error(`closed after ${JSON.stringify(text)}`)), reject);
        look();
      }),
  };
}

/** Everything a connection says until it ends. */
export function spoken(socket: Socket): Promise<string> {
  return new Promise((resolve) => {
    let text = "";
    socket.on("data", (data) => {
      text += data.toString("latin1");
    });
    socket.on("end", () => socket.destroy());
    socket.on("close", () => resolve(text));
  });
}
