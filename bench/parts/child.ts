import { type ChildProcess, fork } from "node:child_process";
import { join } from "node:path";
import { createListeners } from "../../src/base/listeners.ts";

/** One call of the parent, and the child's answer to it. */
interface Call {
  readonly call: number;
  readonly method: string;
  readonly argument: unknown;
}
interface Answer {
  readonly answer: number;
  readonly value?: unknown;
  readonly error?: string;
}
interface News {
  readonly news: unknown;
}

type Methods = Readonly<Record<string, (argument: never) => unknown>>;
type ArgumentOf<Method> = Method extends (argument: infer Argument) => unknown ? Argument : never;
type ResultOf<Method> = Method extends (argument: never) => infer Result ? Awaited<Result> : never;

/** A part of a bench in a process of its own, so that its CPU, memory and event loop are its own. */
export interface Child<Handlers extends Methods, ItsNews> {
  readonly pid: number;
  call<Name extends keyof Handlers & string>(
    name: Name,
    argument: ArgumentOf<Handlers[Name]>,
  ): Promise<ResultOf<Handlers[Name]>>;
  onNews(listener: (news: ItsNews) => void): () => void;
  stop(): Promise<void>;
}

export function startChild<Handlers extends Methods, ItsNews = never>(
  file: string,
  nodeOptions: readonly string[] = [],
): Child<Handlers, ItsNews> {
  const child = fork(file, [], {
    // As bin/firerunner starts it.
    execArgv: ["--max-semi-space-size=4", ...nodeOptions],
    env: {
      ...process.env,
      ...{ MALLOC_ARENA_MAX: "2", MALLOC_MMAP_THRESHOLD_: "16384" },
      NODE_COMPILE_CACHE: join(import.meta.dirname, "../../node_modules/.cache/firerunner"),
    },
    // What it prints is thrown away, but written: a log on a terminal would slow it down.
    stdio: ["ignore", "ignore", "inherit", "ipc"],
    serialization: "advanced",
  });
  const waiting = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  const news = createListeners<ItsNews>();
  let calls = 0;
  child.on("message", (message: Answer | News) => {
    if ("news" in message) return news.emit(message.news as ItsNews);
    const caller = waiting.get(message.answer);
    waiting.delete(message.answer);
    if (message.error !== undefined) caller?.reject(new Error(`${file}: ${message.error}`));
    else caller?.resolve(message.value);
  });
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  child.once("exit", (code) => {
    for (const { reject } of waiting.values()) reject(new Error(`${file} ended with ${code}`));
    waiting.clear();
  });
  return {
    pid: child.pid ?? 0,
    call: (method, argument) =>
      new Promise((resolve, reject) => {
        calls += 1;
        waiting.set(calls, { resolve: resolve as (value: unknown) => void, reject });
        child.send({ call: calls, method, argument } satisfies Call, (error) => error && reject(error));
      }),
    onNews: news.add,
    stop: () => stop(child, ended),
  };
}

async function stop(child: ChildProcess, ended: Promise<void>): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.disconnect();
  const timer = setTimeout(() => child.kill("SIGKILL"), 5_000);
  await ended;
  clearTimeout(timer);
}

/** The child's side: answers calls, until the parent lets go or is gone. Returns the way to tell the parent something. */
export function serveParent<ItsNews>(
  handlers: Methods,
  end: () => Promise<unknown>,
): (news: ItsNews) => void {
  process.on("message", (message: Call) => void answer(handlers, message));
  process.once("disconnect", () => {
    void end().finally(() => process.exit(0));
  });
  return (news) => send({ news });
}

async function answer(handlers: Methods, { call, method, argument }: Call): Promise<void> {
  try {
    const handler = handlers[method] as ((argument: unknown) => unknown) | undefined;
    if (!handler) throw new Error(`there is no ${method}`);
    send({ answer: call, value: await handler(argument) });
  } catch (error) {
    send({ answer: call, error: error instanceof Error ? (error.stack ?? error.message) : String(error) });
  }
}

function send(message: Answer | News): void {
  // The parent may have let go meanwhile: then nobody wants to know.
  if (process.connected) process.send?.(message, undefined, {}, () => {});
}
