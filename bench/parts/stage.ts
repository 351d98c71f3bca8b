import type { IncomingMessage, ServerResponse } from "node:http";
import { performance } from "node:perf_hooks";

interface Stage {
  serve(request: IncomingMessage, response: ServerResponse): void;
  /** The moments at which the guest asked for its boot data, the runner got its job, and the script's first line spoke. */
  readonly heard: Promise<number>;
  readonly given: Promise<number>;
  readonly spoken: Promise<number>;
  /** Sectors, from a request of the script that says so: `/….git/sectors/N`. */
  readonly sectors: Promise<number>;
}

/** What a guest and its runner need to begin a job, a few lines in the relay's place; `other` says whether it has answered what is asked besides. */
export function createStage(
  bootData: string,
  payload: string | undefined,
  other?: (path: string, response: ServerResponse) => boolean,
): Stage {
  const heard = Promise.withResolvers<number>();
  const given = Promise.withResolvers<number>();
  const spoken = Promise.withResolvers<number>();
  const sectors = Promise.withResolvers<number>();
  let isGiven = payload === undefined;
  let traceBytes = 0;

  function serve(request: IncomingMessage, response: ServerResponse): void {
    const at = performance.now();
    let bytes = 0;
    request.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
    });
    request.once("end", () => {
      if (request.method === "PATCH") traceBytes += bytes;
      reply(request, response, at);
    });
  }

  function reply({ method, url = "" }: IncomingMessage, response: ServerResponse, at: number): void {
    const running = { "Job-Status": "running", "X-GitLab-Trace-Update-Interval": "3" };
    if (url === "/firerunner/boot") {
      heard.resolve(at);
      response.writeHead(200, { "Content-Length": Buffer.byteLength(bootData) }).end(bootData);
    } else if (method === "POST" && url === "/api/v4/jobs/request") {
      response.writeHead(isGiven ? 204 : 201, { "Content-Type": "application/json" });
      response.end(isGiven ? undefined : payload);
      given.resolve(at);
      isGiven = true;
    } else if (method === "PATCH") response.writeHead(202, { ...running, Range: `0-${traceBytes}` }).end();
    else if (method === "PUT") response.writeHead(200, running).end();
    else if (other?.(url, response)) return;
    else if (url.includes(".git/")) {
      spoken.resolve(at);
      const said = /\/sectors\/(\d+)$/.exec(url)?.[1];
      if (said !== undefined) sectors.resolve(Number(said));
      response.writeHead(401).end();
    }
    // Anything else is news that the guest waits for: there is none.
  }

  return {
    serve,
    heard: heard.promise,
    given: given.promise,
    spoken: spoken.promise,
    sectors: sectors.promise,
  };
}
