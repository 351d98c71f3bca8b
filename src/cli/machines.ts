import type { Command } from "commander";
import type { MachineView } from "../views/api.ts";
import { withViews } from "./client.ts";
import type { Run } from "./context.ts";
import { ago, formatSize, machineTime } from "./messages.ts";
import { countOption } from "./options.ts";
import type { Output } from "./output.ts";

interface Options {
  readonly all?: boolean;
  readonly limit: number;
}

export function addMachines(program: Command, run: Run): void {
  program
    .command("machines")
    .description("machines that exist now, newest first")
    .option("--all", "those that are gone as well")
    .option("-n, --limit <count>", "how many", countOption, 50)
    .action(
      run<Options>(async (context, _args, { all, limit }) => {
        const { output } = context;
        const machines = await withViews(
          context,
          async (views) => await views.machines({ live: !all, limit }),
        );
        output.result(machines, () => {
          if (machines.length === 0)
            output.note(all ? "There has been no machine yet." : "No machine exists now.");
          printMachines(output, machines);
        });
        return undefined;
      }),
    );
}

const columns = [
  { title: "MACHINE" },
  { title: "STATE" },
  { title: "JOB" },
  { title: "POOL", cut: 12, spare: 1 },
  { title: "SIZE", spare: 2 },
  { title: "WHERE", cut: 12 },
  { title: "CREATED", spare: 3 },
  { title: "TIME" },
  { title: "REASON", below: true },
];

function printMachines(output: Output, machines: readonly MachineView[]): void {
  const rows = machines.map((machine) => [
    machine.id,
    output.paint(
      machine.state === "busy" ? "green" : machine.state === "stopping" ? "yellow" : "cyan",
      machine.state,
    ),
    machine.jobId === null ? "-" : String(machine.jobId),
    machine.pool,
    formatSize(machine.size),
    `${machine.driver}@${machine.host}`,
    ago(machine.createdAt),
    machineTime(machine),
    machine.reason ?? "",
  ]);
  output.table(columns, rows);
}
