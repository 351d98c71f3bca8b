/**
 * Which lines of a machine's console say something of its end. Every boot prints some that look like faults, and the runner writes about
 * itself: what it says of the job stands in the job's log already.
 */

/** The kernel's words at every boot, which `quiet` lets through because they are errors elsewhere. */
const harmless: readonly RegExp[] = [/PCI: Fatal: No config space access function found/];

/** Lines of the official runner and of the stand-in; `job=… runner=…` ends nearly all that it writes while it has a job. */
const chatter: readonly RegExp[] = [
  /\bjob=\d+\b.*\brunner=/,
  /\bbuilds=\d+\b/,
  /^(Runtime platform|Checking for jobs|Appending trace to coordinator|Updating job|Submitting job to coordinator)\b/,
  /^(Job succeeded|WARNING: Job failed|Added job to processing list|Removed job from processing list)\b/,
  /^(Starting runner|Running in (system|user)-mode|Created missing unique system ID|Using executor|Executing )/,
  /^(Version: |Asking for a job|Job \d+: |Downloading artifacts|Uploading artifacts)/,
];

/** What the kernel prints before every line of its own: the time since the boot. */
const kernelTime = /^\[ *\d+\.\d+\](\[ *T\d+\])? /;

/** The lines that are worth showing to somebody who asks why a machine ended, as they were. */
export function tellingLines(lines: readonly string[]): string[] {
  return lines.filter((line) => {
    const words = line.replace(kernelTime, "");
    return ![...harmless, ...chatter].some((pattern) => pattern.test(words));
  });
}

/** Kills of other processes are the job's own affair: its script sees them, and the runner reports how that ended. */
const memoryEnds: readonly RegExp[] = [
  /Kernel panic - not syncing: (Out of memory|System is deadlocked on memory)/,
  /Out of memory: Killed process \d+ \(gitlab-runner\)/,
];

/** The line that says that the guest ended for want of memory; undefined when none does. */
export function memoryLine(lines: readonly string[]): string | undefined {
  return lines.findLast((line) => memoryEnds.some((pattern) => pattern.test(line)))?.replace(kernelTime, "");
}

/** How many processes the guest's kernel says that it killed for want of memory. */
export function memoryKills(lines: readonly string[]): number {
  return lines.filter((line) => /^Out of memory: Killed process \d+ /.test(line.replace(kernelTime, "")))
    .length;
}
