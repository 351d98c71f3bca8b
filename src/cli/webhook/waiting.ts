import type { WaitingView } from "../../http/webhook-api.ts";
import type { Output } from "../output.ts";
import { formatTable } from "../table.ts";
import { ago, cellText } from "../words.ts";

/** Jobs that nobody has claimed yet, and what is in the way of each. */
export function printWaiting(output: Output, waiting: readonly WaitingView[]): void {
  const rows = waiting.map((job) => [
    String(job.id),
    cellText(job.project),
    cellText(job.name),
    cellText(job.tags.join(","), 50),
    ago(job.createdAt),
    cellText(job.problem ?? "", 80),
  ]);
  const head = ["JOB", "PROJECT", "NAME", "TAGS", "CREATED", "IN THE WAY"];
  for (const line of formatTable(head, rows)) output.line(line);
}
