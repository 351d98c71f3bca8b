/**
 * Which runners GitLab was told, by this process, what they are to be. The configuration may have changed while nobody ran, and
 * people change runners by hand: so each is told once, and again when the configuration changes.
 */
export interface RunnerSettings {
  isTold(key: string, isProtected: boolean): boolean;
  noteTold(key: string, isProtected: boolean): void;
  /** Forgets runners that are no more. */
  keepOnly(keys: ReadonlySet<string>): void;
}

export function createRunnerSettings(): RunnerSettings {
  const told = new Map<string, boolean>();
  return {
    isTold: (key, isProtected) => told.get(key) === isProtected,
    noteTold: (key, isProtected) => void told.set(key, isProtected),
    keepOnly(keys) {
      for (const key of told.keys()) if (!keys.has(key)) told.delete(key);
    },
  };
}
