/**
 * `init`: a guided set-up. init/run-init.ts asks (init/answers.ts), checks each answer (operations/setup), and writes all files at the very
 * end (init/new-files.ts); here are the options, who is asked, and what comes next.
 */

import { resolve } from "node:path";
import type { Command } from "commander";
import { loadLocalConfig } from "../config/load.ts";
import { newSigningKey } from "../gitlab/webhook-signature.ts";
import { type Context, createContext, type GlobalOptions, type Run, signalOnInterrupt } from "./context.ts";
import { CliError } from "./errors.ts";
import type { AnswerOptions } from "./init/answers.ts";
import { canceled, createSilentPrompter, type Prompter } from "./init/prompter.ts";
import { type InitResult, runInit } from "./init/run-init.ts";
import { installWebhook } from "./webhook/install.ts";

interface Options extends AnswerOptions {
  readonly force?: true;
  readonly install?: boolean;
}

export function addInit(program: Command, run: Run): void {
  program
    .command("init")
    .description("write a configuration: asks, checks each answer with GitLab, and writes at the end")
    .option("--url <url>", "GitLab's address")
    .option("--ca-file <file>", "certificate of a private authority behind GitLab's (PEM)")
    .option("--token-file <file>", "where an access token of GitLab's API stands")
    .option("--group <path>", "serve the jobs of a group (path or number)")
    .option("--project <path>", "serve the jobs of one project (path or number)")
    .option("--instance", "serve the whole GitLab")
    .option(
      "--webhook-url <url>",
      "the address under which GitLab reaches FireRunner; none: jobs are found by looking",
    )
    .option("--listen <address>", "where to listen: host:port with TLS, http://host:port behind a proxy")
    .option("--certificate <file>", "certificate of that address (PEM)")
    .option("--certificate-key <file>", "its private key (PEM)")
    .option("--install", "install the webhook in GitLab at once, without asking")
    .option("--no-install", "do not, without asking")
    .option("--force", "replace files that are there, without asking")
    .action(run<Options>(init));
}

async function init(
  context: Context,
  _args: readonly string[],
  options: Options & GlobalOptions,
): Promise<number | undefined> {
  const { output, env } = context;
  if (output.json && options.install) {
    throw new CliError("cli_usage", "--json and --install exclude each other: each has a result of its own", {
      hint: "Run “firerunner webhook install --json” afterwards.",
    });
  }
  using interrupt = signalOnInterrupt();
  const { createSetupChecks } = await import("../operations/setup-checks.ts");
  // There is no configuration yet: the proxy is that of the environment.
  const { proxy } = await loadLocalConfig({ env });
  const asker = await createAsker(context, interrupt.signal);
  const configFile = resolve(options.config ?? (env["FIRERUNNER_CONFIG"] || defaultFile()));
  const given = { ...fromEnvironment(env, options), ...options };
  const result = await runInit(
    { ...given, configFile, force: options.force === true, newSigningKey },
    { asker, checks: createSetupChecks(proxy), signal: interrupt.signal },
  ).catch((error: unknown) => {
    throw interrupt.signal.aborted ? canceled() : error;
  });
  const wantsInstall = result.hasListener && (options.install ?? (await offerInstall(asker)));
  // `hasDoor` is what the release before printed: to be left out with the next one.
  output.result({ ok: true, ...result, hasDoor: result.hasListener }, () =>
    printResult(context, result, wantsInstall),
  );
  if (!wantsInstall) return undefined;
  return await installWebhook(createContext(context, { ...options, config: result.configFile }), {});
}

/** Answers that the environment gives already, as it would to the configuration. */
function fromEnvironment(env: NodeJS.ProcessEnv, options: Options): AnswerOptions {
  const given = (name: string) => env[`FIRERUNNER_${name}`] || undefined;
  const hasScope = [options.group, options.project, options.instance].some((each) => each !== undefined);
  return {
    ...(hasScope ? {} : { group: given("WEBHOOK__GROUP"), project: given("WEBHOOK__PROJECT") }),
    url: given("GITLAB__URL"),
    caFile: given("GITLAB__CA_FILE"),
    tokenFile: given("WEBHOOK__API_TOKEN_FILE"),
    tokenText: given("WEBHOOK__API_TOKEN"),
    webhookUrl: given("WEBHOOK__URL"),
  };
}

function defaultFile(): string {
  return process.getuid?.() === 0 ? "/etc/firerunner/config.yaml" : "firerunner.yaml";
}

async function createAsker({ output, stdin, stderr }: Context, signal: AbortSignal): Promise<Prompter> {
  if (output.json || stdin?.isTTY !== true || stderr.isTTY !== true) return createSilentPrompter(output);
  // Loaded only here: no other command asks anything.
  const { createTerminalPrompter } = await import("./init/terminal-prompter.ts");
  return createTerminalPrompter({ input: stdin, output: stderr, signal });
}

async function offerInstall(asker: Prompter): Promise<boolean> {
  if (!asker.canAsk) return false;
  return await asker.confirm({
    message: "Make the webhook in GitLab now? (It can be tried once FireRunner runs.)",
    option: "--install",
    initial: true,
  });
}

function printResult(
  { output }: Context,
  { configFile, files, hasListener }: InitResult,
  installs: boolean,
): void {
  for (const file of files) output.line(`wrote ${file}`);
  const command = (words: string) => `firerunner --config ${configFile} ${words}`;
  const steps = [
    [command("image build containers"), "make the image that machines boot"],
    [command("doctor"), "see whether this computer is ready"],
    [command("start"), "run; as a service with Restart=always and KillMode=process"],
    ...(hasListener
      ? [[command("webhook install"), installs ? "see GitLab's test event arrive" : "make GitLab call"]]
      : []),
  ];
  output.line("\nNext:");
  for (const [index, [words = "", why = ""]] of steps.entries()) {
    output.line(`  ${index + 1}. ${why}:`);
    output.exact(`     ${words}`);
  }
  output.line("\nThen give a job the tag firecracker-2cpu-4gb.");
}
