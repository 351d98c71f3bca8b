import type { FastifyInstance } from "fastify";
import { z } from "zod";

/** What may be asked of hosts, by name. Each answers what was done, in words; throws `not_found` for a name that is none. */
export interface HostPorts {
  drain(name: string): Promise<readonly string[]>;
  resume(name: string): Promise<readonly string[]>;
  /** For a host that is gone for good and not configured any more: its machines count as gone. */
  forget(name: string): Promise<readonly string[]>;
}

const HostParams = z.object({ name: z.string().min(1), action: z.enum(["drain", "resume", "forget"]) });

export function registerHostRoutes(app: FastifyInstance, ports: HostPorts): void {
  app.post("/v1/hosts/:name/:action", async ({ params }) => {
    const { name, action } = HostParams.parse(params);
    return { messages: [...(await ports[action](name))] };
  });
}
