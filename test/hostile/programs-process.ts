/** The hostile programs, in a process of their own. */
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

serveParent(handlers, async () => {});
