/** What `needs` and `dependencies` of a job name, as jobs of this pipeline. */
import type { JobDefinition } from "./definition.ts";
import { CiFileError, type Place } from "./errors.ts";
import type { Need } from "./keywords.ts";
import { pickedNames } from "./parallel.ts";

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
