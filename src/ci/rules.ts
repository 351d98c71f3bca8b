/**
 * Whether GitLab adds a job to the pipeline of a push, and how: `rules`, `only` and `except`, and the `rules` of `workflow` and of
 * `include`. Pure.
 */
/**
 * The language of `rules:if` and `only:variables`: variables, texts, patterns and `null`, compared by `==`, `!=`, `=~` and `!~`, joined by `&&`
 * (which binds closer) and `||`, with parentheses.
 */

import { matchesGlob } from "node:path";
import { isHash, type Value } from "./document.ts";
import { CiFileError, type Place } from "./errors.ts";
import { expand, expandedValue, type Push, type Variables } from "./push.ts";

/** The rule that fits: its keywords. */
type Rule = Readonly<Record<string, Value>>;

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

/** Whether one of the paths matches. GitLab's `*` also takes names that begin with a dot, which Node's leaves out. */
export function anyMatches(pattern: string, paths: readonly string[]): boolean {
  const glob = plainDots(pattern.replace(/^\//, ""));
  return paths.some((path) => matchesGlob(plainDots(path), glob));
}

function plainDots(path: string): string {
  return path.replaceAll(/(^|[/{,])\./g, "$1\u0001");
}

/** A text; a pattern; undefined for `null` and for a variable that is not set. */
type Operand = string | RegExp | undefined;

interface Token {
  readonly kind: "operator" | "operand";
  readonly text: string;
}

const token =
  /\s*(?:(&&|\|\||==|!=|=~|!~|\(|\))|(\$\w+|"[^"]*"|'[^']*'|\/(?:\\.|[^/\\])+\/[a-zA-Z]*|null\b))/y;

/** Whether the expression holds. Throws Error with words for what is no expression. */
function holds(text: string, variables: Variables): boolean {
  const tokens = tokensOf(text);
  let at = 0;

  function next(...operators: string[]): string | undefined {
    const here = tokens[at];
    if (here?.kind !== "operator" || !operators.includes(here.text)) return undefined;
    at++;
    return here.text;
  }

  // Both sides are always read, so that a mistake in the second is found.
  function either(): boolean {
    let result = both();
    while (next("||")) result = both() || result;
    return result;
  }

  function both(): boolean {
    let result = single();
    while (next("&&")) result = single() && result;
    return result;
  }

  function single(): boolean {
    if (next("(")) {
      const result = either();
      if (!next(")")) throw new Error("a “)” is missing");
      return result;
    }
    const left = operand();
    const operator = next("==", "!=", "=~", "!~");
    if (operator === undefined) return typeof left === "string" ? left !== "" : left !== undefined;
    return compare(left, operator, operand());
  }

  function operand(): Operand {
    const here = tokens[at++];
    if (here?.kind !== "operand")
      throw new Error(`“${here?.text ?? "the end"}” stands where a value is expected`);
    return operandOf(here.text, variables);
  }

  const result = either();
  if (at < tokens.length) throw new Error(`“${tokens[at]?.text}” is not expected there`);
  return result;
}

function tokensOf(text: string): Token[] {
  const tokens: Token[] = [];
  token.lastIndex = 0;
  while (text.slice(token.lastIndex).trim() !== "") {
    const from = token.lastIndex;
    const match = token.exec(text);
    if (!match) throw new Error(`“${text.slice(from).trim()}” is not understood`);
    tokens.push(
      match[1] === undefined
        ? { kind: "operand", text: match[2] ?? "" }
        : { kind: "operator", text: match[1] },
    );
  }
  if (tokens.length === 0) throw new Error("it is empty");
  return tokens;
}

function operandOf(text: string, variables: Variables): Operand {
  if (text === "null") return undefined;
  if (text.startsWith("$")) return expandedValue(variables, text.slice(1));
  return text.startsWith("/") ? patternOf(text) : text.slice(1, -1);
}

function compare(left: Operand, operator: string, right: Operand): boolean {
  if (operator === "==" || operator === "!=") return (left === right) === (operator === "==");
  // A variable may hold the pattern.
  const pattern = typeof right === "string" ? patternOf(right) : right;
  const matches = pattern !== undefined && typeof left === "string" && pattern.test(left);
  return matches === (operator === "=~");
}

/** `/pattern/flags` as a RegExp. GitLab's engine is RE2; what JavaScript writes otherwise is translated. Undefined for what is none. */
function patternOf(text: string): RegExp | undefined {
  const match = /^\/(.+)\/([ismU]*)$/s.exec(text);
  if (!match) return undefined;
  const [, inline = "", body = ""] = /^(?:\(\?([ismU]+)\))?(.*)$/s.exec(match[1] ?? "") ?? [];
  const flags = new Set(`${match[2]}${inline}`.replaceAll("U", ""));
  return new RegExp(body.replaceAll("\\A", "^").replaceAll(/\\[zZ]/g, "$"), [...flags].join(""));
}
