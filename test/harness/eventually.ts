/** Asks again until `question` gives something, or throws what was hoped for. */
export async function eventually<T>(
  hope: string,
  question: () => Promise<T | undefined | false> | T | undefined | false,
  timeoutMs = 30_000,
): Promise<T> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const answer = await question();
    if (answer !== undefined && answer !== false) return answer;
    if (Date.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${hope}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}
