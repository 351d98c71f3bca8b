/** A list of functions to call. A listener that throws is the owner's bug: it is reported and the others still run. */
export interface Listeners<T> {
  add(listener: (value: T) => void): () => void;
  emit(value: T): void;
}

export function createListeners<T>(onError: (error: unknown) => void = reportLater): Listeners<T> {
  const all = new Set<(value: T) => void>();
  return {
    add(listener) {
      all.add(listener);
      return () => all.delete(listener);
    },
    emit(value) {
      for (const listener of all) {
        try {
          listener(value);
        } catch (error) {
          onError(error);
        }
      }
    },
  };
}

function reportLater(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}
