/** `events`: the log of all that happens, and `retry`: GitLab's own, for a job that failed by no fault of its script. */

import type { Command } from "commander";
import { plainJson, plainText } from "../base/text.ts";
import type { EventView } from "../views/api.ts";
import { withDaemon } from "./client.ts";
import { type Run, signalOnInterrupt } from "./context.ts";
import { clockTime } from "./messages.ts";
import { countOption, jobArgument } from "./options.ts";
import type { Output } from "./output.ts";

interface Options {
  readonly follow?: boolean;
  readonly count: number;
}

export function addEvents(program: Command, run: Run): void {
  program
    .command("events")
    .description("what has happened lately, of all jobs, machines and hosts")
    .option("-f, --follow", "go on with what happens, until Ctrl-C; with --json a line for each")
    .option("-n, --count <count>", "how many of the last", countOption, 50)
    .action(
      run<Options>(async (context, _args, { follow = false, count }) => {
        using interrupt = signalOnInterrupt();
        const { output } = context;
        await withDaemon(context, async (daemon) => {
          const events = await daemon.events({ last: Math.min(count, 1_000) });
          if (!follow) return output.result({ events }, () => printAll(output, events));
          for (const event of events) await printOne(output, event);
          await daemon.followEvents(events.at(-1)?.seq ?? 0, interrupt.signal, (event) =>
            printOne(output, event),
          );
        });
        return undefined;
      }),
    );
}

async function printOne(output: Output, event: EventView): Promise<void> {
  if (output.json) await output.part(`${plainJson(event)}\n`);
  else print(output, event);
}

function printAll(output: Output, events: readonly EventView[]): void {
  for (const event of events) print(output, event);
}

function print(output: Output, { at, jobId, text }: EventView): void {
  const time = clockTime(at);
  const job = jobId === null ? "" : `job ${jobId}`;
  const head = `${output.paint("dim", time)}  ${job.padEnd(JOB_WIDTH)}  `;
  output.line(`${head}${plainText(text)}`, [time.length + JOB_WIDTH + 4, 4]);
}

const JOB_WIDTH = 12;

export function addRetry(program: Command, run: Run): void {
  program
    .command("retry")
    .description("have GitLab run a job anew that failed by no fault of its own script")
    .argument("<job>", "GitLab's job id, or the address of the job's page")
    .action(
      run(async (context, [word]) => {
        const id = jobArgument(word);
        const retried = await withDaemon(context, async (daemon) => await daemon.retryJob(id));
        const { output } = context;
        output.result(retried, () => {
          output.line(`GitLab runs it anew as job ${retried.id}: ${plainText(retried.webUrl)}`);
          if (retried.note !== null) output.line(`  it may fail again: ${plainText(retried.note)}`);
        });
        return undefined;
      }),
    );
}
