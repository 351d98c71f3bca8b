/**
 * `webhook`: its commands, `webhook status`, and the words and tables of jobs by tag that `status` shows too. What `install` and `send` do
 * is in webhook/.
 */

import type { Command } from "commander";
import { plainText } from "../base/text.ts";
import { accessFaults, hookFaults } from "../views/status-facts.ts";
import type { WaitingView, WebhookStatus } from "../views/webhook-api.ts";
import { withDaemon } from "./client.ts";
import type { Run } from "./context.ts";
import { ago, cellText, clockTime, counted } from "./messages.ts";
import type { Output } from "./output.ts";
import { addWebhookInstall } from "./webhook/install.ts";
import { addWebhookSend } from "./webhook/send.ts";

export function addWebhook(program: Command, run: Run): void {
  const webhook = program.command("webhook").description("how GitLab tells FireRunner of jobs");
  addWebhookInstall(webhook, run);
  addWebhookStatus(webhook, run);
  addWebhookSend(webhook, run);
}

const RECENT = 10;

function addWebhookStatus(webhook: Command, run: Run): void {
  webhook
    .command("status")
    .description("hooks, what they brought and missed, projects, the API token and its budget")
    .action(
      run(async (context) => {
        const { output } = context;
        const { status, deliveries } = await withDaemon(context, async (daemon) => ({
          status: await daemon.webhook(),
          deliveries: await daemon.deliveries({ limit: RECENT }),
        }));
        output.result({ ...status, deliveries }, () => {
          printFacts(output, status);
          printRequests(output, status);
          if (status.waiting.length > 0) output.line(`\n${output.paint("bold", "Jobs that wait in GitLab")}`);
          printWaiting(output, status.waiting);
          if (status.unservable.length > 0)
            output.line(`\n${output.paint("bold", "Jobs that cannot be served")}`);
          printUnservable(output, status.unservable);
          printDeliveries(output, deliveries);
        });
        return undefined;
      }),
    );
}

function printFacts(output: Output, status: WebhookStatus): void {
  const { scope, url, accepts, hooks, projects, budget, token } = status;
  const line = (name: string, words: string) => output.line(`${name.padEnd(12)}${plainText(words)}`, 12);
  line("scope", scope);
  line("listener", describeListener(status.listeners, url));
  line(
    "accepts",
    `${counted(accepts.signingKeys, "signing key")}, ${counted(accepts.tokens, "secret token")}`,
  );
  for (const hook of hooks) line("hook", `${hook.id} at ${hook.url}: ${hook.words}`);
  line("projects", `${projects.known} known, ${projects.due} with news to be read`);
  if (status.leftAlone > 0)
    line("left alone", `${counted(status.leftAlone, "job")} that ask for a machine that cannot be had`);
  line("runners", describeRunner(status));
  if (budget) {
    line("API", `${budget.remaining} of ${budget.limit} requests left until ${clockTime(budget.resetsAt)}`);
  }
  line("API token", token?.summary ?? "has not been looked at yet");
  for (const problem of hookProblems(status)) output.line(output.paint("yellow", `! ${plainText(problem)}`));
}

function printRequests(output: Output, { requests, missedByHooks, lastDelivery }: WebhookStatus): void {
  output.line(`\n${output.paint("bold", `Webhooks since ${clockTime(requests.since)}`)}`);
  const rows = [
    ...Object.entries(requests.taken).map(([event, times]) => [event, String(times)]),
    ["  of these: twice", String(requests.duplicates)],
    ["  of these: not readable", String(requests.unreadable)],
    ...Object.entries(requests.refused).map(([reason, times]) => [
      `refused: ${cellText(reason, 60)}`,
      String(times),
    ]),
    ["jobs that no hook told of", String(missedByHooks)],
    ["last delivery", lastDelivery ? ago(lastDelivery.receivedAt) : "none yet"],
  ];
  const width = Math.max(...rows.map(([name = ""]) => name.length));
  for (const [name = "", value = ""] of rows) output.line(`${name.padEnd(width)}  ${value}`);
}

