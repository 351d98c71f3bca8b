/**
 * What may be asked of the running program, as data: the control socket, the API and its description are all made of one list of routes. A
 * route says what it takes, what it answers and who may ask; what it does goes through ports, so that nothing here knows the modules
 * behind them.
 */
import { Readable } from "node:stream";
import type { FastifyInstance, FastifyRequest } from "fastify";
import type { z } from "zod";
import { HttpError } from "../errors.ts";
import { type Caller, isAllowed, type Role } from "../roles.ts";
import type { RouteDeps } from "./ports.ts";

type TextType = "text/plain" | "text/event-stream" | "application/x-ndjson";

/** A request, its parts read. What a route does not take is undefined. */
interface Asked<Params, Query, Body> {
  readonly params: Params;
  readonly query: Query;
  readonly body: Body;
  /** What a reader of events has seen last, when it comes back (`Last-Event-ID`). */
  readonly lastEventId: string | undefined;
  /** Aborts when nobody waits for the answer any more, or the server closes. */
  readonly signal: AbortSignal;
}

interface RouteOf<Params, Query, Body> {
  readonly method: "GET" | "POST" | "DELETE";
  /** Below the version, in Fastify's form: `/jobs/:id`. */
  readonly path: string;
  /** The least that may ask over the network; whoever opens the control socket may ask everything. */
  readonly role: Role;
  /** For the control socket alone. */
  readonly isLocal?: boolean;
  /** A sentence for whoever reads the description. */
  readonly summary: string;
  readonly params?: z.ZodType<Params>;
  readonly query?: z.ZodType<Query>;
  readonly body?: z.ZodType<Body>;
  /** The form of a JSON answer, or the type of a text. */
  readonly answers: z.ZodType | TextType;
  /** Returns the answer: a value for JSON, a string or its parts for a text. Throws FireRunnerError and ZodError. */
  handle(asked: Asked<Params, Query, Body>, deps: RouteDeps): unknown;
}

/** A route whose types are its own matter. */
export type Route = RouteOf<never, never, never>;

/** Lets the schemas give the types of what `handle` is given. */
export function route<Params = undefined, Query = undefined, Body = undefined>(
  made: RouteOf<Params, Query, Body>,
): Route {
  return made as unknown as Route;
}

export interface Registration {
  readonly routes: readonly Route[];
  /** Before each path. */
  readonly prefix: string;
  readonly deps: RouteDeps;
  /** Aborts when the server closes: ends what is followed. */
  readonly closing: AbortSignal;
  callerOf(request: FastifyRequest): Caller;
}

export function registerRoutes(app: FastifyInstance, registration: Registration): void {
  const { prefix, deps, closing, callerOf } = registration;
  for (const each of registration.routes) {
    const { method, path, answers } = each;
    app.route({
      method,
      url: `${prefix}${path}`,
      async handler(request, reply) {
        const caller = callerOf(request);
        if (!isAllowed(caller, each.role)) throw forbidden(caller, each.role);
        const gone = new AbortController();
        reply.raw.on("close", () => gone.abort(new Error("nobody waits for the answer any more")));
        const signal = AbortSignal.any([gone.signal, closing]);
        const answer = await each.handle(askedOf(each, request, signal), deps);
        if (method !== "GET") await deps.ports.noteChange(caller, changeOf(request, prefix));
        if (typeof answers === "string") reply.type(`${answers}; charset=utf-8`);
        return isParts(answer) ? reply.send(Readable.from(untilAborted(answer, signal))) : answer;
      },
    });
  }
}

function forbidden({ name, role }: Caller, needed: Role): HttpError {
  return new HttpError("forbidden", `the token ${name} may not do this: its role is ${role}`, {
    hint: `It takes the role ${needed} (api.tokens).`,
  });
}

function askedOf(each: Route, request: FastifyRequest, signal: AbortSignal): Asked<never, never, never> {
  const lastEventId = request.headers["last-event-id"];
  return {
    params: each.params?.parse(request.params) as never,
    query: each.query?.parse(request.query) as never,
    body: each.body?.parse(request.body) as never,
    lastEventId: typeof lastEventId === "string" ? lastEventId : undefined,
    signal,
  };
}

/** `POST /hosts/metal-1/drain`: what somebody did, for the log of events. */
function changeOf({ method, url }: FastifyRequest, prefix: string): string {
  const [path = ""] = url.split("?", 1);
  return `${method} ${path.slice(prefix.length)}`;
}

function isParts(answer: unknown): answer is AsyncIterable<string> {
  return typeof answer === "object" && answer !== null && Symbol.asyncIterator in answer;
}

/** What ends because nobody reads on is no failure. */
async function* untilAborted(parts: AsyncIterable<string>, signal: AbortSignal): AsyncGenerator<string> {
  try {
    yield* parts;
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}
