/** Every refusal of the control socket and of the API is `{code, message, hint}`. */
import type { FastifyInstance } from "fastify";
import { ZodError, z } from "zod";
import { FireRunnerError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import type { Problem } from "../views/api.ts";
import { HttpError } from "./errors.ts";

const statusOf: Readonly<Record<string, number>> = {
  not_found: 404,
  not_configured: 404,
  method_not_allowed: 405,
  bad_request: 400,
  unauthorized: 401,
  forbidden: 403,
  conflict: 409,
  too_many: 429,
};

/** A failure of somebody whom we asked, or of the configuration that is to be read, is none of ours. */
function statusOfCode(code: string): number {
  if (/^(gitlab|vm_host)_/.test(code)) return 502;
  return statusOf[code] ?? (code.startsWith("config_") ? 409 : 500);
}

interface ProblemOptions {
  readonly log: Log;
  /** The methods with which a path can be asked. */
  readonly methodsAt?: (path: string) => readonly string[];
  /** Said of a path at which there is nothing. */
  readonly unknownPath: string;
  /** Of a failure that is ours, for whoever asked. */
  readonly internal: string;
}

export function answerProblems(app: FastifyInstance, options: ProblemOptions): void {
  const { log, unknownPath, internal, methodsAt = () => [] } = options;
  app.addHook("onRequest", async ({ url, method }, reply) => {
    const [path = ""] = url.split("?", 1);
    const methods = methodsAt(path);
    if (methods.length === 0 || methods.includes(method)) return;
    const allowed = methods.join(", ");
    reply.header("allow", allowed);
    throw new HttpError("method_not_allowed", `${path} is asked with ${allowed}, not with ${method}`);
  });
  app.setNotFoundHandler((request) => {
    throw new HttpError("not_found", `there is nothing at ${request.method} ${request.url}`, {
      hint: unknownPath,
    });
  });
  app.setErrorHandler((error, request, reply) => {
    const { status, problem } = problemOf(error, internal);
    if (status >= 500) log.error({ err: error, url: request.url }, "a request failed");
    return reply.code(status).send(problem);
  });
}

function problemOf(error: unknown, internal: string): { status: number; problem: Problem } {
  if (error instanceof ZodError) {
    return { status: 400, problem: { code: "bad_request", message: z.prettifyError(error), hint: null } };
  }
  if (error instanceof FireRunnerError) {
    const { code, message, hint = null } = error;
    return { status: statusOfCode(code), problem: { code, message, hint } };
  }
  const status = (error as { statusCode?: number }).statusCode ?? 500;
  const message = error instanceof Error ? error.message : String(error);
  return status < 500
    ? { status, problem: { code: "bad_request", message, hint: null } }
    : { status, problem: { code: "internal", message, hint: internal } };
}
