import { systemClock } from "../../src/base/clock.ts";
import type { ControlPorts } from "../../src/server/routes/ports.ts";
import { aHostPorts } from "./host-ports.ts";
import { aJobLogs } from "./job-logs.ts";

/** Ports at which nothing happens, for tests that give those they are about. */
export function aControlPorts(): Omit<ControlPorts, "status"> {
  return {
    console: async () => "",
    async *followConsole() {},
    jobLogs: aJobLogs(),
    drain: () => {},
    resume: () => {},
    reload: async () => [],
    retryJob: async (jobId) => ({ id: jobId + 1, webUrl: "https://gitlab.example.com/-/jobs/1", note: null }),
    hosts: aHostPorts(),
    events: { follow: () => () => {}, streams: 0 },
    noteChange: async () => {},
    clock: systemClock,
  };
}
