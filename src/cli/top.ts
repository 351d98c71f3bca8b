/** `top`: jobs, machines, hosts and pools as they come and go, on a terminal. Reads once a second; what is drawn and what keys do is in top/. */

import type { Command } from "commander";
import { systemClock } from "../base/clock.ts";
import { withDeadline } from "../base/deadline.ts";
import { describeError } from "../base/errors.ts";
import { SECOND_MS } from "../base/units.ts";
import { createWaker } from "../base/wake-loop.ts";
import { createDaemonClient, type DaemonClient } from "./client.ts";
import { type Context, type Run, signalOnInterrupt } from "./context.ts";
import { CliError, isAway, NoAnswer } from "./errors.ts";
import { hasColours } from "./output.ts";
import { snapshotOf } from "./top/rows.ts";
import { pageOf, screenOf } from "./top/screen.ts";
import { atStart, type Key, press, type TopState, type Wish } from "./top/state.ts";
import { type KeyStream, openTerminal } from "./top/terminal.ts";
import { panelText } from "./top/texts.ts";

const ANSWER_LIMIT_MS = 5 * SECOND_MS;
/** The command line's own list of machines has as many. */
const MOST_MACHINES = 10_000;

export function addTop(program: Command, run: Run): void {
  program
    .command("top")
    .description("jobs, machines, hosts and pools as they come and go, on a terminal")
    .action(
      run(async (context) => {
        const stdin = terminalOf(context);
        const { state } = await context.loadLocalConfig();
        const daemon = createDaemonClient(state);
        try {
          await watch(context, stdin, daemon);
        } finally {
          await daemon.close();
        }
        return undefined;
      }),
    );
}

function terminalOf({ stdin, stdout, output }: Context): KeyStream {
  if (stdin?.isTTY && stdout.isTTY === true && !output.json) return stdin;
  throw new CliError("cli_usage", "“top” draws on a terminal, and this is none", {
    hint: "For files, pipes and programs there are “firerunner status”, “jobs”, “machines” and “hosts”, all with --json too.",
  });
}

async function watch({ stdout, env }: Context, stdin: KeyStream, daemon: DaemonClient): Promise<void> {
  using interrupt = signalOnInterrupt();
  const over = new AbortController();
  const signal = AbortSignal.any([interrupt.signal, over.signal]);
  const isColoured = hasColours(stdout, env);
  let state: TopState = atStart;
  const waker = createWaker(systemClock);

  function show(next: TopState): void {
    state = next;
    terminal.draw(screenOf(state, terminal.size(), isColoured));
  }

  function pressed(key: Key): void {
    const { state: next, wish } = press(state, key, pageOf(terminal.size(), state.panel));
    show(next);
    if (wish?.kind === "quit") over.abort();
    else if (wish?.kind === "read") waker.wake("key");
    else if (wish) void act(wish).then(() => waker.wake("done"));
  }

  async function act(wish: Extract<Wish, { host: unknown }>): Promise<void> {
    const { kind, host } = wish;
    const done = host === undefined ? daemon.post(kind) : daemon.host(host, kind);
    const message = await done.then((messages) => messages.join("; "), describeError);
    show({ ...state, message });
  }

  /** All that is shown. What a key has changed meanwhile stays as it is. */
  async function read(): Promise<void> {
    try {
      await withDeadline(
        systemClock,
        { limitMs: ANSWER_LIMIT_MS, parent: signal, late, cleanUpMs: 0 },
        async () => {
          const { panel: asked } = state;
          const [status, machines, lines] = await Promise.all([
            daemon.status(),
            daemon.machines({ live: true, limit: MOST_MACHINES }),
            asked && panelText(daemon, asked, terminal.size().columns, signal),
          ]);
          const { panel } = state;
          const isSame = panel?.kind === asked?.kind && panel?.title === asked?.title;
          show({
            ...state,
            snapshot: snapshotOf({ status, machines, at: systemClock.now() }),
            problem: undefined,
            panel: panel && isSame ? { ...panel, lines } : panel,
          });
        },
      );
    } catch (error) {
      if (signal.aborted) return;
      if (!isAway(error)) throw error;
      show({ ...state, problem: `${error.message}; it is tried again` });
    }
  }

  using terminal = openTerminal({
    ...{ stdin, stdout, onKey: pressed, onResize: () => show(state), onEnd: () => over.abort() },
  });
  show(state);
  while (!signal.aborted) {
    await read();
    await waker.next(SECOND_MS, signal);
  }
}

const late = () => new NoAnswer("FireRunner does not answer");
