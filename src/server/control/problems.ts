import type { FastifyInstance } from "fastify";
import { ZodError, z } from "zod";
import { FireRunnerError } from "../../base/errors.ts";
import type { Log } from "../../base/log.ts";
import type { Problem } from "../../views/api.ts";
import { HttpError } from "../errors.ts";

const statusOf: Readonly<Record<string, number>> = { not_found: 404, bad_request: 400 };

/** Every refusal of the control interface is `{code, message, hint}`. */
export function answerErrors(app: FastifyInstance, log: Log): void {
  app.setNotFoundHandler((request) => {
    throw new HttpError("not_found", `there is nothing at ${request.method} ${request.url}`, {
      hint: "The command line and the daemon may be of different versions: restart the daemon.",
    });
  });
  app.setErrorHandler((error, request, reply) => {
    const { status, problem } = problemOf(error);
    if (status >= 500) log.error({ err: error, url: request.url }, "control request failed");
    return reply.code(status).send(problem);
  });
}

function problemOf(error: unknown): { status: number; problem: Problem } {
  if (error instanceof ZodError) {
    return { status: 400, problem: { code: "bad_request", message: z.prettifyError(error), hint: null } };
  }
  if (error instanceof FireRunnerError) {
    const { code, message, hint = null } = error;
    return { status: statusOf[code] ?? 500, problem: { code, message, hint } };
  }
  const status = (error as { statusCode?: number }).statusCode ?? 500;
  const message = error instanceof Error ? error.message : String(error);
  return {
    status,
    problem: {
      code: status < 500 ? "bad_request" : "internal",
      message,
      hint: status < 500 ? null : "This is a bug in FireRunner; its log has the details.",
    },
  };
}
