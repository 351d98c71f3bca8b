import {
  createServer,
  request as httpRequest,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from "node:http";

const MIB = 1024 ** 2;
/** The project of the job in a real machine. */
const REAL = "/group/real.git/";

/** A GitLab for guests that mean harm: the stand-in, with lists of large files, and 401 for wrong credentials, before it. */
export interface HostileGitLab {
  readonly url: string;
  /** Wrong credentials that arrived. */
  guesses(): number;
  /** From now on `group/real` is there: what its job waits for. */
  letRealBegin(): void;
  /** Requests of git and git-lfs for it that have arrived since then. */
  requestsOfReal(): number;
  close(): Promise<void>;
}

const object = (index: number) => {
  const oid = index.toString(16).padStart(64, "0");
  const href = `http://gitlab.example.com/group/project.git/gitlab-lfs/objects/${oid}`;
  return { oid, size: 1, actions: { download: { href, header: { Authorization: "Basic x" } } } };
};
const unit = `${JSON.stringify(object(1))},`;
const large = Buffer.from(`{"objects":[${unit.repeat((4 * MIB) / unit.length).slice(0, -1)}]}`);
const deep = Buffer.from("[".repeat(4 * MIB - 8));

export async function startHostileGitLab(standInUrl: string): Promise<HostileGitLab> {
  let guesses = 0;
  let requestsOfReal = 0;
  let isRealThere = false;

  function serve(request: IncomingMessage, response: ServerResponse): void {
    const url = request.url ?? "";
    if (url.startsWith(REAL) && isRealThere) requestsOfReal += 1;
    if (url.startsWith(REAL) && !isRealThere) response.writeHead(404).end();
    else if (url.endsWith("/info/lfs/objects/batch")) void answerBatch(request, response);
    else if (url.includes("/info/refs")) refs(request, response);
    else passOn(url, request, response);
  }

  function passOn(url: string, request: IncomingMessage, response: ServerResponse): void {
    const { pathname, search } = new URL(url, standInUrl);
    const onward = httpRequest(
      new URL(pathname + search, standInUrl),
      { method: request.method ?? "GET", headers: request.headers },
      (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(response);
      },
    );
    onward.on("error", () => response.destroy());
    response.on("close", () => onward.destroy());
    request.pipe(onward);
  }

  async function answerBatch(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let body = "";
    for await (const chunk of request) body += String(chunk);
    response.writeHead(200, { "Content-Type": "application/vnd.git-lfs+json" });
    response.end(body.includes("deep") ? deep : large);
  }

  function refs(request: IncomingMessage, response: ServerResponse): void {
    const given = Buffer.from(request.headers.authorization?.slice(6) ?? "", "base64").toString();
    const isWrong = given !== "" && !given.startsWith("gitlab-ci-token:");
    if (isWrong) guesses += 1;
    response.writeHead(given === "" || isWrong ? 401 : 200, { "Content-Type": "text/plain" }).end("refs\n");
  }

  // As GitLab's own servers keep them: a connection that is closed while it is used again would be a fault of this stand-in.
  const server: Server = createServer({ keepAliveTimeout: 65_000 }, serve);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  return {
    url: `http://127.0.0.1:${typeof address === "object" ? address?.port : ""}`,
    guesses: () => guesses,
    requestsOfReal: () => requestsOfReal,
    letRealBegin: () => {
      isRealThere = true;
    },
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
