/**
 * `hosts check`: a trial of one host, step by step. A FireRunner that runs makes it; where none runs, this process does. `image verify
 * --flintlock` makes the same trial with an image of its own.
 */

import type { Command } from "commander";
import { type Log, silentLog } from "../../base/log.ts";
import { formatDuration } from "../../base/units.ts";
import { type HostOptions, hostAt } from "../../config/hosts.ts";
import type { Config } from "../../config/load.ts";
import { isRemoteDriver } from "../../domain/drivers.ts";
import type { TrialOrder, TrialStep } from "../../views/trial-api.ts";
import { createDaemonClient } from "../client.ts";
import { type Context, type GlobalOptions, type Run, signalOnInterrupt } from "../context.ts";
import { CliError, exitCodes, isNotRunning } from "../errors.ts";
import { printFinding } from "../messages.ts";
import type { Output } from "../output.ts";

interface CheckOptions extends HostOptions, GlobalOptions {
  readonly image?: string;
}

export function addHostsCheck(hosts: Command, run: Run): void {
  hosts
    .command("check")
    .description("try a host out: connect, list, make a tiny machine, hear its guest, delete it")
    .argument("<host>", "its name in the configuration, or an address (host:port) with the options below")
    .option("--ca <file>", "the authority that signed its certificate")
    .option("--cert <file>", "our certificate, where the host asks for one")
    .option("--key <file>", "the key of our certificate")
    .option("--server-name <name>", "the name in its certificate, when it is not the one in the address")
    .option("--token-file <file>", "a file with flintlockd's --basic-auth-token")
    .option("--plaintext", "no TLS, for a flintlockd that was started with --insecure")
    .option("--token-over-plaintext", "send the token though nothing encrypts it")
    .option("--bridge <name>", "the bridge for machines, when it is not flintlockd's own")
    .option("--image <name>", "what the machine boots (default: that of the pools, or base)")
    .action(
      run<CheckOptions>(async (context, [name = ""], { image, config: _file, json: _json, ...options }) => {
        const config = await context.loadConfig();
        const host = await findHost(config, name, options);
        return await runTrial(context, config, orderOf(host, image ?? imageOf(config)));
      }),
    );
}

type Host = Config["hosts"] extends ReadonlyMap<string, infer One> ? One : never;

/** A host of the configuration by its name, or one at an address with what the configuration would say of it. */
export async function findHost(config: Config, name: string, options: HostOptions): Promise<Host> {
  if (name.includes(":")) return await hostAt(name, options);
  const [option] = Object.keys(options);
  if (option !== undefined) {
    throw new CliError("cli_usage", `${name} is a name of the configuration, which says how to reach it`, {
      hint: `Options such as --${option.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)} are for an address (host:port).`,
    });
  }
  const host = config.hosts.get(name);
  if (host) return host;
  const names = [...config.hosts.keys()].join(", ") || "none";
  throw new CliError("cli_usage", `the configuration names no host “${name}”`, {
    hint: `Hosts of vm.flintlock.hosts: ${names}. A host that is not configured is tried by its address, host:port.`,
  });
}

/** The image that machines of the driver boot, as far as the configuration has one. */
function imageOf({ kinds }: Config): string {
  return [...kinds.values()].find(({ driver }) => isRemoteDriver(driver))?.image ?? "base";
}

/** Runs a trial, in the FireRunner that runs or in its place, and prints each step as it is known. Returns an exit code. */
export async function runTrial(context: Context, config: Config, order: TrialOrder): Promise<number> {
  const { output } = context;
  using interrupt = signalOnInterrupt();
  const steps: TrialStep[] = [];
  try {
    for await (const step of trialSteps(context, config, order, interrupt.signal)) {
      steps.push(step);
      if (!output.json) printFinding(output, { ...step, message: withTime(step) });
    }
  } catch (error) {
    if (!interrupt.signal.aborted) throw error;
    output.note("not waiting any longer; what the trial made is removed");
    return exitCodes.failed;
  }
  // A trial that was cut off has no failed step, and is no success.
  const ok = steps.every(({ level }) => level !== "fail") && steps.at(-1)?.name === "gone";
  const relayMs = steps.find((step) => step.relayMs !== undefined)?.relayMs ?? null;
  output.result({ host: order.host.name, image: order.image, ok, relayMs, steps }, () =>
    output.line(`\n${conclusion(order.host.name, ok, steps)}`),
  );
  return ok ? exitCodes.ok : exitCodes.failed;
}

async function* trialSteps(
  { version, output }: Context,
  config: Config,
  order: TrialOrder,
  signal: AbortSignal,
): AsyncGenerator<TrialStep> {
  const daemon = createDaemonClient(config.state);
  try {
    yield* daemon.tryHost(order, signal);
    return;
  } catch (error) {
    if (!isNotRunning(error)) throw error;
  } finally {
    await daemon.close();
  }
  const { tryHostAlone } = await import("../../app/app.ts");
  yield* tryHostAlone(config, order, { log: notesOf(output), signal, version });
}

/** What goes wrong beside the steps, such as a machine that would not go, and connections that the relay refused. */
function notesOf({ note }: Output): Log {
  const tell = (fields: object, message: string) => note(`${message}: ${JSON.stringify(fields)}`);
  const log: Log = { ...silentLog, warn: tell, error: tell, child: () => log };
  return log;
}

/** A host with its secrets in the open, for the control socket. */
export function orderOf(host: Host, image: string): TrialOrder {
  const { name, addresses, tls, token, network } = host;
  return {
    image,
    host: {
      name,
      addresses: [...addresses],
      tls: tls
        ? {
            ca: tls.ca ?? null,
            certificate: tls.certificate ?? null,
            key: tls.key?.reveal() ?? null,
            serverName: tls.serverName ?? null,
          }
        : null,
      token: token?.reveal() ?? null,
      network: {
        bridge: network.bridge ?? null,
        addresses: network.addresses ?? null,
        gateway: network.gateway ?? null,
        nameservers: [...network.nameservers],
      },
    },
  };
}

function withTime({ message, tookMs }: TrialStep): string {
  return `${message} (${formatDuration(tookMs)})`;
}

function conclusion(host: string, ok: boolean, steps: readonly TrialStep[]): string {
  if (!ok) {
    const failed = steps.find(({ level }) => level === "fail");
    return failed ? `${host} is not ready: ${failed.name}.` : "The trial was cut off before its end.";
  }
  const skipped = steps.filter(({ level }) => level === "skip").map(({ name }) => name);
  return skipped.length === 0
    ? `${host} is ready for jobs.`
    : `${host} makes machines; not tried: ${skipped.join(", ")}.`;
}
