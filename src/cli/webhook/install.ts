/** `webhook install`: the key first, then GitLab's hook, then its test event; each a step that is told as it is done. */

import type { Command } from "commander";
import type { Config } from "../../config/load.ts";
import { newSigningKey } from "../../gitlab/webhook-signature.ts";
import type { HookRequest, Step } from "../../operations/hook-installation/step.ts";
import { createDaemonClient, type DaemonClient } from "../client.ts";
import type { Context, Run } from "../context.ts";
import { requireWebhook, signalOnInterrupt } from "../context.ts";
import { CliError, exitCodes, isNotRunning } from "../errors.ts";
import { printFinding } from "../messages.ts";
import { type KeyChange, prepareKeyFile } from "./key-file.ts";

interface Options {
  readonly rotate?: boolean;
  readonly url?: string;
  readonly group?: string;
  readonly project?: string;
}

export function addWebhookInstall(webhook: Command, run: Run): void {
  webhook
    .command("install")
    .description("create or repair GitLab's hook, and see its test event arrive")
    .option("--rotate", "make a new signing key; the one before stays accepted")
    .option("--url <url>", "the address at which GitLab reaches the public server, instead of webhook.url")
    .option("--group <path>", "the group to put it on, instead of the configured scope")
    .option("--project <path>", "the project to put it on, instead of the configured scope")
    .action(run<Options>(async (context, _args, options) => await installWebhook(context, options)));
}

/** The command itself. Prints each step as it is done; returns an exit code. */
export async function installWebhook(context: Context, options: Options): Promise<number> {
  using interrupt = signalOnInterrupt();
  const steps: Step[] = [];
  for await (const step of installSteps(context, options, interrupt.signal)) {
    steps.push(step);
    if (!context.output.json) printFinding(context.output, step);
  }
  const isDone = steps.every(({ level }) => level !== "fail");
  context.output.result({ ok: isDone, steps }, () => context.output.line(`\n${conclusion(steps)}`));
  return isDone ? exitCodes.ok : exitCodes.failed;
}

async function* installSteps(context: Context, options: Options, signal: AbortSignal): AsyncGenerator<Step> {
  const change = await prepareKey(context, options.rotate === true);
  const config = await context.loadConfig();
  const webhook = requireWebhook(config);
  const url = options.url ?? webhook.url;
  if (url === undefined || !URL.canParse(url)) throw noUrl(options.url);
  const daemon = createDaemonClient(config.state);
  try {
    if (change) yield await keyStep(change.path, change.kind, daemon);
    const { installConfiguredHook } = await import("../../operations/hook-installation/hook-installer.ts");
    const arrivals = async (since: number) => await arrivalsAt(daemon, since);
    const request = { scope: scopeOf(webhook, options), url, arrivals, signal };
    yield* installConfiguredHook(config, webhook, request);
  } finally {
    await daemon.close();
  }
}

async function prepareKey(
  context: Context,
  rotate: boolean,
): Promise<{ path: string; kind: KeyChange } | undefined> {
  const path = await context.signingKeyFile();
  if (path === undefined) {
    if (!rotate) return undefined;
    throw new CliError(
      "cli_usage",
      "only a key in a file can be rotated, and webhook.signingKeyFile names none",
      {
        hint: "Put the key of webhook.signingKey into a file of its own and name it in webhook.signingKeyFile.",
      },
    );
  }
  const { state } = await context.loadLocalConfig();
  const kind = await prepareKeyFile(path, { rotate, newKey: newSigningKey, ownerOf: state });
  return { path, kind };
}

/** A running FireRunner must accept a new key before GitLab signs with it. */
async function keyStep(path: string, kind: KeyChange, daemon: DaemonClient): Promise<Step> {
  const name = "signing key";
  if (kind === "kept") return { name, level: "ok", message: `taken from ${path}` };
  const what =
    kind === "made"
      ? `made in ${path}`
      : `new in ${path}; the one before stays accepted until its line is deleted or the next rotation`;
  const isTold = await unlessNotRunning(daemon.post("reload"));
  return { name, level: "ok", message: isTold ? `${what}; FireRunner has read it` : what };
}

async function arrivalsAt(daemon: DaemonClient, since: number) {
  return await unlessNotRunning(daemon.deliveries({ since }));
}

async function unlessNotRunning<Result>(asked: Promise<Result>): Promise<Result | undefined> {
  return await asked.catch((error: unknown) => {
    if (isNotRunning(error)) return undefined;
    throw error;
  });
}

function scopeOf(webhook: NonNullable<Config["webhook"]>, { group, project }: Options): HookRequest["scope"] {
  if (group !== undefined && project !== undefined) {
    throw new CliError("cli_usage", "--group and --project exclude each other");
  }
  const chosen = group !== undefined || project !== undefined ? { group, project } : webhook;
  if (chosen.group !== undefined) return { kind: "group", name: chosen.group };
  if (chosen.project !== undefined) return { kind: "project", name: chosen.project };
  return { kind: "instance" };
}

function noUrl(given: string | undefined): CliError {
  const message =
    given === undefined
      ? "webhook.url is missing: GitLab must be told an address to call"
      : `“${given}” is not an address`;
  return new CliError("cli_usage", message, {
    hint: "Give the address under which GitLab reaches the public server, such as https://firerunner.example.org/webhook.",
  });
}

function conclusion(steps: readonly Step[]): string {
  if (steps.some(({ level }) => level === "fail")) return "The hook does not work yet.";
  return steps.some(({ level }) => level === "warn")
    ? "The hook is in place; what is marked could be better."
    : "The hook works.";
}
