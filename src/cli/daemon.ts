/** `drain` and `reload`: what the running FireRunner is told to do. */

import type { Command } from "commander";
import { systemClock } from "../base/clock.ts";
import { type DaemonClient, withDaemon } from "./client.ts";
import { type Context, type Run, signalOnInterrupt } from "./context.ts";
import { exitCodes } from "./errors.ts";

const POLL_MS = 1_000;

interface Options {
  readonly wait?: boolean;
  readonly undo?: boolean;
}

export function addDrain(program: Command, run: Run): void {
  program
    .command("drain")
    .description("take no new jobs; running ones go on")
    .option("-w, --wait", "wait until no job and no machine is left")
    .option("-u, --undo", "take jobs again")
    .action(
      run<Options>(async (context, _args, { wait, undo }) => {
        const { output } = context;
        return await withDaemon(context, async (daemon) => {
          const messages = await daemon.post(undo ? "resume" : "drain");
          if (!wait || undo) {
            output.result({ messages }, () => messages.forEach((message) => void output.line(message)));
            return exitCodes.ok;
          }
          for (const message of messages) output.note(message);
          return await waitUntilIdle(context, daemon);
        });
      }),
    );
}

export function addReload(program: Command, run: Run): void {
  program
    .command("reload")
    .description("make FireRunner read its configuration again (as SIGHUP does) and say what changed")
    .action(
      run(async (context) => {
        const { output } = context;
        const messages = await withDaemon(context, async (daemon) => await daemon.post("reload"));
        output.result({ messages }, () => messages.forEach((message) => void output.line(message)));
        return undefined;
      }),
    );
}

async function waitUntilIdle({ output }: Context, daemon: DaemonClient): Promise<number> {
  using interrupt = signalOnInterrupt();
  let told = "";
  while (!interrupt.signal.aborted) {
    const { unfinished, liveMachines } = await daemon.status();
    if (unfinished.length === 0 && liveMachines === 0) {
      output.result({ idle: true }, () => output.line("nothing is left to do"));
      return exitCodes.ok;
    }
    const words = `${unfinished.length} jobs and ${liveMachines} machines are left`;
    if (words !== told) output.note(words);
    told = words;
    await systemClock.sleep(POLL_MS, interrupt.signal).catch(() => {});
  }
  output.note("not waiting any longer; FireRunner goes on draining");
  return exitCodes.failed;
}
