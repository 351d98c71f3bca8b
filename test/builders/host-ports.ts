import type { HostPorts } from "../../src/server/routes/ports.ts";

/** Writes down what is asked of hosts: `drain metal-1`. */
export function aHostPorts(calls: string[] = []): HostPorts {
  const note = (action: string) => async (name: string) => {
    calls.push(`${action} ${name}`);
    return [`${action}: ${name}`];
  };
  return {
    drain: note("drain"),
    resume: note("resume"),
    forget: note("forget"),
    async *tryHost(order) {
      calls.push(`try ${JSON.stringify(order)}`);
      for (const name of ["connect", "gone"])
        yield { name, level: "ok", message: `${name} went well`, tookMs: 1 };
    },
  };
}
