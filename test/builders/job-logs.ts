import type { JobLogPorts } from "../../src/server/routes/ports.ts";

/** Logs of jobs as they are given, and nothing comes to them. */
export function aJobLogs(texts: Readonly<Record<number, string>> = {}): JobLogPorts {
  return {
    tail: (jobId, maxBytes) => texts[jobId]?.slice(-maxBytes),
    async *follow(jobId) {
      yield texts[jobId] ?? "";
      yield "and more\n";
    },
  };
}
