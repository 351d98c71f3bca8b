/**
 * The language of `rules:if` and `only:variables`: variables, texts, patterns and `null`, compared by `==`, `!=`, `=~` and `!~`, joined by `&&`
 * (which binds closer) and `||`, with parentheses.
 */
import { expandedValue, type Variables } from "./push.ts";

/** A text; a pattern; undefined for `null` and for a variable that is not set. */
type Operand = string | RegExp | undefined;

interface Token {
  readonly kind: "operator" | "operand";
  readonly text: string;
}

const token =
  /\s*(?:(&&|\|\||==|!=|=~|!~|\(|\))|(\$\w+|"[^"]*"|'[^']*'|\/(?:\\.|[^/\\])+\/[a-zA-Z]*|null\b))/y;

/** Whether the expression holds. Throws Error with words for what is no expression. */
export function holds(text: string, variables: Variables): boolean {
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
export function patternOf(text: string): RegExp | undefined {
  const match = /^\/(.+)\/([ismU]*)$/s.exec(text);
  if (!match) return undefined;
  const [, inline = "", body = ""] = /^(?:\(\?([ismU]+)\))?(.*)$/s.exec(match[1] ?? "") ?? [];
  const flags = new Set(`${match[2]}${inline}`.replaceAll("U", ""));
  return new RegExp(body.replaceAll("\\A", "^").replaceAll(/\\[zZ]/g, "$"), [...flags].join(""));
}
