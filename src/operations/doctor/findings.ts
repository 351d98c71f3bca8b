/** The questions of doctor and their findings, and how an error becomes one. */
import { describeError, hintOf } from "../../base/errors.ts";

/** One question to this computer or to GitLab. */
export interface DoctorCheck {
  /** A word or two for the first column. */
  readonly name: string;
  run(signal: AbortSignal): Promise<Finding>;
}

export interface Finding {
  /** `warn`: works, but less well than it could; `fail`: jobs cannot be run. */
  readonly level: "ok" | "warn" | "fail";
  /** What was found, and what it means. */
  readonly message: string;
  /** What to do about it. */
  readonly hint?: string;
}

/** The FireRunner that runs on the same state directory. */
export interface RunningFireRunner {
  /** Where it listens, as bound: `https://0.0.0.0:8443`. */
  readonly addresses: readonly string[];
}

const order = { ok: 0, warn: 1, fail: 2 } as const;

/** What goes wrong with asking is the finding, at most as bad as `worst`. */
export function answer(
  ask: (signal: AbortSignal) => Promise<Finding>,
  worst: "warn" | "fail" = "fail",
): (signal: AbortSignal) => Promise<Finding> {
  return async (signal) => {
    try {
      return await ask(signal);
    } catch (error) {
      return { level: worst, ...wentWrong(error) };
    }
  };
}

/** What an error comes to for people: doctor's words, and those of whatever else tells of the same. */
export function wentWrong(error: unknown): Pick<Finding, "message" | "hint"> {
  const hint = hintOf(error);
  return { message: describeError(error), ...(hint === undefined ? {} : { hint: sentence(hint) }) };
}

/** Several findings of one question as one, as bad as the worst of them. What is in order is left out where something is not. */
export function mergeFindings(findings: readonly Finding[]): Finding {
  const level = findings.reduce<Finding["level"]>(
    (worst, each) => (order[each.level] > order[worst] ? each.level : worst),
    "ok",
  );
  const told = level === "ok" ? findings : findings.filter((each) => each.level !== "ok");
  const message = told.map((each) => each.message).join("; ");
  const hints = [...new Set(told.flatMap(({ hint }) => (hint === undefined ? [] : [hint])))];
  return { level, message, ...(hints.length === 0 ? {} : { hint: hints.join(" ") }) };
}

/** An error's hint as one of doctor's. Keys of the configuration and commands stay as they are written. */
export function sentence(hint: string): string {
  if (hint.startsWith("firerunner ")) return hint;
  const first = /^\w+\.\w/.test(hint) ? hint.charAt(0) : hint.charAt(0).toUpperCase();
  const endsInCommand = /: (?:firerunner|ch\w+|apt\S*) [^“”]*$/.test(hint);
  return `${first}${hint.slice(1).replace(/\.$/, "")}${endsInCommand ? "" : "."}`;
}
