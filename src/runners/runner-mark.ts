/** How our runners are found again in GitLab, even when nothing here remembers them: by the end of their description. */

/** GitLab's limit for a description. */
const MOST_CHARACTERS = 1_024;

export interface RunnerMark {
  /** Which installation of FireRunner made it. */
  readonly installation: string;
  readonly key: string;
}

/** `FireRunner on HOST: TAGS [fr:INSTALLATION/KEY]`. The mark comes last, where no tag can stand, and is never cut off. */
export function describeRunner(
  runner: RunnerMark & { readonly hostname: string; readonly tags: readonly string[] },
): string {
  const mark = ` [fr:${runner.installation}/${runner.key}]`;
  const words = [...`FireRunner on ${runner.hostname}: ${runner.tags.join(", ")}`];
  return words.slice(0, MOST_CHARACTERS - mark.length).join("") + mark;
}

/** Undefined for a runner that no FireRunner made. */
export function readMark(description: string): RunnerMark | undefined {
  const [, installation, key] = /\[fr:([^\s/[\]]+)\/([^\s/[\]]+)\]\s*$/.exec(description) ?? [];
  return installation === undefined || key === undefined ? undefined : { installation, key };
}
