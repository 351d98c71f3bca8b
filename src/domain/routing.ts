/** Which machine a job asks for by its tags. Pure. */
import { formatMib } from "../base/units.ts";
import type { Labels } from "./placement.ts";
import type { MachineKind } from "./pool.ts";
import type { Size } from "./size.ts";
import { describeTag, readTag, type TagReading, type TagSize } from "./tags.ts";

/** What the configuration says about tags. */
export interface TagRules {
  /** `firecracker` in `firecracker-2cpu-4gb`; compared without regard to case. */
  readonly prefix: string;
  readonly maxCpus: number;
  readonly maxMemoryMib: number;
  /**
   * In order; the first with a `kind` whose `tag` the job has decides what the machine is, and all of them what its host must
   * have. Compared exactly, as GitLab compares tags.
   */
  readonly rules: readonly TagRule[];
  /** For jobs with none of these tags. */
  readonly kind: MachineKind;
  /** Why a driver cannot make machines of this size; undefined when it can. */
  readonly sizeProblem: (driver: string, size: Size) => string | undefined;
  /** Why no host could hold such a machine, whatever is free there; undefined when one could, or while none is known. */
  readonly hostProblem?: (size: Size, kind: MachineKind) => string | undefined;
}

interface TagRule {
  readonly tag: string;
  readonly kind?: MachineKind | undefined;
  readonly hostLabels?: Labels | undefined;
}

/** The machine that a set of tags asks for. */
export interface Route {
  /** Sorted, as spelled: what the runner must have. */
  readonly tags: readonly string[];
  readonly size: Size;
  readonly kind: MachineKind;
}

/** Why a machine that tags name cannot be had: what the tags say, its size, or that no host is fit for it. */
export type UnservableCause = "tags" | "size" | "hosts";

export type Routing =
  | { readonly kind: "route"; readonly route: Route }
  /** It names a machine of ours, but one that cannot be had; `reason` as a sentence. */
  | { readonly kind: "refused"; readonly reason: string; readonly cause: UnservableCause }
  /** No tag with our prefix: somebody else's job. */
  | { readonly kind: "foreign" };

/** GitLab's limit for one runner (TAG_LIST_MAX_LENGTH). */
const MOST_TAGS = 50;

/** Decides which machine a job with these tags gets. Never throws: tags are other people's words. */
export function routeJob(tags: readonly string[], rules: TagRules): Routing {
  const wanted = [...new Set(tags)].toSorted();
  const readings = wanted.map((tag) => readTagOfJob(tag, rules));
  if (readings.every(({ kind }) => kind === "other")) return { kind: "foreign" };
  const asked = sizeOf(wanted, readings, rules.prefix);
  if ("problem" in asked) return refused("tags", asked.problem);
  const matching = rules.rules.filter((rule) => wanted.includes(rule.tag));
  const kind = matching.find((rule) => rule.kind !== undefined)?.kind ?? rules.kind;
  const size = { ...asked.size, diskMib: kind.diskMib };
  const problem = limitProblem(size, rules) ?? rules.sizeProblem(kind.driver, size);
  if (problem !== undefined) return refused("size", `${describeTag(asked.tag)} cannot be served: ${problem}`);
  const labels = labelsOf(kind, matching);
  if ("problem" in labels) return refused("hosts", labels.problem);
  const whole = { ...kind, ...labels };
  const unheld = rules.hostProblem?.(size, whole);
  if (unheld !== undefined) return refused("hosts", `${describeTag(asked.tag)} cannot be served: ${unheld}`);
  return { kind: "route", route: { tags: wanted, size, kind: whole } };
}

function refused(cause: UnservableCause, reason: string): Routing {
  return { kind: "refused", reason, cause };
}

/** What the host must have, by the kind of machine and by every tag of the job that a rule speaks of. */
function labelsOf(
  kind: MachineKind,
  matching: readonly TagRule[],
): { hostLabels: Labels } | { problem: string } {
  const hostLabels: Record<string, string> = { ...kind.hostLabels };
  for (const { tag, hostLabels: more = {} } of matching) {
    for (const [name, value] of Object.entries(more)) {
      const other = hostLabels[name];
      if (other !== undefined && other !== value) {
        const both = `${name}: ${other} and ${name}: ${value}`;
        return { problem: `no host can have both ${both}, as the job's tag ${describeTag(tag)} asks` };
      }
      hostLabels[name] = value;
    }
  }
  return { hostLabels };
}

/** The name of the pool of all jobs with these tags: `tags:TAG,TAG`, whatever their order. */
export function tagPoolName(tags: readonly string[]): string {
  return `tags:${tags.toSorted().join(",")}`;
}

const JOB_POOL = "job:";

/** The name of the pool of one job that has a runner of its own. */
export function jobPoolName(jobId: number): string {
  return `${JOB_POOL}${jobId}`;
}

export function isJobPool(name: string): boolean {
  return name.startsWith(JOB_POOL);
}

/** The name of the pool that is made for a job that waits. */
export function pendingPoolName(
  { id, route }: { readonly id: number; readonly route: Pick<Route, "tags"> },
  perJob: boolean,
): string {
  return perJob ? jobPoolName(id) : tagPoolName(route.tags);
}

type Reading = TagReading | { readonly kind: "rule" };

/** A rule may use the prefix for a word of its own, which is no size gone wrong. */
function readTagOfJob(tag: string, { prefix, rules }: TagRules): Reading {
  const reading = readTag(tag, prefix);
  return reading.kind === "wrong" && rules.some((rule) => rule.tag === tag) ? { kind: "rule" } : reading;
}

function sizeOf(
  tags: readonly string[],
  readings: readonly Reading[],
  prefix: string,
): { size: TagSize; tag: string } | { problem: string } {
  const problem = readings.find((reading) => reading.kind === "wrong")?.reason ?? setProblem(tags);
  if (problem !== undefined) return { problem };
  const sizes = readings.flatMap((reading, index) =>
    reading.kind === "size" ? [{ size: reading.size, tag: tags[index] ?? "" }] : [],
  );
  const [first, ...others] = sizes;
  if (first === undefined) {
    return { problem: `no tag of the job names a size: add one such as ${prefix}-2cpu-4gb` };
  }
  const other = others.find(({ size }) => !isSameSize(size, first.size));
  if (other === undefined) return first;
  return {
    problem: `${describeTag(first.tag)} and ${describeTag(other.tag)} are two sizes: keep one of the two tags`,
  };
}

/** Why no runner could have exactly these tags. GitLab's API divides tags at commas and takes spaces off their ends. */
function setProblem(tags: readonly string[]): string | undefined {
  if (tags.length > MOST_TAGS) {
    return `the job has ${tags.length} tags, and a GitLab runner can have ${MOST_TAGS}: give it fewer`;
  }
  const odd = tags.find((tag) => tag.includes(",") || tag.trim() !== tag || tag === "");
  if (odd === undefined) return undefined;
  return `the tag “${describeTag(odd)}” cannot be given to a runner: it has a comma, or a space at an end, or is empty`;
}

function isSameSize(a: TagSize, b: TagSize): boolean {
  return a.cpus === b.cpus && a.memoryMib === b.memoryMib;
}

function limitProblem(size: TagSize, { maxCpus, maxMemoryMib }: TagRules): string | undefined {
  if (size.cpus > maxCpus) return `webhook.sizes.maxCpus allows ${maxCpus}`;
  if (size.memoryMib > maxMemoryMib) return `webhook.sizes.maxMemory allows ${formatMib(maxMemoryMib)}`;
  return undefined;
}
