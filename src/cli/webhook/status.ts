import type { Command } from "commander";
import { plainText } from "../../base/text.ts";
import type { WebhookStatus } from "../../views/webhook-api.ts";
import { withDaemon } from "../client.ts";
import type { Run } from "../context.ts";
import { ago, cellText, clockTime } from "../messages.ts";
import type { Output } from "../output.ts";
import { describeListener, describeRunner, hookProblems } from "./messages.ts";
import { printUnservable, printWaiting } from "./waiting.ts";

const RECENT = 10;

export function addWebhookStatus(webhook: Command, run: Run): void {
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
          printStanding(output, status);
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

function printStanding(output: Output, status: WebhookStatus): void {
  const { scope, url, accepts, hooks, projects, budget, token } = status;
  const line = (name: string, words: string) => output.line(`${name.padEnd(12)}${plainText(words)}`, 12);
  line("scope", scope);
  line("door", describeListener(status.doors, url));
  line("accepts", `${count(accepts.signingKeys, "signing key")}, ${count(accepts.tokens, "secret token")}`);
  for (const hook of hooks) line("hook", `${hook.id} at ${hook.url}: ${hook.words}`);
  line("projects", `${projects.known} known, ${projects.due} with news to be read`);
  if (status.leftAlone > 0)
    line("left alone", `${count(status.leftAlone, "job")} that ask for a machine that cannot be had`);
  line("runners", describeRunner(status));
  if (budget) {
    line("API", `${budget.remaining} of ${budget.limit} requests left until ${clockTime(budget.resetsAt)}`);
  }
  line("API token", token?.summary ?? "has not been looked at yet");
  for (const trouble of hookProblems(status)) output.line(output.paint("yellow", `! ${plainText(trouble)}`));
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

const columns = [
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
  output.table(columns, rows);
}

type Deliveries = readonly NonNullable<WebhookStatus["lastDelivery"]>[];

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}
