/**
 * Asks every host what it holds, so that one that does not answer holds up nobody: a round waits for it once, for a moment. Its
 * answer counts whenever it comes, since it is kept with what was known when the question was asked.
 */

import type { Clock } from "../base/clock.ts";
import { atMost, withDeadline } from "../base/deadline.ts";
import { describeError } from "../base/errors.ts";
import { formatDuration } from "../base/units.ts";
import type { Capacity } from "../domain/size.ts";
import type { DriverMachine, Fleet, VmDriver } from "../vm/driver.ts";
import { limitOf } from "./errors.ts";

/** How long a round waits for hosts that answered the last time. */
const PATIENCE_MS = 1_000;
/** A question that has no answer by now gets none. */
const ANSWER_LIMIT_MS = 5_000;

export interface HostAnswer {
  readonly driver: VmDriver;
  /** Undefined where the host could not tell; `problem` says why. */
  readonly listed: readonly DriverMachine[] | undefined;
  readonly capacity: Capacity | undefined;
  readonly problem: string | undefined;
  /** Machines that had been started before the host was asked. */
  readonly settled: ReadonlySet<string>;
}

export interface HostLists {
  /** What each host answers, by key. `settled`: the machines that have been started by now. */
  ask(settled: ReadonlySet<string>, signal: AbortSignal): Promise<ReadonlyMap<string, HostAnswer>>;
}

export interface HostListsDeps {
  readonly fleet: Pick<Fleet, "hosts">;
  readonly clock: Clock;
  /** A host answers for which no round has waited. */
  readonly onLateAnswer: (key: string) => void;
}

interface Question {
  readonly driver: VmDriver;
  readonly settled: ReadonlySet<string>;
  readonly askedAt: number;
  done: Promise<void>;
  answer: HostAnswer | undefined;
}

const nobody: ReadonlySet<string> = new Set();

export function createHostLists({ fleet, clock, onLateAnswer }: HostListsDeps): HostLists {
  const open = new Map<string, Question>();
  /** Hosts that let the last round wait for nothing. */
  const late = new Set<string>();

  function begin(key: string, driver: VmDriver, settled: ReadonlySet<string>, signal: AbortSignal): Question {
    const question: Question = {
      driver,
      settled,
      askedAt: clock.now(),
      done: Promise.resolve(),
      answer: undefined,
    };
    question.done = answerOf(clock, key, driver, signal).then((answer) => {
      question.answer = { ...answer, driver, settled };
      if (late.has(key) && open.get(key) === question) onLateAnswer(key);
    });
    open.set(key, question);
    return question;
  }

  /** The answer, if there is one by now; another question is then due. */
  function take(key: string, driver: VmDriver): HostAnswer {
    const question = open.get(key);
    if (question?.answer) {
      open.delete(key);
      if (question.answer.listed) late.delete(key);
      return question.answer;
    }
    late.add(key);
    const forMs = clock.now() - (question?.askedAt ?? clock.now());
    const problem = `it was asked for its machines ${formatDuration(forMs)} ago and has not answered`;
    return { driver, listed: undefined, capacity: undefined, problem, settled: nobody };
  }

  async function ask(settled: ReadonlySet<string>, signal: AbortSignal) {
    const hosts = fleet.hosts();
    for (const key of [...open.keys(), ...late])
      if (open.get(key)?.driver !== hosts.get(key)) {
        open.delete(key);
        late.delete(key);
      }
    const awaited: Promise<void>[] = [];
    for (const [key, driver] of hosts) {
      const question = open.get(key) ?? begin(key, driver, settled, signal);
      if (!late.has(key)) awaited.push(question.done);
    }
    await atMost(clock, PATIENCE_MS, Promise.all(awaited));
    return new Map([...hosts].map(([key, driver]) => [key, take(key, driver)]));
  }

  return { ask };
}

type Told = Pick<HostAnswer, "listed" | "capacity" | "problem">;

async function answerOf(clock: Clock, key: string, driver: VmDriver, signal: AbortSignal): Promise<Told> {
  const doing = `asking ${key} for its machines`;
  try {
    return await withDeadline(clock, limitOf(doing, ANSWER_LIMIT_MS, signal), async (each) => {
      const [list, capacity] = await Promise.allSettled([driver.list(each), driver.capacity()]);
      const failed = [list, capacity].find(({ status }) => status === "rejected");
      return {
        listed: list.status === "fulfilled" ? list.value : undefined,
        capacity: capacity.status === "fulfilled" ? capacity.value : undefined,
        problem: failed?.status === "rejected" ? describeError(failed.reason) : undefined,
      };
    });
  } catch (error) {
    return { listed: undefined, capacity: undefined, problem: describeError(error) };
  }
}
