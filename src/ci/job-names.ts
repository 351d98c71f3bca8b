/**
 * Which jobs of the pipeline a name of the file stands for: `parallel` makes several of one, and `needs` and `dependencies` name them.
 */
import type { JobDefinition } from "./definition.ts";
import { isHash, type Value } from "./document.ts";
import { CiFileError, type Place } from "./errors.ts";
import type { Need } from "./keywords.ts";
import { listOf } from "./rules.ts";

/** GitLab's own limit. */
const MOST_INSTANCES = 200;

/** One of the jobs that a job of the file becomes. */
export interface Instance {
  readonly name: string;
  /** What sets it apart from the others. */
  readonly variables: Readonly<Record<string, string>>;
}

type Combination = readonly (readonly [key: string, value: string])[];

/** Throws CiFileError for a number or a matrix that GitLab refuses. */
export function instancesOf(name: string, parallel: Value, place: Place): Instance[] {
  if (parallel === undefined || parallel === null) return [{ name, variables: {} }];
  const instances = isHash(parallel)
    ? matrixInstances(name, parallel["matrix"])
    : numberedInstances(name, Number(parallel));
  if (instances.length < 1 || instances.length > MOST_INSTANCES)
    throw new CiFileError(
      place,
      `“${name}: parallel” must be a number from 1 to ${MOST_INSTANCES}, or a matrix of so many jobs`,
    );
  return instances.map((each, index) => ({
    ...each,
    variables: {
      ...each.variables,
      CI_NODE_INDEX: String(index + 1),
      CI_NODE_TOTAL: String(instances.length),
    },
  }));
}

function numberedInstances(name: string, count: number): Instance[] {
  if (!Number.isInteger(count) || count < 1 || count > MOST_INSTANCES) return [];
  return Array.from({ length: count }, (_, index) => ({
    name: `${name} ${index + 1}/${count}`,
    variables: {},
  }));
}

function matrixInstances(name: string, matrix: Value): Instance[] {
  return combinations(matrix).map((combination) => ({
    name: instanceName(name, combination),
    variables: Object.fromEntries(combination),
  }));
}

/** Names of the instances that `needs: [{ job, parallel: { matrix } }]` picks. */
function pickedNames(name: string, matrix: Value): string[] {
  return combinations(matrix).map((combination) => instanceName(name, combination));
}

function instanceName(name: string, combination: Combination): string {
  return `${name}: [${combination.map(([, value]) => value).join(", ")}]`;
}

/** Every combination of the values of each entry. */
function combinations(matrix: Value): Combination[] {
  return listOf(matrix)
    .filter(isHash)
    .flatMap((entry) => {
      let all: Combination[] = [[]];
      for (const [key, values] of Object.entries(entry)) {
        // The limit is checked by the caller; this only keeps a huge matrix from being spelled out.
        if (all.length > MOST_INSTANCES) return all;
        all = all.flatMap((start) =>
          listOf(values).map((value) => [...start, [key, String(value)] as const]),
        );
      }
      return all;
    });
}

/** What became of the jobs of the file. */
export interface JobNames {
  /** By the name in the file: the jobs that it became, whether they are in the pipeline or not. */
  readonly instances: ReadonlyMap<string, readonly string[]>;
  /** Jobs of the pipeline. */
  readonly present: ReadonlySet<string>;
  /** Jobs of the file that were left out because the stand-in cannot run them. */
  readonly lost: ReadonlySet<string>;
  /** Parts of the pipeline are missing, so that a name may stand for a job in one of them. */
  readonly incomplete: boolean;
}

export interface Asking {
  readonly job: string;
  readonly place: Place;
  readonly names: JobNames;
  readonly note: (message: string) => void;
}

/** Throws CiFileError for a job that is not in the pipeline. */
export function resolveNeeds(needs: readonly Need[], asking: Asking): NonNullable<JobDefinition["needs"]> {
  return needs.flatMap(({ matrix, elsewhere, ...need }) => {
    if (elsewhere) {
      asking.note(`a need of “${asking.job}” is a job of another pipeline, whose artifacts are not here`);
      return [];
    }
    const wanted = matrix === undefined ? namesOf(need.job, asking) : pickedNames(need.job, matrix);
    const there = wanted.filter((name) => asking.names.present.has(name));
    if (there.length === 0 && !need.optional) explainMissing(need.job, asking);
    return there.map((job) => ({ ...need, job }));
  });
}

/** Who is in the file but not in the pipeline gives no artifacts, and that is all. Throws CiFileError for one that is in neither. */
export function resolveDependencies(dependencies: readonly string[], asking: Asking): string[] {
  const { names, job } = asking;
  return dependencies.flatMap((name) => {
    const isKnown = names.instances.has(name) || names.present.has(name) || names.lost.has(name);
    if (!isKnown && !names.incomplete)
      throw new CiFileError(asking.place, `“${job}” depends on “${name}”, which is not in the pipeline`);
    return namesOf(name, asking).filter((each) => names.present.has(each));
  });
}

function namesOf(name: string, { names }: Asking): readonly string[] {
  return names.instances.get(name) ?? [name];
}

/** Says so, or throws CiFileError where GitLab would refuse the pipeline. */
function explainMissing(name: string, { job, place, names, note }: Asking): void {
  const isOfFile = names.instances.has(name) || [...names.instances.values()].flat().includes(name);
  if (names.lost.has(name)) note(`“${job}” does not wait for “${name}”, which was left out`);
  else if (isOfFile)
    throw new CiFileError(
      place,
      `“${job}” needs “${name}”, which is not in this pipeline: its rules, only or except leave it out; say “optional: true” if that is right`,
    );
  else if (names.incomplete)
    note(`“${job}” does not wait for “${name}”, which may stand in a file that was left out`);
  else throw new CiFileError(place, `“${job}” needs “${name}”, which is not in the pipeline`);
}
