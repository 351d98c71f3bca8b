import { compare, type Figure, type Row } from "../core/figure.ts";
import { pairedDifferences, summarize } from "../core/statistics.ts";
import type { Latencies } from "../parts/guests-process.ts";
import { createFakeInstallation } from "../parts/installation.ts";

export const relay: Figure = {
  name: "relay",
  title: "What the relay adds to a request",
  about:
    "The same request straight to the stand-in GitLab and through the relay, in pairs, from a client in a process of its own; GitLab, FireRunner and the client are three processes. The pacing towards GitLab is off. The difference is the median of what was added within each pair. A machine's own network (a process per connection) is not part of it.",
  machines: false,
  limitMs: 120_000,
  async measure(context) {
    const installation = await createFakeInstallation(context, { pools: [1], unpaced: true });
    const pair = await installation.addPair();
    const { relayJobId, direct } = pair;
    context.progress("three kinds of request");
    const count = context.quick ? 10 : 200;
    const found = await installation.guests.call("latencies", { relayJobId, direct, count });
    return found.map(summarizeLatencies);
  },
};

export function summarizeLatencies({ name, relayMs, directMs }: Latencies): Row {
  const row = {
    what: name,
    unit: "ms",
    measured: summarize(relayMs),
    promised: { of: "difference", bound: "at most", value: 5 },
  } as const;
  return {
    ...compare(row, "direct", summarize(directMs)),
    difference: summarize(pairedDifferences(relayMs, directMs)).median,
  };
}
