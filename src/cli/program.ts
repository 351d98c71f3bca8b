/**
 * The command line: all commands, with the options that each of them has. A command is a file of this folder, which adds itself to the
 * program; an action gets a context (context.ts) and returns an exit code, and whatever it throws is printed here, with what to do.
 */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Command, CommanderError } from "commander";
import { z } from "zod";
import { addCache } from "./cache.ts";
import { addCi } from "./ci.ts";
import { addConfig } from "./config.ts";
import { createContext, type GlobalOptions, type Run, type Surroundings } from "./context.ts";
import { addDrain, addReload } from "./daemon.ts";
import { addDemo } from "./demo.ts";
import { addDoctor } from "./doctor.ts";
import { exitCodeOf, exitCodes } from "./errors.ts";
import { addEvents, addRetry } from "./events.ts";
import { addHosts } from "./hosts.ts";
import { addImage } from "./image.ts";
import { addInit } from "./init.ts";
import { addJobs } from "./jobs.ts";
import { addLogs } from "./logs.ts";
import { addMachines } from "./machines.ts";
import { printError, screenWidth, writeLines } from "./output.ts";
import { addRunner } from "./runner.ts";
import { addStart } from "./start.ts";
import { addStatus } from "./status.ts";
import { addTop } from "./top.ts";
import { addUsage } from "./usage.ts";
import { addWebhook } from "./webhook.ts";
import { addWhy } from "./why.ts";

const PackageFile = z.object({ version: z.string() });

/** Runs the command line this process was started with. */
export async function runFromProcess(): Promise<number> {
  const root = join(import.meta.dirname, "../..");
  const { version } = PackageFile.parse(JSON.parse(readFileSync(join(root, "package.json"), "utf8")));
  return await runCli({
    argv: process.argv.slice(2),
    env: process.env,
    stdin: process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
    version,
    executable: [process.execPath, join(root, "src/main.ts")],
  });
}

const epilogue = `
Exit codes: 0 ok, 1 failed, 2 wrong usage or configuration,
            3 FireRunner does not run, 4 no such job, machine, runner or image.
docs/cli.md has the details.`;

/** Runs one command line to its end and returns its exit code. Never throws: a failure is printed, with what to do. */
export async function runCli(surroundings: Surroundings): Promise<number> {
  let code: number = exitCodes.ok;
  const run: Run =
    (action) =>
    async (...given) => {
      const command = given.at(-1) as Command;
      const options = command.optsWithGlobals();
      const context = createContext(surroundings, options as GlobalOptions);
      code = (await action(context, command.args, options as never)) ?? exitCodes.ok;
    };
  const program = createProgram(surroundings, run);
  try {
    await program.parseAsync([...surroundings.argv], { from: "user" });
    return code;
  } catch (error) {
    // Commander has printed its own refusals already, with the nearest command or option.
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
    printError(error, surroundings);
    return exitCodeOf(error);
  }
}

function createProgram(surroundings: Surroundings, run: Run): Command {
  const { stdout, stderr, version } = surroundings;
  const program = new Command("firerunner")
    .description("Runs every GitLab CI/CD job in a fresh microVM of its own.")
    .version(version, "-V, --version", "print the version")
    .option(
      "-c, --config <file>",
      "configuration (default: $FIRERUNNER_CONFIG, /etc/firerunner/config.yaml, ./firerunner.yaml)",
    )
    .option("--json", "print results as JSON")
    .helpOption("-h, --help", "print help for a command")
    .helpCommand(false)
    .showSuggestionAfterError()
    .showHelpAfterError("“firerunner --help” lists the commands and options.")
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({
      writeOut: (text) => void stdout.write(text),
      writeErr: (text) => writeLines(stderr, text.replace(/^error: /, "firerunner: ").replace(/\n$/, "")),
      getOutHelpWidth: () => screenWidth(stdout),
      getErrHelpWidth: () => screenWidth(stderr),
    })
    .exitOverride()
    .addHelpText("after", epilogue);
  for (const add of [
    addInit,
    addStart,
    addStatus,
    addTop,
    addJobs,
    addMachines,
    addHosts,
    addUsage,
    addWhy,
    addEvents,
    addRetry,
    addCi,
    addLogs,
    addRunner,
    addWebhook,
    addDrain,
    addReload,
    addDoctor,
    addConfig,
    addImage,
    addCache,
    addDemo,
  ]) {
    add(program, run);
  }
  return program;
}
