/** One thing at a time for each machine; different machines do not wait for each other. */
export interface KeyedMutex {
  take<T>(id: string, work: () => Promise<T>): Promise<T>;
}

export function createKeyedMutex(): KeyedMutex {
  const last = new Map<string, Promise<unknown>>();
  return {
    async take(id, work) {
      const turn = (last.get(id) ?? Promise.resolve()).then(work);
      const settled = turn.catch(() => {});
      last.set(id, settled);
      try {
        return await turn;
      } finally {
        if (last.get(id) === settled) last.delete(id);
      }
    },
  };
}
