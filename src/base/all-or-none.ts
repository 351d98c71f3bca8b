/**
 * Does it for all of them side by side, with a signal that the first failure aborts for the others. Settles when all have ended: with the
 * results in order, or with what failed first, which is the reason of `signal` where that was aborted.
 */
export async function allOrNone<Input, Result>(
  inputs: readonly Input[],
  signal: AbortSignal,
  act: (input: Input, signal: AbortSignal) => Promise<Result>,
): Promise<Result[]> {
  const stop = new AbortController();
  const either = AbortSignal.any([signal, stop.signal]);
  const all = inputs.map((input) => act(input, either));
  try {
    return await Promise.all(all);
  } catch (error) {
    stop.abort(error);
    await Promise.allSettled(all);
    signal.throwIfAborted();
    throw error;
  }
}
