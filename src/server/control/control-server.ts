import { chmod, rename, rm } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import Fastify, { type FastifyInstance } from "fastify";
import type { Clock } from "../../base/clock.ts";
import { atMost } from "../../base/deadline.ts";
import { systemCode } from "../../base/errors.ts";
import type { Log } from "../../base/log.ts";
import { SOCKET_NAME } from "../../views/api.ts";
import { HttpError } from "../errors.ts";
import { answerProblems } from "../problem.ts";
import type { RouteDeps } from "../routes/ports.ts";
import { registerRoutes } from "../routes/route.ts";
import { allRoutes } from "../routes/routes.ts";

/** The longest path the operating system takes for a unix socket, without the closing zero. */
const MAX_SOCKET_PATH_BYTES = 107;
/** How long an answer may still be written when the server closes; consoles that are followed are cut. */
const CLOSE_LIMIT_MS = 1_000;

interface ControlServerDeps extends RouteDeps {
  readonly stateDirectory: string;
  readonly clock: Clock;
  readonly log: Log;
}

export interface ControlServer {
  readonly socketPath: string;
  close(): Promise<void>;
}

/**
 * The server for the command line: a unix socket that only this user may open. A socket left by a dead process is replaced, a
 * live one refused with `control_taken`.
 */
export async function openControlServer(deps: ControlServerDeps): Promise<ControlServer> {
  const socketPath = join(deps.stateDirectory, SOCKET_NAME);
  const birthPath = `${socketPath}.new`;
  if (Buffer.byteLength(birthPath) > MAX_SOCKET_PATH_BYTES) {
    throw new HttpError(
      "control_socket",
      `opening the control socket: ${socketPath} is too long for a unix socket`,
      {
        hint: "Choose a shorter state directory (the key “state” of the configuration).",
      },
    );
  }
  if (await isAnswered(socketPath)) {
    throw new HttpError("control_taken", `a running FireRunner answers on ${socketPath}`, {
      hint: "Stop it first, or give this one a state directory of its own.",
    });
  }

  const closing = new AbortController();
  const app = Fastify({ forceCloseConnections: true, bodyLimit: 64 * 1024, requestTimeout: 10_000 });
  answerProblems(app, {
    log: deps.log,
    unknownPath: "The command line and the daemon may be of different versions: restart the daemon.",
    internal: "This is a bug in FireRunner; its log has the details.",
  });
  const { views, ports } = deps;
  registerRoutes(app, {
    prefix: "/v1",
    routes: allRoutes,
    deps: { views, ports },
    closing: closing.signal,
    // Whoever may open the socket may do everything here anyway.
    callerOf: () => ({ name: "the command line", role: "admin" }),
  });
  await listen(app, birthPath, socketPath);
  return {
    socketPath,
    async close() {
      closing.abort();
      await atMost(deps.clock, CLOSE_LIMIT_MS, app.close());
      await rm(socketPath, { force: true });
    },
  };
}

/** The socket gets its name only when its rights are set, so nobody else can slip in between. */
async function listen(app: FastifyInstance, birthPath: string, socketPath: string): Promise<void> {
  try {
    await rm(birthPath, { force: true });
    await app.listen({ path: birthPath });
    await chmod(birthPath, 0o600);
    await rename(birthPath, socketPath);
  } catch (cause) {
    await app.close();
    throw new HttpError("control_socket", `opening the control socket ${socketPath} failed`, {
      cause,
      hint: "Check that the state directory exists, belongs to this user, and has room.",
    });
  }
}

/** True when a process listens there. A stale file refuses the connection. */
async function isAnswered(path: string): Promise<boolean> {
  return await new Promise((resolve, reject) => {
    const socket = connect(path);
    socket.on("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.on("error", (error) => {
      const code = systemCode(error);
      if (code === "ENOENT" || code === "ECONNREFUSED" || code === "ENOTSOCK") return resolve(false);
      reject(new HttpError("control_socket", `opening the control socket ${path} failed`, { cause: error }));
    });
  });
}
