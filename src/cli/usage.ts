/** `usage`: what jobs have used, by project, pool or tag, beside what was asked for. */

import { type Command, Option } from "commander";
import { systemClock } from "../base/clock.ts";
import type { Column } from "../base/table.ts";
import { formatDuration, formatMib } from "../base/units.ts";
import { LEAST_MEASURED } from "../domain/usage.ts";
import { type Usage, type UsageGroup, usageKeys } from "../views/usage.ts";
import { withStore } from "./client.ts";
import type { Run } from "./context.ts";
import { cellText, clockTime } from "./messages.ts";
import { projectOption, sinceOption } from "./options.ts";
import type { Output } from "./output.ts";

interface Options {
  readonly by: Usage["by"];
  readonly since?: number;
  readonly until?: number;
  readonly project?: string;
  readonly pool?: string;
}

const USUAL_PERIOD = "30d";

export function addUsage(program: Command, run: Run): void {
  program
    .command("usage")
    .description("what jobs have used: CPU time, memory, waits, and the size they would have needed")
    .addOption(new Option("--by <what>", "a line for each").choices(usageKeys).default("project"))
    .option("--since <time>", `from then on: 24h, 7d, 2026-11-01 (default: ${USUAL_PERIOD})`, sinceOption)
    .option("--until <time>", "and before then (default: now)", sinceOption)
    .option("--project <path>", "of this project, or of all projects below this group", projectOption)
    .option("--pool <name>", "of this pool")
    .action(
      run<Options>(async (context, _args, { by, since, until, project, pool }) => {
        const filter = {
          ...{ by, project, pool },
          since: since ?? sinceOption(USUAL_PERIOD),
          until: until ?? systemClock.now(),
        };
        const usage = await withStore(context, async (views) => await views.usage(filter));
        context.output.result(usage, () => printUsage(context.output, usage));
        return undefined;
      }),
    );
}

const titles: Readonly<Record<Usage["by"], string>> = { project: "PROJECT", pool: "POOL", tag: "TAG" };

const columns: readonly Column[] = [
  { title: "JOBS" },
  { title: "FAILED", spare: 6 },
  { title: "VCPU MIN" },
  { title: "GIB H", spare: 5 },
  { title: "WAIT P50", spare: 4 },
  { title: "P95", spare: 2 },
  { title: "MEMORY" },
  { title: "DISK", spare: 3 },
  { title: "SUGGESTED", spare: 1 },
];

function printUsage(output: Output, { by, since, until, groups }: Usage): void {
  if (groups.length === 0) {
    output.note(`No job was here between ${clockTime(since)} and ${clockTime(until)}.`);
    return;
  }
  output.table([{ title: titles[by], cut: 12 }, ...columns], groups.map(rowOf));
  output.note(
    `From ${clockTime(since)} until ${clockTime(until)}. MEMORY and DISK: the largest peak of what was asked for. SUGGESTED: of memory and of disk that peak and a quarter more; nothing where fewer than ${LEAST_MEASURED} jobs were measured or sizes differ (look at one pool with --pool).`,
  );
}

function rowOf(group: UsageGroup): string[] {
  const { key, jobs, failed, vcpuMinutes, memoryGibHours, wait, memory, disk } = group;
  return [
    cellText(key ?? "(not known)", 60),
    String(jobs),
    String(failed),
    amount(vcpuMinutes),
    amount(memoryGibHours),
    time(wait.median),
    time(wait.p95),
    peakOf(memory),
    peakOf(disk),
    suggestion(group),
  ];
}

function amount(value: number): string {
  return value.toFixed(value < 100 ? 1 : 0);
}

function time(ms: number | null): string {
  return ms === null ? "-" : formatDuration(ms);
}

function peakOf({ asked, peak }: UsageGroup["memory"]): string {
  const { least, most } = asked;
  const wanted = least === most ? formatMib(most) : `${formatMib(least)}-${formatMib(most)}`;
  return `${peak === null ? "-" : formatMib(peak)}/${wanted}`;
}

function suggestion({ memory, disk }: UsageGroup): string {
  if (memory.suggested === null && disk.suggested === null) return "-";
  return [memory, disk].map(({ suggested }) => (suggested === null ? "-" : formatMib(suggested))).join(", ");
}
