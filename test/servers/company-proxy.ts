import { createServer, type IncomingMessage, request, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { type AddressInfo, connect } from "node:net";
import type { Duplex } from "node:stream";

export interface CompanyProxyOptions {
  /** Who may use it; nobody is asked when it is not given. */
  readonly user?: string;
  readonly password?: string;
  /** Where names lead that only this proxy knows, by `host:port`; all others are unknown to it (502). */
  readonly routes?: Readonly<Record<string, number>>;
  /** Answers this instead of leading anywhere. */
  readonly refusal?: number;
  readonly tls?: { readonly key: string; readonly cert: string };
}

/** A company's HTTP proxy on loopback, as strict as such proxies are. */
export interface CompanyProxy {
  readonly url: string;
  readonly port: number;
  /** What it was asked for, in order: `CONNECT host:port` or `GET http://…`. */
  readonly asked: string[];
  /** Headers of the requests that were not CONNECT, as they arrived. */
  readonly headers: IncomingMessage["headers"][];
  /** How many requests came without the right user and password. */
  readonly unproven: () => number;
  [Symbol.asyncDispose](): Promise<void>;
}

export async function startCompanyProxy(options: CompanyProxyOptions = {}): Promise<CompanyProxy> {
  const { user, password, routes = {}, refusal, tls } = options;
  const asked: string[] = [];
  const headers: IncomingMessage["headers"][] = [];
  const open = new Set<Duplex>();
  const wanted = `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}`;
  let unproven = 0;

  /** The port that a target leads to, or the status that is answered instead. */
  function judge(incoming: IncomingMessage, target: string): { port: number } | { status: number } {
    if (user !== undefined && incoming.headers["proxy-authorization"] !== wanted) {
      unproven += 1;
      return { status: 407 };
    }
    const port = routes[target];
    const status = refusal ?? (port === undefined ? 502 : undefined);
    return status === undefined ? { port: port ?? 0 } : { status };
  }

  function onConnect(incoming: IncomingMessage, socket: Duplex, head: Buffer): void {
    const target = incoming.url ?? "";
    asked.push(`CONNECT ${target}`);
    open.add(socket);
    socket.on("error", () => {}).on("close", () => open.delete(socket));
    const verdict = judge(incoming, target);
    if ("status" in verdict) {
      socket.end(`HTTP/1.1 ${verdict.status} No\r\nProxy-Authenticate: Basic realm="company"\r\n\r\n`);
      return;
    }
    const upstream = connect({ port: verdict.port, host: "127.0.0.1", allowHalfOpen: true });
    upstream.once("connect", () => {
      socket.write("HTTP/1.1 200 Connection established\r\n\r\n");
      if (head.length > 0) upstream.write(head);
      socket.pipe(upstream);
      upstream.pipe(socket);
    });
    upstream.on("error", () => socket.destroy()).on("close", () => socket.destroy());
    socket.on("close", () => upstream.destroy());
  }

  function onRequest(incoming: IncomingMessage, response: ServerResponse): void {
    asked.push(`${incoming.method} ${incoming.url}`);
    headers.push(incoming.headers);
    const url = URL.parse(incoming.url ?? "");
    if (url === null) return void response.writeHead(400).end();
    const verdict = judge(incoming, `${url.hostname}:${url.port || 80}`);
    if ("status" in verdict) {
      response.writeHead(verdict.status, { "proxy-authenticate": 'Basic realm="company"' }).end();
      return;
    }
    const { "proxy-authorization": _ours, ...passed } = incoming.headers;
    const onward = request(
      { port: verdict.port, host: "127.0.0.1", method: incoming.method, path: url.pathname + url.search },
      (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(response);
      },
    );
    for (const [name, value] of Object.entries(passed))
      if (value !== undefined) onward.setHeader(name, value);
    onward.on("error", () => response.destroy());
    incoming.pipe(onward);
  }

  const server = tls ? createTlsServer(tls, onRequest) : createServer(onRequest);
  server.on("connect", onConnect);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    ...{ port, asked, headers },
    url: `${tls ? "https" : "http"}://127.0.0.1:${port}`,
    unproven: () => unproven,
    async [Symbol.asyncDispose]() {
      for (const each of open) each.destroy();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
