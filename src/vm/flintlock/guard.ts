import { CircuitState, ConsecutiveBreaker, circuitBreaker, handleWhen } from "cockatiel";
import type { Clock } from "../../base/clock.ts";
import { SECOND_MS } from "../../base/units.ts";
import type { HostProblem } from "../driver.ts";
import type { FlintlockClient } from "./client.ts";
import { FlintlockError } from "./errors.ts";
import { hostFailure } from "./failure.ts";

const FAILURES_TO_OPEN = 3;
const FIRST_REST_MS = 2 * SECOND_MS;
const LONGEST_REST_MS = 30 * SECOND_MS;

export interface GuardedClient extends FlintlockClient {
  /** What the last call failed with, if the host itself was the reason. */
  trouble(): HostProblem | undefined;
}

/**
 * Leaves a host alone that failed several times in a row: calls then fail at once, without the network. After a rest one call tries
 * again; the rests grow while it goes on failing.
 */
export function guardClient(client: FlintlockClient, host: string, clock: Clock): GuardedClient {
  // The breaker's own time is the computer's; ours decides when it may try again.
  const breaker = circuitBreaker(handleWhen(isOfHost), {
    halfOpenAfter: 0,
    breaker: new ConsecutiveBreaker(FAILURES_TO_OPEN),
  });
  let last: FlintlockError | undefined;
  let rests = 0;
  let restUntil = 0;
  breaker.onBreak(() => {
    restUntil = clock.now() + Math.min(FIRST_REST_MS * 2 ** rests, LONGEST_REST_MS);
    rests += 1;
  });
  breaker.onReset(() => {
    rests = 0;
  });

  function mayCall(): boolean {
    if (breaker.state === CircuitState.Closed) return true;
    return breaker.state === CircuitState.Open && clock.now() >= restUntil;
  }

  async function call<T>(work: () => Promise<T>): Promise<T> {
    if (!mayCall()) throw leftAlone(host, last);
    const outcome = await breaker.execute(async () => await settle(work));
    if ("error" in outcome) throw outcome.error;
    return outcome.value;
  }

  async function settle<T>(work: () => Promise<T>): Promise<{ value: T } | { error: unknown }> {
    try {
      const value = await work();
      last = undefined;
      return { value };
    } catch (error) {
      if (isOfHost(error)) {
        last = error;
        throw error;
      }
      // The host answered, if not what was hoped for.
      if (error instanceof FlintlockError) last = undefined;
      return { error };
    }
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

function isOfHost(error: unknown): error is FlintlockError {
  return error instanceof FlintlockError && error.about === "host";
}

function leftAlone(host: string, last: FlintlockError | undefined): FlintlockError {
  const hint = last?.hint ?? "it is asked again after some seconds";
  const failure = hostFailure("vm_host_avoided", "it is left alone for some seconds", hint);
  const message = `the host ${host} is left alone for some seconds after it failed several times`;
  return new FlintlockError(failure, message, { cause: last, mayHaveWorked: false });
}
