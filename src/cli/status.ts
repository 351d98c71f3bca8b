import type { Command } from "commander";
import { plainText } from "../base/plain-text.ts";
import type { Status } from "../views/api.ts";
import { withDaemon } from "./client.ts";
import type { Run } from "./context.ts";
import { printHosts as printHostTable } from "./hosts.ts";
import { printJobs } from "./jobs.ts";
import { ago, clockTime, formatSize } from "./messages.ts";
import type { Output } from "./output.ts";
import { describeHook, describeListener, describeRunner, hookProblems } from "./webhook/messages.ts";
import { printUnservable, printWaiting } from "./webhook/waiting.ts";

/** “firerunner webhook status” has them all. */
const MOST_WAITING = 20;

export function addStatus(program: Command, run: Run): void {
  program
    .command("status")
    .description("pools and their health, hosts, webhooks, running and recent jobs")
    .action(
      run(async (context) => {
        const { output } = context;
        const status = await withDaemon(context, async (daemon) => await daemon.status());
        output.result(status, () => printStatus(output, status));
        return undefined;
      }),
    );
}

const modes = {
  run: "takes jobs",
  drain: "takes no new jobs; running ones go on",
  end: "is ending; running jobs are being ended",
};

function printStatus(output: Output, status: Status): void {
  const isAway = status.gitlabProblem !== null;
  const words =
    isAway && status.mode === "run" ? "cannot take jobs: GitLab does not answer" : modes[status.mode];
  const mode = output.paint(status.mode === "run" && !isAway ? "green" : "yellow", words);
  output.line(
    `FireRunner ${status.version} ${mode}, since ${clockTime(status.startedAt)} (${ago(status.startedAt)})`,
  );
  output.line(`  GitLab  ${status.gitlabUrl}`);
  if (status.gitlabProblem !== null)
    output.line(output.paint("yellow", `! ${plainText(status.gitlabProblem)}`));
  output.line(`  config  ${status.configFile ?? "from the environment"}`);
  output.line(`  state   ${status.stateDirectory} (process ${status.pid})`);
  printDoor(output, status);
  printPools(output, status);
  printHosts(output, status);
  for (const trouble of troublesOf(status)) output.line(output.paint("yellow", `! ${plainText(trouble)}`));
  section(output, "Waiting in GitLab", (status.webhook?.waiting.length ?? 0) > 0);
  printWaiting(output, (status.webhook?.waiting ?? []).slice(0, MOST_WAITING));
  const unservable = (status.webhook?.unservable ?? []).slice(0, MOST_WAITING);
  section(output, "Cannot be served", unservable.length > 0);
  printUnservable(output, unservable);
  section(output, "Jobs", status.unfinished.length > 0);
  printJobs(output, status.unfinished);
  section(output, "Ended lately", status.recent.length > 0);
  printJobs(output, status.recent);
}

function printDoor(output: Output, { door, webhook }: Status): void {
  if (webhook) {
    output.line(`  door    ${describeListener(webhook.doors, webhook.url)}`);
    output.line(`  hooks   ${describeHook(webhook)}`);
    output.line(`  runners ${describeRunner(webhook)}`);
  } else if (door) {
    output.line(`  door    ${describeListener(door.addresses, null)}`);
  }
}

function troublesOf({ troubles, door, webhook }: Status): string[] {
  return [...troubles, ...(door?.problems ?? []), ...(webhook ? hookProblems(webhook) : [])];
}

function section(output: Output, title: string, isShown: boolean): void {
  if (isShown) output.line(`\n${output.paint("bold", title)}`);
}

const poolColumns = [
  { title: "POOL", cut: 12 },
  { title: "HEALTH" },
  { title: "RUNNING" },
  { title: "STARTING" },
  { title: "QUEUED" },
  { title: "SIZE", spare: 1 },
  { title: "DRIVER", spare: 3 },
  { title: "IMAGE", cut: 8, spare: 2 },
  { title: "GITLAB", below: true },
];

function printPools(output: Output, { pools }: Status): void {
  section(output, "Pools", pools.length > 0);
  const rows = pools.map((pool) => [
    pool.name,
    pool.ok ? output.paint("green", "ready") : output.paint("red", "not ready"),
    `${pool.running}/${pool.limit}`,
    String(pool.starting),
    String(pool.queued),
    formatSize(pool.size),
    pool.accelerator ? `${pool.driver} (${pool.accelerator})` : pool.driver,
    pool.image,
    pool.ok ? pool.claiming : "not asked",
  ]);
  output.table(poolColumns, rows);
  for (const { name, room } of pools)
    if (room.note !== null) output.line(output.paint("yellow", `! ${name}: ${room.note}`));
  printImageNotes(output, pools);
  for (const { name, problems } of pools) {
    for (const { problem, hint } of problems) {
      output.line(output.paint("red", `! ${name}: ${problem}`));
      if (hint) output.line(`  → ${hint}`);
    }
  }
}

function printImageNotes(output: Output, pools: Status["pools"]): void {
  for (const { name, imageNote } of pools) {
    if (imageNote === undefined) continue;
    output.line(output.paint("yellow", `! ${name}: ${imageNote.problem}`));
    output.line(`  → ${imageNote.hint}`);
  }
}

/** Only hosts that matter here: of drivers that a pool uses, or with machines on them. */
function printHosts(output: Output, { hosts: all, pools }: Status): void {
  const hosts = all.filter(
    ({ driver, taken }) => taken.machines > 0 || pools.some((pool) => pool.driver === driver),
  );
  section(output, "Hosts", hosts.length > 0);
  if (hosts.length > 0) printHostTable(output, hosts);
}
