import type { WaitingView, WebhookStatus } from "../../views/webhook-api.ts";
import { ago, cellText } from "../messages.ts";
import type { Output } from "../output.ts";

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
  output.table(
    columns,
    jobs.map((job) => rowOf(job, job.reason)),
  );
}

/** Jobs that nobody has claimed yet, and what is in the way of each. */
export function printWaiting(output: Output, waiting: readonly WaitingView[]): void {
  output.table(
    columns,
    waiting.map((job) => rowOf(job, job.problem ?? "")),
  );
}

type Listed = Pick<WaitingView, "id" | "project" | "name" | "tags" | "createdAt">;

function rowOf({ id, project, name, tags, createdAt }: Listed, inTheWay: string): string[] {
  const [where, what, how] = [cellText(project), cellText(name), cellText(tags.join(","), 50)];
  return [String(id), where, what, how, ago(createdAt), inTheWay];
}
