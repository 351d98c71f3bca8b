/** `logs`: what a job writes, and the console of a machine. */

import type { Command } from "commander";
import { isMachineId } from "../base/ids.ts";
import { plainJson } from "../base/text.ts";
import type { JobStory } from "../views/api.ts";
import { type DaemonClient, waitWhile, withDaemon } from "./client.ts";
import type { Run } from "./context.ts";
import { signalOnInterrupt } from "./context.ts";
import { DaemonError } from "./errors.ts";
import { countOption, jobArgument } from "./options.ts";
import type { Output } from "./output.ts";

interface Options {
  readonly follow?: boolean;
  readonly console?: boolean;
  readonly kib: number;
  readonly raw?: boolean;
}

/** What a text is about, as `--json` names it. */
type About = { readonly machineId: string } | { readonly jobId: number };

interface Source {
  readonly about: About;
  readonly text: AsyncIterable<string>;
}

const POLL_MS = 500;

export function addLogs(program: Command, run: Run): void {
  program
    .command("logs")
    .description("what a running job has written lately, or the console of a machine")
    .argument("<job|machine>", "GitLab's job id, the address of the job's page, or a machine (fr-abcd2345)")
    .option("-f, --follow", "go on until the machine is gone; of a job that has not begun: wait for it")
    .option("--console", "of a job: the console of its machine")
    .option("--raw", "as it was written, control characters included; not on a terminal")
    .option("-n, --kib <count>", "how much of its end", countOption, 64)
    .action(
      run<Options>(async (context, [word = ""], options) => {
        using interrupt = signalOnInterrupt();
        const { signal } = interrupt;
        const { follow = false, raw = false } = options;
        const { output } = context;
        const print = follow ? printAsItComes : printWhole;
        await withDaemon(context, async (daemon) => {
          try {
            const { about, text } = await sourceOf(daemon, output, word, options, signal);
            await print(raw ? { ...output, part: output.raw } : output, about, text);
          } catch (error) {
            // Ctrl-C is how following ends.
            if (!signal.aborted) throw error;
          }
        });
        return undefined;
      }),
    );
}

async function sourceOf(
  daemon: DaemonClient,
  output: Output,
  word: string,
  { follow = false, console: isConsole = false, kib }: Options,
  signal: AbortSignal,
): Promise<Source> {
  const reading = { bytes: kib * 1024, follow, signal };
  if (isMachineId(word)) return { about: { machineId: word }, text: daemon.console(word, reading) };
  const jobId = jobArgument(word);
  if (follow) await waitForBegin(daemon, output, jobId, signal);
  if (!isConsole) return { about: { jobId }, text: daemon.jobLog(jobId, reading) };
  const story = await daemon.job(jobId);
  const machineId = story && "job" in story ? story.job.machineId : null;
  if (machineId === null) throw noMachine(jobId);
  return { about: { machineId }, text: daemon.console(machineId, reading) };
}

function noMachine(jobId: number): DaemonError {
  return new DaemonError("not_found", `job ${jobId} has no machine`, {
    hint: `“firerunner why ${jobId}” says what it waits for, or how it ended.`,
  });
}

/** Until it runs and something of its log has come by, or it has ended. */
async function waitForBegin(
  daemon: DaemonClient,
  output: Output,
  jobId: number,
  signal: AbortSignal,
): Promise<void> {
  await waitWhile(output, { everyMs: POLL_MS, signal }, async () => {
    const story = await daemon.job(jobId);
    return story && (waitsFor(story) ?? (await waitsForLog(daemon, story, signal)));
  });
  signal.throwIfAborted();
}

function waitsFor(story: JobStory): string | undefined {
  if (!("job" in story)) {
    const { id, standing } = story.waiting;
    return standing === "waiting" ? `Job ${id} waits in GitLab.` : undefined;
  }
  const { id, state } = story.job;
  if (state === "claimed") return `Job ${id} waits for a machine.`;
  return state === "starting" ? `The machine of job ${id} boots.` : undefined;
}

/** A runner sends what its script has written every few seconds. */
async function waitsForLog(
  daemon: DaemonClient,
  story: JobStory,
  signal: AbortSignal,
): Promise<string | undefined> {
  if (!("job" in story) || story.job.state !== "running") return undefined;
  const { id } = story.job;
  try {
    for await (const _ of daemon.jobLog(id, { bytes: 1, follow: false, signal }));
    return undefined;
  } catch (error) {
    if (!(error instanceof DaemonError) || error.code !== "not_found") throw error;
    return `Job ${id} runs; nothing of its log has come by yet.`;
  }
}

async function printWhole(output: Output, about: About, text: AsyncIterable<string>): Promise<void> {
  if (!output.json) return await printAsItComes(output, about, text);
  let whole = "";
  for await (const part of text) whole += part;
  output.result({ ...about, text: whole }, () => {});
}

async function printAsItComes(output: Output, about: About, text: AsyncIterable<string>): Promise<void> {
  for await (const part of text) {
    await output.part(output.json ? `${plainJson({ ...about, text: part })}\n` : part);
  }
}
