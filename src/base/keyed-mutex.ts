/** One thing at a time for each key, in the order of asking; different keys do not wait for each other. */
export interface KeyedMutex {
  /** Runs `work` when all that was asked for before under this key has ended, well or not. Settles as `work` does. */
  run<T>(key: string, work: () => Promise<T>): Promise<T>;
}

export function createKeyedMutex(): KeyedMutex {
  const last = new Map<string, Promise<unknown>>();
  return {
    async run(key, work) {
      const mine = (last.get(key) ?? Promise.resolve()).then(work);
      const settled = mine.catch(() => {});
      last.set(key, settled);
      try {
        return await mine;
      } finally {
        if (last.get(key) === settled) last.delete(key);
      }
    },
  };
}

/** One thing at a time, in the order of asking. */
export type Mutex = <T>(work: () => Promise<T>) => Promise<T>;

export function createMutex(): Mutex {
  const mutex = createKeyedMutex();
  return (work) => mutex.run("", work);
}
