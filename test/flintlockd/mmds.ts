/** The metadata service as a guest finds it: MMDS v1, which asks for no token and serves each document whole, as text. */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface MetadataServer extends AsyncDisposable {
  /** On loopback; the machine's network leads 169.254.169.254:80 here. */
  readonly port: number;
}

export async function startMetadataServer(
  documents: Readonly<Record<string, string>>,
): Promise<MetadataServer> {
  const server = createServer((request, response) => answer(documents, request, response));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function answer(
  documents: Readonly<Record<string, string>>,
  request: IncomingMessage,
  response: ServerResponse,
): void {
  const text = lookUp(documents, request.url ?? "");
  if (request.method !== "GET") response.writeHead(405).end();
  else if (text === undefined) response.writeHead(404).end();
  else response.writeHead(200, { "content-type": "text/plain" }).end(text);
}

function lookUp(documents: Readonly<Record<string, string>>, url: string): string | undefined {
  const [, root, name = "", ...more] = url.split("/");
  if (root !== "latest" || more.length > 0) return undefined;
  return name === "" ? Object.keys(documents).toSorted().join("\n") : documents[name];
}
