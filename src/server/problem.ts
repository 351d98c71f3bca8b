/** Every refusal of the control socket and of the API is `{code, message, hint}`. */
import type { FastifyInstance } from "fastify";
import { ZodError, z } from "zod";
import { FireRunnerError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import type { Problem } from "../views/api.ts";
import { HttpError } from "./errors.ts";

const statusOf: Readonly<Record<string, number>> = {
  not_found: 404,
  bad_request: 400,
  unauthorized: 401,
  forbidden: 403,
  conflict: 409,
  too_many: 429,
};

interface ProblemOptions {
  readonly log: Log;
  /** Said of a path at which there is nothing. */
  readonly unknownPath: string;
  /** Of a failure that is ours, for whoever asked. */
  readonly internal: string;
}

export function answerProblems(app: FastifyInstance, { log, unknownPath, internal }: ProblemOptions): void {
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
    return { status: statusOf[code] ?? 500, problem: { code, message, hint } };
  }
  const status = (error as { statusCode?: number }).statusCode ?? 500;
  const message = error instanceof Error ? error.message : String(error);
  return status < 500
    ? { status, problem: { code: "bad_request", message, hint: null } }
    : { status, problem: { code: "internal", message, hint: internal } };
}
