/**
 * The hostile programs, in a process of their own and with the least priority, as machines have less of it than the manager: what is
 * measured is what they make the manager do, and not the CPU that they take themselves.
 */
import { constants, setPriority } from "node:os";
import { serveParent } from "../../bench/parts/child.ts";
import { programs, type Victim } from "./programs.ts";

const handlers = {
  /** Each victim runs one program; answers how many requests each has sent. */
  attack: async ({ victims, seconds }: { victims: readonly Victim[]; seconds: number }) => {
    const signal = AbortSignal.timeout(seconds * 1_000);
    const all = Object.entries(programs).map(async ([name, run], index) => {
      const victim = victims[index];
      return [name, victim ? await run(victim, signal) : 0] as const;
    });
    return Object.fromEntries(await Promise.all(all));
  },
};
export type ProgramsHandlers = typeof handlers;

setPriority(constants.priority.PRIORITY_LOW);
serveParent(handlers, async () => {});
