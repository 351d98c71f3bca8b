import { type Answer, jsonOf } from "./answer.ts";

/** Enough for a sentence or two; the rest is in GitLab's own log. */
const MAX_WORDS = 300;
/** GitLab's messages are at most an object of lists. */
const MAX_DEPTH = 4;

const tokenLike =
  /\b(?:gl(?:pat|rtr?|cbt|dt|ptt|ft|soat|agent|imt|ffct|oas|wt)-|GR1348941|whsec_)[\w+/=.-]*/g;

/** What GitLab says about a refusal, on one line; "" when it says nothing. No token is in it, whatever was sent. */
export function messageOf(answer: Answer): string {
  const json = jsonOf(answer);
  if (typeof json !== "object" || json === null) return "";
  const { message, error, error_description, scope } = json as Record<string, unknown>;
  const said = [message, error, error_description].map((each) => flatten(each)).filter((each) => each !== "");
  const scopes = flatten(scope);
  if (scopes !== "") said.push(`scope ${scopes}`);
  return shortened(withoutTokens([...new Set(said)].join(", ")));
}

/** Anything that looks like one of GitLab's tokens, blotted out. */
function withoutTokens(text: string): string {
  return text.replace(tokenLike, "[secret]");
}

/** A string, a list, or an object of either, such as `{ "tag_list": ["is too long"] }`. */
function flatten(value: unknown, depth = 0): string {
  if (typeof value === "string" || typeof value === "number") return String(value);
  if (typeof value !== "object" || value === null || depth === MAX_DEPTH) return "";
  if (Array.isArray(value)) return joined(value.map((each) => flatten(each, depth + 1)));
  return joined(
    Object.entries(value).map(([name, each]) => {
      const words = flatten(each, depth + 1);
      return words === "" ? "" : `${name} ${words}`;
    }),
  );
}

function joined(parts: readonly string[]): string {
  return parts.filter((part) => part !== "").join(", ");
}

function shortened(text: string): string {
  // Answers are foreign: neither line ends nor control characters of theirs get into a log.
  const line = text.replace(/[\s\p{Cc}\p{Cf}]+/gu, " ").trim();
  return line.length <= MAX_WORDS ? line : `${line.slice(0, MAX_WORDS)}…`;
}
