import { isIP } from "node:net";
import { type Client, createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { splitHostPort } from "../../base/host-port.ts";
import { MicroVM } from "./gen/service_pb.js";
import type { FlintlockHost } from "./host.ts";

/**
 * grpc-go ends connections with more pings than one in 5 minutes, and with any ping while no call is open. A connection without
 * calls closes by itself before a ping would be due; one with calls has their deadlines.
 */
const PING_INTERVAL_MS = 330_000;
const IDLE_LIMIT_MS = 300_000;

type Calls = Client<typeof MicroVM>;

/** One HTTP/2 connection to one address, made when it is first needed, and again after it closed. */
export interface Line {
  readonly calls: Calls;
  /** True once there is a connection; false when none could be made: `error` then says why. */
  connect(): Promise<boolean>;
  isDown(): boolean;
  error(): unknown;
  close(): void;
}

export function openLine(address: string, { tls, token }: FlintlockHost): Line {
  const baseUrl = `${tls ? "https" : "http"}://${address}`;
  const { host } = splitHostPort(address);
  const secured = tls && {
    minVersion: "TLSv1.3" as const,
    // An address of numbers may not be given as a name; the certificate is then held against the address itself.
    ...(tls.serverName === undefined && isIP(host) ? {} : { servername: tls.serverName ?? host }),
    ...(tls.ca === undefined ? {} : { ca: tls.ca }),
    ...(tls.certificate === undefined ? {} : { cert: tls.certificate }),
    ...(tls.key === undefined ? {} : { key: tls.key.reveal() }),
  };
  const pings = { pingIntervalMs: PING_INTERVAL_MS, idleConnectionTimeoutMs: IDLE_LIMIT_MS };
  const sessionManager = new Http2SessionManager(baseUrl, pings, secured ?? {});
  const interceptors = token ? [authorize(token.reveal())] : [];
  const transport = createGrpcTransport({
    ...{ baseUrl, sessionManager, interceptors, acceptCompression: [] },
    // What is not read is not kept either.
    binaryOptions: { readUnknownFields: false },
  });
  return {
    calls: createClient(MicroVM, transport),
    connect: async () => (await sessionManager.connect()) !== "error",
    isDown: () => sessionManager.state() === "closed" || sessionManager.state() === "error",
    error: () => sessionManager.error(),
    close: () => sessionManager.abort(),
  };
}

/** flintlockd's own form of basic authentication: the token alone, without a name before it. */
function authorize(token: string): Interceptor {
  const value = `Basic ${Buffer.from(token).toString("base64")}`;
  return (next) => (request) => {
    request.header.set("authorization", value);
    return next(request);
  };
}
