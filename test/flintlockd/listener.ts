/** The daemon's way to the network: HTTP/2 in plain text or behind TLS 1.3, every byte seen. */
import {
  createServer as createHttp2Server,
  type Http2ServerRequest,
  type Http2ServerResponse,
} from "node:http2";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { Duplex } from "node:stream";
import { createServer as createTlsServer } from "node:tls";
import { startMutualTls } from "./mutual-tls.ts";
import type { TlsSecurity } from "./options.ts";
import { limitPings } from "./pings.ts";
import type { WireRecorder } from "./wire.ts";

export interface Listener {
  readonly port: number;
  /** Ends every connection in the middle of whatever it does. */
  dropConnections(): void;
  close(): Promise<void>;
}

export interface ListenerOptions {
  /** 0: any free one. */
  readonly port: number;
  readonly tls: TlsSecurity | undefined;
  readonly wire: WireRecorder;
  readonly now: () => number;
  readonly serve: (request: Http2ServerRequest, response: Http2ServerResponse) => void;
}

export async function listen(options: ListenerOptions): Promise<Listener> {
  const { port, tls } = options;
  if (tls?.clientCa === undefined) return await listenHere(options);
  const inner = await listenHere({ ...options, port: 0, tls: undefined });
  const front = await startMutualTls(tls, port, inner.port);
  return {
    port: front.port,
    dropConnections: inner.dropConnections,
    async close() {
      await front.close();
      await inner.close();
    },
  };
}

async function listenHere({ port, tls, wire, serve, now }: ListenerOptions): Promise<Listener> {
  const http2 = createHttp2Server(serve);
  http2.on("sessionError", () => {});
  http2.on("session", (session) => limitPings(session, now));
  const sockets = new Set<Socket>();
  let connections = 0;

  const accept = (socket: Socket) => {
    const connection = ++connections;
    http2.emit(
      "connection",
      tapped(socket, (direction, bytes) => wire.record(direction, connection, bytes)),
    );
  };
  const server: Server = tls ? createTlsServer(tlsOptions(tls), accept) : createServer(accept);
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => sockets.delete(socket));
  });
  server.on("tlsClientError", () => {});
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject).listen(port, "127.0.0.1", resolve);
  });
  const dropConnections = () => {
    for (const socket of sockets) socket.destroy();
  };
  return {
    port: (server.address() as AddressInfo).port,
    dropConnections,
    async close() {
      const closed = new Promise((resolve) => server.close(resolve));
      dropConnections();
      await closed;
    },
  };
}

function tlsOptions({ key, cert }: TlsSecurity) {
  return { key, cert, minVersion: "TLSv1.3", ALPNProtocols: ["h2"] } as const;
}

/** The same connection, with each piece of it shown to `see`. */
function tapped(socket: Socket, see: (direction: "in" | "out", bytes: Buffer) => void): Duplex {
  const duplex: Duplex = new Duplex({
    read: () => void socket.resume(),
    write(bytes: Buffer, _encoding, done) {
      see("out", bytes);
      socket.write(bytes, done);
    },
    final: (done) => void socket.end(done),
    destroy(error, done) {
      socket.destroy();
      done(error);
    },
  });
  socket.on("data", (bytes: Buffer) => {
    see("in", bytes);
    if (!duplex.push(bytes)) socket.pause();
  });
  socket.on("end", () => duplex.push(null));
  socket.on("error", () => duplex.destroy());
  socket.on("close", () => duplex.destroy());
  return duplex;
}
