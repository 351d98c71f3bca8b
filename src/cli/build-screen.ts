import type { Writable } from "node:stream";
import type { BuildPhase, BuildProgress } from "../image/progress.ts";

const phases: Readonly<Record<BuildPhase, string>> = {
  check: "looking at what is here",
  packages: "packages",
  base: "root file system",
  kernel: "kernel and initramfs",
  runner: "gitlab-runner",
  store: "storing",
  pack: "packing layers",
  push: "pushing",
  done: "done",
};
const BAR_CELLS = 24;
const CLEAR_LINE = "\r\u001b[K";

export interface BuildScreen {
  readonly show: (progress: BuildProgress) => void;
  readonly close: () => void;
}

/** The progress of a build or a push: one line that is drawn anew on a terminal; elsewhere a line per phase and quarter. */
export function createBuildScreen(output: Writable & { isTTY?: boolean; columns?: number }): BuildScreen {
  return output.isTTY ? createBar(output) : createLines(output);
}

function createBar(output: Writable & { columns?: number }): BuildScreen {
  return {
    show({ phase, fraction, line }) {
      const text = `image: ${phases[phase]}${fraction === undefined ? "" : ` ${bar(fraction)}`}${line ? `  ${line}` : ""}`;
      output.write(`${CLEAR_LINE}${text.replace(/\p{Cc}/gu, " ").slice(0, (output.columns ?? 80) - 1)}`);
    },
    close: () => void output.write(CLEAR_LINE),
  };
}

function bar(fraction: number): string {
  const full = Math.round(Math.min(1, Math.max(0, fraction)) * BAR_CELLS);
  return `${"█".repeat(full)}${"░".repeat(BAR_CELLS - full)} ${percent(fraction)} %`;
}

function createLines(output: Writable): BuildScreen {
  let told = "";
  return {
    show({ phase, fraction }) {
      const quarter = fraction === undefined ? 0 : Math.floor(percent(fraction) / 25) * 25;
      const text = `image: ${phases[phase]}${quarter > 0 ? ` ${quarter} %` : ""}`;
      if (text !== told) output.write(`${text}\n`);
      told = text;
    },
    close: () => {},
  };
}

function percent(fraction: number): number {
  return Math.round(Math.min(1, Math.max(0, fraction)) * 100);
}
