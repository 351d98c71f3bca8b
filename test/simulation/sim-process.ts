/**
 * One life of FireRunner. Everything it does goes through guarded ports; when it is killed, no call of it is begun or answered any
 * more, which is what SIGKILL is to the world around. Each guarded call may be the last one: before it, or after it was done.
 */
export interface SimProcess {
  readonly isAlive: () => boolean;
  /** Rejects when the process dies: a connection to it is reset. */
  readonly death: Promise<never>;
  kill(): void;
  onDeath(listener: () => void): void;
  /** The port as this process sees it. Functions named in `passing` answer at once and cannot be interrupted. */
  guard<Port extends object>(port: Port, passing?: readonly (keyof Port)[]): Port;
}

class ConnectionReset extends Error {}

/** `shouldDie` is asked at each of these places, with the call's name. */
export function createSimProcess(shouldDie: (call: string) => boolean): SimProcess {
  const listeners: (() => void)[] = [];
  const answers = createAnswers();
  let alive = true;
  let reject: (error: Error) => void = () => {};
  const death = new Promise<never>((_, no) => {
    reject = no;
  });
  death.catch(() => {});

  function kill(): void {
    if (!alive) return;
    alive = false;
    reject(new ConnectionReset("the process was killed"));
    for (const listener of listeners) listener();
  }

  function survives(name: string): boolean {
    if (alive && shouldDie(name)) kill();
    return alive;
  }

  function call(
    target: object,
    name: string,
    work: (...args: unknown[]) => unknown,
    args: unknown[],
  ): Promise<unknown> {
    return new Promise((resolve, fail) => {
      if (!survives(name)) return;
      const give = answers.forCall();
      Promise.resolve(work.apply(target, args)).then(
        (value) => give(() => survives(name) && resolve(value)),
        (error) => give(() => alive && fail(error)),
      );
    });
  }

  function guard<Port extends object>(port: Port, passing: readonly (keyof Port)[] = []): Port {
    return new Proxy(port, {
      get(target, key) {
        const value: unknown = Reflect.get(target, key);
        if (typeof value !== "function") return value;
        const work = value as (...args: unknown[]) => unknown;
        if (!passing.includes(key as keyof Port))
          return (...args: unknown[]) => call(target, String(key), work, args);
        return (...args: unknown[]) => work.apply(target, args.map(whileAlive));
      },
    });
  }

  /** A listener of a dead process hears nothing. */
  function whileAlive(argument: unknown): unknown {
    if (typeof argument !== "function") return argument;
    const listener = argument as (...args: unknown[]) => unknown;
    return (...args: unknown[]) => (alive ? listener(...args) : undefined);
  }

  return { isAlive: () => alive, death, kill, onDeath: (listener) => listeners.push(listener), guard };
}

/**
 * The answers of one turn of the event loop are given at its end, in the order of their calls: what comes first is then no matter of how
 * many promises lie between a call and its answer, and a history stays the same when the program does the same in fewer steps.
 */
function createAnswers() {
  let calls = 0;
  const due: { readonly call: number; readonly give: () => unknown }[] = [];

  function giveAll(): void {
    for (const { give } of due.splice(0).toSorted((a, b) => a.call - b.call)) give();
  }

  return {
    /** To be called with the call; what it returns, with its answer. */
    forCall() {
      const call = ++calls;
      return (give: () => unknown): void => {
        if (due.length === 0) setImmediate(giveAll);
        due.push({ call, give });
      };
    },
  };
}
