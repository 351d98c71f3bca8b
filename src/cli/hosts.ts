import type { Command } from "commander";
import type { HostStatus } from "../views/api.ts";
import { type DaemonClient, waitUntilDone, withDaemon } from "./client.ts";
import type { Context, Run } from "./context.ts";
import { exitCodes } from "./errors.ts";
import { addHostsCheck } from "./hosts/check.ts";
import { hostStateText, printMessages, takenCells } from "./messages.ts";
import type { Output } from "./output.ts";

export function addHosts(program: Command, run: Run): void {
  const hosts = program
    .command("hosts")
    .description("where machines run: what each host has, what is taken, and what is wrong with it")
    .action(run(list));
  hosts
    .command("drain")
    .description("start nothing new on a host, and wait until its machines have ended")
    .argument("<host>", "its name")
    .option("--no-wait", "do not wait")
    .action(
      run<{ wait: boolean }>(async (context, [name = ""], { wait }) => {
        const { output } = context;
        return await withDaemon(context, async (daemon) => {
          const messages = await daemon.host(name, "drain");
          if (wait) {
            for (const message of messages) output.note(message);
            return await waitUntilEmpty(context, daemon, name);
          }
          printMessages(output, messages);
          return exitCodes.ok;
        });
      }),
    );
  addHostsCheck(hosts, run);
  addAction(hosts, run, "resume", "start machines on a drained host again");
  addAction(hosts, run, "forget", "count the machines of a host that is gone for good as gone");
}

function addAction(hosts: Command, run: Run, action: "resume" | "forget", description: string): void {
  hosts
    .command(action)
    .description(description)
    .argument("<host>", "its name")
    .action(
      run(async (context, [name = ""]) => {
        const { output } = context;
        const messages = await withDaemon(context, async (daemon) => await daemon.host(name, action));
        printMessages(output, messages);
        return undefined;
      }),
    );
}

async function list(context: Context): Promise<undefined> {
  const { output } = context;
  const { hosts } = await withDaemon(context, async (daemon) => await daemon.status());
  output.result(hosts, () => printHosts(output, hosts));
  return undefined;
}

const columns = [
  { title: "HOST", cut: 16 },
  { title: "DRIVER", spare: 1 },
  { title: "STATE" },
  { title: "MACHINES" },
  { title: "CPUS" },
  { title: "MEMORY" },
  { title: "DISK" },
  { title: "LABELS", cut: 12, spare: 2 },
];

/** A row for each host, and below it what is wrong with hosts, with what to do. */
export function printHosts(output: Output, hosts: readonly HostStatus[]): void {
  const rows = hosts.map(({ host, driver, taken, capacity, labels, ...rest }) => [
    host,
    driver,
    stateWord(output, rest),
    ...takenCells({ taken, capacity }),
    Object.entries(labels)
      .map(([name, value]) => `${name}: ${value}`)
      .join(", "),
  ]);
  output.table(columns, rows);
  for (const { host, problem, hint } of hosts) {
    if (problem === null) continue;
    output.line(output.paint("red", `! ${host}: ${problem}`));
    if (hint !== null) output.line(`  → ${hint}`);
  }
}

function stateWord(output: Output, { drained, problem }: Pick<HostStatus, "drained" | "problem">): string {
  const colour = problem !== null ? "red" : drained ? "yellow" : "green";
  return output.paint(colour, hostStateText({ drained, problem }));
}

async function waitUntilEmpty(context: Context, daemon: DaemonClient, name: string): Promise<number> {
  const { output } = context;
  const isEmpty = await waitUntilDone(context, daemon, ({ hosts }) => {
    const left = hosts
      .filter(({ host, key }) => host === name || key === name)
      .reduce((sum, { taken }) => sum + taken.machines, 0);
    return left === 0 ? undefined : `${left} ${left === 1 ? "machine is" : "machines are"} left on ${name}`;
  });
  if (isEmpty) output.result({ host: name, empty: true }, () => output.line(`no machine is left on ${name}`));
  else output.note(`not waiting any longer; ${name} stays drained`);
  return isEmpty ? exitCodes.ok : exitCodes.failed;
}
