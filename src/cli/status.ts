/** `status`: everything at one glance. What it shows of jobs, hosts and webhooks is printed by their own commands' files. */

import type { Command } from "commander";
import { plainText } from "../base/text.ts";
import { formatBytes, HOUR_MS, MINUTE_MS, SECOND_MS } from "../base/units.ts";
import type { Status } from "../views/api.ts";
import { hostsInUse } from "../views/status-facts.ts";
import { printCheck } from "./check.ts";
import { withDaemon } from "./client.ts";
import type { Run } from "./context.ts";
import { printHosts as printHostTable } from "./hosts.ts";
import { printJobs } from "./jobs.ts";
import { ago, askingWords, clockTime, formatSize } from "./messages.ts";
import { durationOption } from "./options.ts";
import type { Output } from "./output.ts";
import {
  describeHook,
  describeListener,
  describeRunner,
  hookProblems,
  printUnservable,
  printWaiting,
} from "./webhook.ts";

/** Programs that watch have little patience themselves. */
const checkDefaults = { warning: 10 * MINUTE_MS, critical: HOUR_MS, timeout: 8 * SECOND_MS };

interface Options {
  readonly check?: boolean;
  readonly warning?: number;
  readonly critical?: number;
  readonly timeout?: number;
}

/** “firerunner webhook status” has them all. */
const MOST_WAITING = 20;

export function addStatus(program: Command, run: Run): void {
  program
    .command("status")
    .description("pools and their health, hosts, webhooks, running and recent jobs")
    .option("--check", "one line and an exit code for monitoring: 0 ok, 1 warning, 2 critical, 3 unknown")
    .option(
      "--warning <duration>",
      "with --check: how long the oldest job may wait (default: 10m)",
      durationOption,
    )
    .option("--critical <duration>", "with --check: the same (default: 1h)", durationOption)
    .option("--timeout <duration>", "with --check: how long an answer may take (default: 8s)", durationOption)
    .action(
      run<Options>(async (context, _args, { check, ...given }) => {
        const { output } = context;
        if (check) {
          const { warning, critical, timeout } = { ...checkDefaults, ...given };
          const limits = { warningWaitMs: warning, criticalWaitMs: critical, timeoutMs: timeout };
          return await printCheck(context, limits);
        }
        const status = await withDaemon(context, async (daemon) => await daemon.status());
        output.result(status, () => printStatus(output, status));
        return undefined;
      }),
    );
}

/** Where the words of the head's lines begin. */
const FACTS = 12;

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
  output.line(`  GitLab    ${status.gitlabUrl}`, FACTS);
  if (status.gitlabProblem !== null)
    output.line(output.paint("yellow", `! ${plainText(status.gitlabProblem)}`));
  output.line(`  config    ${status.configFile ?? "from the environment"}`, FACTS);
  output.line(`  state     ${status.stateDirectory} (process ${status.pid})`, FACTS);
  for (const cache of status.caches) output.line(`  cache     ${cacheWords(cache)}`, FACTS);
  printListener(output, status);
  printPools(output, status);
  printHosts(output, status);
  for (const problem of problemsOf(status)) output.line(output.paint("yellow", `! ${plainText(problem)}`));
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

function cacheWords({ name, directory, usedBytes, evictableBytes }: Status["caches"][number]): string {
  if (usedBytes === 0) return `${name}: nothing yet (${directory})`;
  return `${name}: ${formatBytes(usedBytes)}, ${formatBytes(evictableBytes)} of it unused (${directory})`;
}

function printListener(output: Output, { publicServer, webhook }: Status): void {
  if (webhook) {
    output.line(`  listener  ${describeListener(webhook.listeners, webhook.url)}`, FACTS);
    output.line(`  hooks     ${describeHook(webhook)}`, FACTS);
    output.line(`  runners   ${describeRunner(webhook)}`, FACTS);
  } else if (publicServer) {
    output.line(`  listener  ${describeListener(publicServer.addresses, null)}`, FACTS);
  }
}

function problemsOf({ troubles, publicServer, webhook }: Status): string[] {
  return [...troubles, ...(publicServer?.problems ?? []), ...(webhook ? hookProblems(webhook) : [])];
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
    askingWords(pool),
  ]);
  output.table(poolColumns, rows);
  for (const { name, room } of pools)
    if (room.note !== null) output.line(output.paint("yellow", `! ${name}: ${room.note}`));
  for (const { names, problem, hint, colour } of notesOn(pools)) {
    output.line(output.paint(colour, `! ${names.join(", ")}: ${problem}`));
    if (hint) output.line(`  → ${hint}`);
  }
}

interface PoolNote {
  readonly names: string[];
  readonly problem: string;
  readonly hint: string | null;
  readonly colour: "yellow" | "red";
}

/** What is wrong with pools, told once of all that share it. */
function notesOn(pools: Status["pools"]): PoolNote[] {
  const notes: PoolNote[] = [];
  const add = (name: string, note: Omit<PoolNote, "names">) => {
    const same = notes.find(({ problem, hint }) => problem === note.problem && hint === note.hint);
    if (same) same.names.push(name);
    else notes.push({ names: [name], ...note });
  };
  for (const { name, imageNote } of pools) if (imageNote) add(name, { ...imageNote, colour: "yellow" });
  for (const { name, tokenNote } of pools) if (tokenNote) add(name, { ...tokenNote, colour: "red" });
  for (const { name, problems } of pools) for (const each of problems) add(name, { ...each, colour: "red" });
  return notes;
}

function printHosts(output: Output, status: Status): void {
  const hosts = hostsInUse(status);
  section(output, "Hosts", hosts.length > 0);
  if (hosts.length > 0) printHostTable(output, hosts);
}
