import { createHmac, randomBytes } from "node:crypto";
import { createReadStream } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { pipeline } from "node:stream/promises";
import type { Clock } from "../../../src/base/clock.ts";
import { listen, shutDown } from "./exchange.ts";
import type { ReportViolation } from "./faults.ts";
import type { Artifact } from "./model.ts";

const SIGNATURE_LIFE_MS = 10 * 60_000;

/** Where GitLab sends downloads with `direct_download=true`: another server, which knows signed addresses and no tokens. */
export interface ObjectStorage {
  listen(): Promise<void>;
  close(): Promise<void>;
  /** A signed address of this file, good for ten minutes. */
  sign(artifact: Artifact): string;
  url(): string;
}

export function createObjectStorage(clock: Clock, report: ReportViolation): ObjectStorage {
  const key = randomBytes(32);
  const files = new Map<string, Artifact>();
  const server = createServer((request, response) => {
    serve(request, response).catch(() => response.destroy());
  });
  let port = 0;
  const url = () => `http://127.0.0.1:${port}`;

  function signature(path: string, expires: string): string {
    return createHmac("sha256", key).update(`${path}\n${expires}`).digest("hex");
  }

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const asked = new URL(request.url ?? "/", url());
    const artifact = files.get(asked.pathname);
    const expires = asked.searchParams.get("X-Amz-Expires") ?? "0";
    const isSigned = asked.searchParams.get("X-Amz-Signature") === signature(asked.pathname, expires);
    const { authorization, "job-token": jobToken } = request.headers;
    // The official runner lets its JOB-TOKEN come along; whoever follows a redirect for others should not.
    if (authorization !== undefined || jobToken !== undefined)
      report("leaked-credentials", "a token of GitLab was sent to the object storage");
    // Signed address and Authorization are two ways to authenticate: object storages refuse that.
    if (authorization !== undefined) return void response.writeHead(400).end("InvalidArgument");
    if (!artifact || !isSigned || Number(expires) < clock.now())
      return void response.writeHead(403).end("AccessDenied");
    response.writeHead(200, { "Content-Type": "binary/octet-stream", "Content-Length": artifact.sizeBytes });
    await pipeline(createReadStream(artifact.path), response);
  }

  return {
    async listen() {
      port = await listen(server, 0);
    },
    close: () => shutDown(server),
    sign(artifact) {
      const path = `/artifacts/${artifact.path.split("/").at(-1)}`;
      files.set(path, artifact);
      const expires = String(clock.now() + SIGNATURE_LIFE_MS);
      const query = new URLSearchParams({
        "X-Amz-Expires": expires,
        "X-Amz-Signature": signature(path, expires),
      });
      return `${url()}${path}?${query}`;
    },
    url,
  };
}
