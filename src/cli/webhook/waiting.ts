import type { WaitingView } from "../../http/webhook-api.ts";
import { harmless, type Output } from "../output.ts";
import { ago, cellText } from "../words.ts";

const columns = [
  { title: "JOB" },
  { title: "PROJECT", cut: 16 },
  { title: "NAME", cut: 12 },
  { title: "TAGS", cut: 21 },
  { title: "CREATED", spare: 1 },
  { title: "IN THE WAY", below: true },
];

/** Jobs that nobody has claimed yet, and what is in the way of each. */
export function printWaiting(output: Output, waiting: readonly WaitingView[]): void {
  const rows = waiting.map((job) => [
    String(job.id),
    cellText(job.project),
    cellText(job.name),
    cellText(job.tags.join(","), 50),
    ago(job.createdAt),
    harmless(job.problem ?? ""),
  ]);
  output.table(columns, rows);
}
