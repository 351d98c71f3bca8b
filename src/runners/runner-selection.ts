import type { ManagedRunner } from "../store/managed-runner.ts";
import type { RunnerIndex } from "./runner-index.ts";
import { tagsKey } from "./runner-needs.ts";

/** Runners in use for these tags; `key` is of `tagsKey`. */
export function activeRunners(book: Pick<RunnerIndex, "rows">, key: string): ManagedRunner[] {
  return book.rows().filter(({ state, tags }) => state === "active" && tagsKey(tags) === key);
}

/** Runners in use that no job asks for and none has claimed through. */
export function idleRunners(book: Pick<RunnerIndex, "rows" | "needs" | "unfinished">): ManagedRunner[] {
  const isIdle = ({ tags, pool }: ManagedRunner) =>
    !book.needs().has(tagsKey(tags)) && book.unfinished(pool) === 0;
  return book.rows().filter((row) => row.state === "active" && isIdle(row));
}
