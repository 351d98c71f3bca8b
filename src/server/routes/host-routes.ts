import { z } from "zod";
import { Done } from "../../views/api.ts";
import { TrialOrder, type TrialStep } from "../../views/trial-api.ts";
import { type Route, route } from "./route.ts";

const HostParams = z.object({ name: z.string().min(1).max(200) });

/** What is done to a host, by its name among all. */
const steps = [
  ["drain", "operator", "Starts nothing new on a host; what runs there goes on."],
  ["resume", "operator", "Starts machines on a host again."],
  [
    "forget",
    "admin",
    "Counts the machines of a host as gone that is not configured any more, and gone for good.",
  ],
] as const;

export const hostRoutes: readonly Route[] = [
  ...steps.map(([action, role, summary]) =>
    route({
      method: "POST",
      path: `/hosts/:name/${action}`,
      role,
      summary,
      params: HostParams,
      answers: Done,
      handle: async ({ params: { name } }, { ports }) => ({
        messages: [...(await ports.hosts[action](name))],
      }),
    }),
  ),
  route({
    method: "POST",
    path: "/trials",
    role: "admin",
    // Its order may name addresses and keys of hosts that are not configured.
    isLocal: true,
    summary: "Tries a host out, a line for each step.",
    body: TrialOrder,
    answers: "application/x-ndjson",
    handle: ({ body, signal }, { ports }) => lines(ports.hosts.tryHost(body, signal)),
  }),
];

/** An empty line first: whoever waits sees at once that the trial has begun. */
async function* lines(steps: AsyncIterable<TrialStep>): AsyncGenerator<string> {
  yield "\n";
  for await (const step of steps) yield `${JSON.stringify(step)}\n`;
}
