import { formatDuration } from "../base/units.ts";
import { failures } from "../domain/job-end.ts";
import { describeSize } from "../domain/size.ts";
import type { Job, Machine } from "../store/store.ts";

const colours = { warning: "\u001b[0;33m", error: "\u001b[31;1m" } as const;

/** A line of our own in a job's trace. */
export function traceLine(level: keyof typeof colours, text: string): string {
  return `${colours[level]}FireRunner: ${text}\u001b[0;m\n`;
}

/**
 * What ends the trace of a job that FireRunner itself had to fail. Made of rows that no longer change, so that every
 * try to report writes the same bytes.
 */
export function failureTail(job: Job, machine: Machine | undefined, console: string | undefined): string {
  const { hint } = failures[job.cause ?? "machine"];
  const lines = [traceLine("error", `the job failed: ${job.reason ?? "the reason was not recorded"}`)];
  if (hint !== "") lines.push(traceLine("error", hint));
  if (machine) lines.push(traceLine("error", describeMachine(job, machine)));
  if (machine && console) {
    lines.push(traceLine("error", `last lines of the console of ${machine.id}:`));
    lines.push(...console.split("\n").map((line) => `  ${line}\n`));
  }
  // The runner's bytes may have stopped in mid-line.
  return `\n${lines.join("")}`;
}

function describeMachine(job: Job, machine: Machine): string {
  const parts = [`machine ${machine.id} (${describeSize(machine.size)})`, `attempt ${job.attempt}`];
  const endedAt = job.failingAt ?? machine.stoppingAt;
  if (job.runningAt !== null && endedAt !== null)
    parts.push(
      `the job had run for ${formatDuration(endedAt - job.runningAt)}`,
      "what it printed in its last seconds may be missing above",
    );
  else parts.push("the job had not begun");
  return parts.join(", ");
}
