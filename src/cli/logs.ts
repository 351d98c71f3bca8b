import type { Command } from "commander";
import { plainJson } from "../base/text.ts";
import { withDaemon } from "./client.ts";
import type { Run } from "./context.ts";
import { signalOnInterrupt } from "./context.ts";
import { countOption } from "./options.ts";
import type { Output } from "./output.ts";

interface Options {
  readonly follow?: boolean;
  readonly kib: number;
  readonly raw?: boolean;
}

export function addLogs(program: Command, run: Run): void {
  program
    .command("logs")
    .description("the console of a machine")
    .argument("<machine>", "its id, such as fr-abcd2345 (see “firerunner machines”)")
    .option("-f, --follow", "go on until the machine is gone")
    .option("--raw", "as the machine wrote it, control characters included; not on a terminal")
    .option("-n, --kib <count>", "how much of its end", countOption, 64)
    .action(
      run<Options>(async (context, [machineId = ""], { follow = false, kib, raw = false }) => {
        using interrupt = signalOnInterrupt();
        const { signal } = interrupt;
        const { output } = context;
        const print = follow ? printAsItComes : printWhole;
        await withDaemon(context, async (daemon) => {
          const text = daemon.console(machineId, { bytes: kib * 1024, follow, signal });
          // Ctrl-C is how following ends.
          await print(raw ? { ...output, part: output.raw } : output, machineId, text).catch(
            (error: unknown) => {
              if (!signal.aborted) throw error;
            },
          );
        });
        return undefined;
      }),
    );
}

async function printWhole(output: Output, machineId: string, text: AsyncIterable<string>): Promise<void> {
  if (!output.json) return await printAsItComes(output, machineId, text);
  let whole = "";
  for await (const part of text) whole += part;
  output.result({ machineId, text: whole }, () => {});
}

async function printAsItComes(output: Output, machineId: string, text: AsyncIterable<string>): Promise<void> {
  for await (const part of text) {
    await output.part(output.json ? `${plainJson({ machineId, text: part })}\n` : part);
  }
}
