import type { WaitingView, WebhookStatus } from "../../http/webhook-api.ts";
import type { Output } from "../output.ts";
import { ago, cellText } from "../words.ts";

const columns = [
  { title: "JOB" },
  { title: "PROJECT", cut: 16 },
  { title: "NAME", cut: 12 },
  { title: "TAGS", cut: 21 },
  { title: "CREATED", spare: 1 },
  { title: "IN THE WAY", below: true },
];

/** Jobs that wait for a machine which cannot be had, and why. */
export function printUnservable(output: Output, jobs: WebhookStatus["unservable"]): void {
  const rows = jobs.map((job) => [
    String(job.id),
    cellText(job.project),
    cellText(job.name),
    cellText(job.tags.join(","), 50),
    ago(job.createdAt),
    job.reason,
  ]);
  output.table(columns, rows);
}

/** Jobs that nobody has claimed yet, and what is in the way of each. */
export function printWaiting(output: Output, waiting: readonly WaitingView[]): void {
  const rows = waiting.map((job) => [
    String(job.id),
    cellText(job.project),
    cellText(job.name),
    cellText(job.tags.join(","), 50),
    ago(job.createdAt),
    job.problem ?? "",
  ]);
  output.table(columns, rows);
}