const deliveryColumns = [
  { title: "TIME" },
  { title: "EVENT", cut: 12 },
  { title: "PROJECT" },
  { title: "JOB" },
  { title: "STATUS", cut: 8 },
  { title: "ID", cut: 12, spare: 1 },
];

function printDeliveries(output: Output, deliveries: Deliveries): void {
  if (deliveries.length === 0) return;
  output.line(`\n${output.paint("bold", "Last deliveries")}`);
  const rows = deliveries.map((delivery) => [
    clockTime(delivery.receivedAt),
    cellText(delivery.event),
    delivery.projectId === null ? "-" : String(delivery.projectId),
    delivery.jobId === null ? "-" : String(delivery.jobId),
    cellText(delivery.status ?? "-"),
    cellText(delivery.key, 60),
  ]);
  output.table(deliveryColumns, rows);
}

type Deliveries = readonly NonNullable<WebhookStatus["lastDelivery"]>[];

/** Where the public server listens, and under which address GitLab is told to reach it. */
export function describeListener(addresses: readonly string[], url: string | null): string {
  const listens =
    addresses.length === 0 ? "listens nowhere (http.listen is empty)" : `listens on ${addresses.join(", ")}`;
  return url === null ? listens : `${listens}; GitLab calls ${url}`;
}

/** The hooks that GitLab has, and when one last told of something. */
export function describeHook({ hooks, lastDelivery }: WebhookStatus): string {
  const bad = hooks.filter(({ ok }) => !ok).length;
  const known =
    hooks.length === 0
      ? "none known"
      : bad === 0
        ? `${hooks.length} in order`
        : `${bad} of ${hooks.length} in trouble`;
  return `${known}, last delivery ${lastDelivery ? ago(lastDelivery.receivedAt) : "never"}`;
}

export function describeRunner({ runners, mostRunners }: WebhookStatus): string {
  const { creating, active, retiring } = runners;
  const moving = [
    ...(creating > 0 ? [`${creating} being made`] : []),
    ...(retiring > 0 ? [`${retiring} to be deleted`] : []),
  ];
  return [`${active} of at most ${mostRunners}`, ...moving].join(", ");
}

/** What is not as it should be with jobs by tag, one sentence each. Empty when all is well. */
export function hookProblems(status: WebhookStatus): string[] {
  const { missedByHooks, listeners } = status;
  return [
    ...(listeners.length === 0 ? ["no webhook can arrive: name an address in http.listen"] : []),
    ...hookFaults(status),
    ...(missedByHooks > 0 ? [missedWords(missedByHooks)] : []),
    ...accessFaults(status),
  ];
}

function missedWords(times: number): string {
  const what = times === 1 ? "1 job was" : `${times} jobs were`;
  return `${what} found by looking, where a webhook should have told: “firerunner webhook install” repairs the hook`;
}

const waitingColumns = [
  { title: "JOB" },
  { title: "PROJECT", cut: 16 },
  { title: "NAME", cut: 12 },
  { title: "TAGS", cut: 21 },
  { title: "CREATED", spare: 1 },
  { title: "IN THE WAY", below: true },
];

/** Jobs that wait for a machine which cannot be had, and why. */
export function printUnservable(output: Output, jobs: WebhookStatus["unservable"]): void {
  output.table(
    waitingColumns,
    jobs.map((job) => rowOf(job, job.reason)),
  );
}

/** Jobs that nobody has claimed yet, and what is in the way of each. */
export function printWaiting(output: Output, waiting: readonly WaitingView[]): void {
  output.table(
    waitingColumns,
    waiting.map((job) => rowOf(job, job.problem ?? "")),
  );
}

type Listed = Pick<WaitingView, "id" | "project" | "name" | "tags" | "createdAt">;

function rowOf({ id, project, name, tags, createdAt }: Listed, inTheWay: string): string[] {
  const [where, what, how] = [cellText(project), cellText(name), cellText(tags.join(","), 50)];
  return [String(id), where, what, how, ago(createdAt), inTheWay];
}
