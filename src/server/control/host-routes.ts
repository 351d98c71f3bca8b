import { Readable } from "node:stream";
import type { FastifyInstance } from "fastify";
import { z } from "zod";
import { TrialOrder, type TrialStep } from "../../views/trial-api.ts";

/** What may be asked of hosts, by name. Each answers what was done, in words; throws `not_found` for a name that is none. */
export interface HostPorts {
  drain(name: string): Promise<readonly string[]>;
  resume(name: string): Promise<readonly string[]>;
  /** For a host that is gone for good and not configured any more: its machines count as gone. */
  forget(name: string): Promise<readonly string[]>;
  /** Tries a host out, configured or not. When the signal aborts, what was made is removed before it ends. */
  tryHost(order: TrialOrder, signal: AbortSignal): AsyncIterable<TrialStep>;
}

const HostParams = z.object({ name: z.string().min(1), action: z.enum(["drain", "resume", "forget"]) });

export function registerHostRoutes(
  app: FastifyInstance,
  { hosts, closing }: { readonly hosts: HostPorts; readonly closing: AbortSignal },
): void {
  app.post("/v1/hosts/:name/:action", async ({ params }) => {
    const { name, action } = HostParams.parse(params);
    return { messages: [...(await hosts[action](name))] };
  });
  app.post("/v1/trials", async ({ body }, reply) => {
    const order = TrialOrder.parse(body);
    const gone = new AbortController();
    reply.raw.on("close", () => gone.abort(new Error("nobody waits for the trial any more")));
    const signal = AbortSignal.any([gone.signal, closing]);
    const steps = hosts.tryHost(order, signal);
    reply.type("application/x-ndjson");
    return reply.send(Readable.from(lines(steps, signal)));
  });
}

/** An empty line first: whoever waits sees at once that the trial has begun. */
async function* lines(steps: AsyncIterable<TrialStep>, signal: AbortSignal): AsyncGenerator<string> {
  yield "\n";
  try {
    for await (const step of steps) yield `${JSON.stringify(step)}\n`;
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}
