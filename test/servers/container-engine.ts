import { spawn } from "node:child_process";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { Duplex } from "node:stream";

/** What was asked for at the creation of one container. */
interface CreatedContainer {
  readonly Image: string;
  readonly Cmd?: readonly string[];
  readonly Entrypoint?: readonly string[];
  readonly Env?: readonly string[];
  readonly User?: string;
  readonly HostConfig: {
    readonly Privileged: boolean;
    readonly Binds?: string[];
    readonly ExtraHosts?: string[];
  };
}

export interface ContainerEngine extends AsyncDisposable {
  readonly created: CreatedContainer[];
  /** Method and path, without the version. */
  readonly requests: string[];
}

/**
 * As much of a container engine's API, on a unix socket, as a runner asks of it for a job. A "container" is a process of this computer with
 * the container's command. `ports`: what an image exposes.
 */
export async function startContainerEngine(
  socketPath: string,
  images: Readonly<Record<string, { readonly ports?: readonly number[] }>>,
): Promise<ContainerEngine> {
  const created: CreatedContainer[] = [];
  const requests: string[] = [];
  const attached = new Map<number, Duplex>();
  const statuses = new Map<number, Promise<number>>();

  function create(body: CreatedContainer): unknown {
    created.push(body);
    return { Id: `c${created.length - 1}` };
  }

  function inspect(index: number): unknown {
    const ports = images[created[index]?.Image ?? ""]?.ports ?? [];
    return {
      NetworkSettings: { IPAddress: "127.0.0.1" },
      Config: { ExposedPorts: Object.fromEntries(ports.map((port) => [`${port}/tcp`, {}])) },
    };
  }

  function run(index: number): void {
    const { Cmd = ["true"], Entrypoint = [], Env = [] } = created[index] ?? {};
    const stream = attached.get(index);
    const [command = "true", ...args] = [...Entrypoint, ...Cmd];
    const env = Object.fromEntries(Env.map((each) => each.split(/=(.*)/s).slice(0, 2)));
    const child = spawn(command, args, { env: { PATH: process.env["PATH"], ...env } });
    child.on("error", () => {});
    child.stdin.on("error", () => {});
    stream?.pipe(child.stdin);
    for (const [kind, output] of [child.stdout, child.stderr].entries())
      output.on("data", (bytes: Buffer) =>
        stream?.write(Buffer.concat([frameHead(kind + 1, bytes.length), bytes])),
      );
    const status = new Promise<number>((resolve) => child.on("close", (code) => resolve(code ?? 137)));
    statuses.set(index, status);
    void status.then(() => stream?.end());
  }

  async function answer(method: string, path: string, body: string): Promise<[number, unknown]> {
    const [, name = ""] = /^\/images\/(.+)\/json$/.exec(path) ?? [];
    if (name)
      return images[name] ? [200, { Id: `sha256:${name}` }] : [404, { message: `no such image: ${name}` }];
    if (path.startsWith("/images/create")) return [500, { message: "no registry can be reached" }];
    if (path === "/containers/create") return [201, create(JSON.parse(body))];
    const [, id = "", what = ""] = /^\/containers\/c(\d+)\/(\w+)/.exec(path) ?? [];
    const index = Number(id);
    if (what === "json") return [200, inspect(index)];
    if (what === "wait") return [200, { StatusCode: await statuses.get(index) }];
    if (what === "start" || what === "kill") {
      if (what === "start") run(index);
      return [204, undefined];
    }
    return [404, { message: `${method} ${path} is not known here` }];
  }

  const pathOf = (request: IncomingMessage) => (request.url ?? "").replace(/^\/v[\d.]+/, "");
  const server = createServer(async (request: IncomingMessage, response: ServerResponse) => {
    let body = "";
    for await (const chunk of request) body += chunk;
    const path = pathOf(request);
    requests.push(`${request.method} ${path}`);
    const [status, value] = await answer(request.method ?? "", path, body);
    response.writeHead(status).end(value === undefined ? "" : JSON.stringify(value));
  });
  server.on("upgrade", (request, socket) => {
    const [, id = ""] = /^\/containers\/c(\d+)\/attach/.exec(pathOf(request)) ?? [];
    attached.set(Number(id), socket);
    socket.on("error", () => {});
    socket.write("HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n");
  });
  await new Promise<void>((resolve) => server.listen(socketPath, resolve));
  return {
    created,
    requests,
    [Symbol.asyncDispose]: async () => {
      for (const socket of attached.values()) socket.destroy();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function frameHead(stream: number, length: number): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt8(stream, 0);
  head.writeUInt32BE(length, 4);
  return head;
}
