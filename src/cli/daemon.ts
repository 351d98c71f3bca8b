/** `drain` and `reload`: what the running FireRunner is told to do. */

import type { Command } from "commander";
import { type DaemonClient, waitUntilDone, withDaemon } from "./client.ts";
import type { Context, Run } from "./context.ts";
import { exitCodes } from "./errors.ts";
import { printMessages } from "./messages.ts";

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
            printMessages(output, messages);
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
        printMessages(output, messages);
        return undefined;
      }),
    );
}

async function waitUntilIdle(context: Context, daemon: DaemonClient): Promise<number> {
  const { output } = context;
  const isIdle = await waitUntilDone(context, daemon, ({ unfinished, liveMachines }) =>
    unfinished.length === 0 && liveMachines === 0
      ? undefined
      : `${unfinished.length} jobs and ${liveMachines} machines are left`,
  );
  if (isIdle) output.result({ idle: true }, () => output.line("nothing is left to do"));
  else output.note("not waiting any longer; FireRunner goes on draining");
  return isIdle ? exitCodes.ok : exitCodes.failed;
}
