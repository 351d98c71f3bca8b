/**
 * Whether GitLab adds a job to the pipeline of a push, and how: `rules`, `only` and `except`, and the `rules` of `workflow` and of
 * `include`. Pure.
 */
import { isHash, type Value } from "./document.ts";
import { CiFileError, type Place } from "./errors.ts";
import { holds, patternOf } from "./expression.ts";
import { anyMatches } from "./globs.ts";
import { expand, type Push, type Variables } from "./push.ts";

/** The rule that fits: its keywords. */
export type Rule = Readonly<Record<string, Value>>;

interface Judging {
  readonly push: Push;
  /** All that the expressions may name: the push's, and the file's and the job's own. */
  readonly variables: Variables;
  readonly place: Place;
}

/** The first rule that fits; undefined when none does. `when: never` is a rule like any other. */
export function fittingRule(rules: Value, judging: Judging): Rule | undefined {
  return listOf(rules)
    .filter(isHash)
    .find((rule) => fits(rule, judging));
}

function fits(rule: Rule, judging: Judging): boolean {
  const { if: expression, changes, exists } = rule;
  return (
    (expression === undefined || expression === null || isTrue(expression, judging)) &&
    (changes === undefined || changes === null || anyChanged(changes, judging)) &&
    (exists === undefined || exists === null || anyExists(exists, judging))
  );
}

function isTrue(expression: Value, { variables, place }: Judging): boolean {
  try {
    return holds(String(expression), variables);
  } catch (cause) {
    const reason = (cause as Error).message;
    throw new CiFileError(place, `“${String(expression)}” is no valid expression: ${reason}`, { cause });
  }
}

function anyChanged(changes: Value, judging: Judging): boolean {
  const { changes: changed } = judging.push;
  return changed === undefined || pathsOf(changes, judging).some((path) => anyMatches(path, changed));
}

function anyExists(exists: Value, judging: Judging): boolean {
  // Files of another project are not at hand.
  if (isHash(exists) && exists["project"] !== undefined) return false;
  return pathsOf(exists, judging).some((path) => anyMatches(path, judging.push.files));
}

function pathsOf(value: Value, { variables }: Judging): string[] {
  const paths = isHash(value) ? value["paths"] : value;
  return listOf(paths).map((path) => expand(String(path), variables));
}

/** Whether `only` and `except` let a job into the pipeline of this push. Undefined ones say nothing; GitLab's default is branches and tags. */
export function isLetIn(only: Value, except: Value, judging: Judging): boolean {
  return fitsOnly(only ?? ["branches", "tags"], judging) && !fitsExcept(except, judging);
}

/** All that `only` names must hold. */
function fitsOnly(only: Value, judging: Judging): boolean {
  const conditions = isHash(only) ? { refs: ["branches", "tags"], ...only } : { refs: only };
  return conditionsOf(conditions, judging).every(Boolean);
}

/** One thing that `except` names is enough. */
function fitsExcept(except: Value, judging: Judging): boolean {
  if (except === undefined || except === null) return false;
  return conditionsOf(isHash(except) ? except : { refs: except }, judging).some(Boolean);
}

function conditionsOf({ refs, variables, changes, kubernetes }: Rule, judging: Judging): boolean[] {
  const given = (value: Value) => value !== undefined && value !== null;
  return [
    ...(given(refs) ? [listOf(refs).some((ref) => isRef(String(ref), judging.push))] : []),
    ...(given(variables) ? [listOf(variables).some((each) => isTrue(each, judging))] : []),
    ...(given(changes) ? [anyChanged(changes, judging)] : []),
    // There is no cluster.
    ...(given(kubernetes) ? [false] : []),
  ];
}

function isRef(text: string, { branch, projectPath }: Push): boolean {
  const [, name = "", project] = /^(.*?)(?:@([^@/][^@]*))?$/s.exec(text) ?? [];
  if (project !== undefined && project !== projectPath) return false;
  if (name === "branches" || name === "pushes") return true;
  return patternOf(name)?.test(branch) ?? name === branch;
}

export function listOf(value: Value): Value[] {
  if (value === undefined || value === null) return [];
  return (Array.isArray(value) ? value : [value]).flat(10);
}
