import type { Clock } from "../../base/clock.ts";

/** What has been seen of the connections to one address. */
export interface History {
  noteAnswer(): void;
  /** There is no connection, or it is of no use; nothing new before the first answer. */
  noteBreak(): void;
  lastAnswerAt(): number | undefined;
  /** When an answer last came after a break: the daemon may just have been started. */
  reconnectedAt(): number | undefined;
}

export function createHistory(clock: Clock): History {
  let lastAnswerAt: number | undefined;
  let reconnectedAt: number | undefined;
  let isBroken = false;
  return {
    noteAnswer() {
      lastAnswerAt = clock.now();
      if (isBroken) reconnectedAt = lastAnswerAt;
      isBroken = false;
    },
    noteBreak() {
      isBroken = lastAnswerAt !== undefined;
    },
    lastAnswerAt: () => lastAnswerAt,
    reconnectedAt: () => reconnectedAt,
  };
}
