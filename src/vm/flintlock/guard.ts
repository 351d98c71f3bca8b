import type { Clock } from "../../base/clock.ts";
import { SECOND_MS } from "../../base/units.ts";
import type { HostProblem } from "../driver.ts";
import type { FlintlockClient } from "./client.ts";
import { FlintlockError } from "./errors.ts";
import { hostFailure } from "./failure.ts";

const FAILURES_TO_OPEN = 3;
const FIRST_PAUSE_MS = 2 * SECOND_MS;
const LONGEST_PAUSE_MS = 30 * SECOND_MS;

export interface GuardedClient extends FlintlockClient {
  /** What the last call failed with, if the host itself was the reason. */
  trouble(): HostProblem | undefined;
}

/**
 * Leaves a host alone that failed several times in a row: calls then fail at once, without the network. After a pause one call tries
 * again; the pauses grow while it goes on failing.
 */
export function guardClient(client: FlintlockClient, host: string, clock: Clock): GuardedClient {
  let last: FlintlockError | undefined;
  const breaker = createBreaker(clock);

  async function call<T>(work: () => Promise<T>): Promise<T> {
    const settle = breaker.begin();
    if (settle === undefined) throw leftAlone(host, last);
    try {
      const value = await work();
      last = undefined;
      settle("well");
      return value;
    } catch (error) {
      last = troubleAfter(error);
      settle(isOfHost(error) ? "failed" : "well");
      throw error;
    }
  }

  /** An answer that is an error comes from a host that is well; what was called off on our side says nothing of it. */
  function troubleAfter(error: unknown): FlintlockError | undefined {
    if (isOfHost(error)) return error;
    return error instanceof FlintlockError ? undefined : last;
  }

  return {
    create: (...args) => call(() => client.create(...args)),
    delete: (...args) => call(() => client.delete(...args)),
    list: (...args) => call(() => client.list(...args)),
    reconnectedAt: client.reconnectedAt,
    close: client.close,
    trouble: () => last && { problem: last.message, hint: last.hint },
  };
}

interface Breaker {
  /** Returns what is to be told of the call's end; undefined when no call may be made now. */
  begin(): ((how: "well" | "failed") => void) | undefined;
}

/** Closed, it lets every call through; open, none; and after a pause a single one, by which it closes or stays open for longer. */
function createBreaker(clock: Clock): Breaker {
  let failures = 0;
  let pauses = 0;
  let openUntil: number | undefined;
  let isTrying = false;

  function open(): void {
    openUntil = clock.now() + Math.min(FIRST_PAUSE_MS * 2 ** pauses, LONGEST_PAUSE_MS);
    pauses += 1;
  }

  function settleTrial(how: "well" | "failed"): void {
    isTrying = false;
    if (how === "failed") {
      open();
      return;
    }
    openUntil = undefined;
    pauses = 0;
    failures = 0;
  }

  function settle(how: "well" | "failed"): void {
    failures = how === "failed" ? failures + 1 : 0;
    // Calls that were under way when it opened fail together with the one that opened it.
    if (failures >= FAILURES_TO_OPEN && openUntil === undefined) open();
  }

  return {
    begin() {
      if (openUntil === undefined) return settle;
      if (isTrying || clock.now() < openUntil) return undefined;
      isTrying = true;
      return settleTrial;
    },
  };
}

function isOfHost(error: unknown): error is FlintlockError {
  return error instanceof FlintlockError && error.about === "host";
}

function leftAlone(host: string, last: FlintlockError | undefined): FlintlockError {
  const hint = last?.hint ?? "it is asked again after some seconds";
  const failure = hostFailure("vm_host_avoided", "it is left alone for some seconds", hint);
  const message = `the host ${host} is left alone for some seconds after it failed several times`;
  return new FlintlockError(failure, message, { cause: last, mayHaveWorked: false });
}
