/** What machines write. */
import { z } from "zod";
import { MIB_BYTES } from "../../base/units.ts";
import { isLocalHost } from "../../domain/placement.ts";
import { HttpError } from "../errors.ts";
import { flag, machineId } from "./parameters.ts";
import { type Route, route } from "./route.ts";

const MachineParams = z.object({ id: machineId });
const ConsoleQuery = z.object({
  follow: flag,
  bytes: z.coerce
    .number()
    .int()
    .min(0)
    .max(8 * MIB_BYTES)
    .default(65_536),
});

export const logRoutes: readonly Route[] = [
  route({
    method: "GET",
    path: "/machines/:id/console",
    role: "operator",
    summary: "The end of a machine's console, and with follow=1 what comes.",
    params: MachineParams,
    query: ConsoleQuery,
    answers: "text/plain",
    async handle({ params: { id }, query: { follow, bytes }, signal }, { views, ports }) {
      const machine = await views.machine(id);
      if (!machine) {
        throw new HttpError("not_found", `machine ${id} is not known here`, {
          hint: "“firerunner machines --all” lists those of the past as well.",
        });
      }
      if (!isLocalHost(machine.host)) throw noConsole(id, machine.host);
      return follow ? tailThenFollow(ports, id, bytes, signal) : await ports.console(id, bytes);
    },
  }),
];

/** An empty answer would say that the machine is silent, and following it would never end. */
function noConsole(id: string, host: string): HttpError {
  return new HttpError("not_found", `machine ${id} is on the host ${host}, which shows no console`, {
    hint: `On ${host} itself its console is the file firecracker.stdout below /var/lib/flintlock/vm.`,
  });
}

interface Console {
  console(machineId: string, maxBytes: number): Promise<string>;
  followConsole(machineId: string, signal: AbortSignal): AsyncIterable<string>;
}

/**
 * The end of a console and then what comes. Following begins before the end is read, so that nothing falls between the
 * two: a line may come twice, none is lost.
 */
async function* tailThenFollow(
  { console, followConsole }: Console,
  machineId: string,
  maxBytes: number,
  signal: AbortSignal,
): AsyncGenerator<string> {
  const following = followConsole(machineId, signal)[Symbol.asyncIterator]();
  const first = following.next();
  // Looked at below; until then its failure must not count as unhandled.
  first.catch(() => {});
  try {
    const tail = await console(machineId, maxBytes);
    if (tail !== "") yield tail;
    for (let next = await first; !next.done; next = await following.next()) yield next.value;
  } finally {
    await following.return?.();
  }
}
