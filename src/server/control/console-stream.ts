interface Console {
  console(machineId: string, maxBytes: number): Promise<string>;
  followConsole(machineId: string, signal: AbortSignal): AsyncIterable<string>;
}

/**
 * The end of a console and then what comes. Following begins before the end is read, so that nothing falls between the
 * two: a line may come twice, none is lost.
 */
export async function* tailThenFollow(
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
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    await following.return?.();
  }
}
