/** `parallel: 3` and `parallel: matrix`: one job of the file becomes several of the pipeline. */
import { isHash, type Value } from "./document.ts";
import { CiFileError, type Place } from "./errors.ts";
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
export function pickedNames(name: string, matrix: Value): string[] {
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
