import type { Finding } from "../../operations/doctor/check.ts";
import { CliError } from "../errors.ts";
import type { Prompter } from "./prompter.ts";

/** False when it has to be asked again. A warning is a person's to judge, where there is one. */
export async function isAccepted(findings: readonly Finding[], asker: Prompter): Promise<boolean> {
  if (findings.some(({ level }) => level === "fail")) {
    failUnlessAsked(findings, asker);
    return false;
  }
  if (!asker.canAsk || findings.every(({ level }) => level === "ok")) return true;
  return await asker.confirm({ message: "Go on with it all the same?", option: "", initial: true });
}

/** Throws `cli_setup` with what is wrong, where nobody can be asked for something better. */
export function failUnlessAsked(findings: readonly Finding[], asker: Prompter): void {
  if (asker.canAsk) return;
  const failed = findings.filter(({ level }) => level === "fail");
  const hints = new Set(failed.flatMap(({ hint }) => hint ?? []));
  throw new CliError(
    "cli_setup",
    failed.map(({ message }) => message).join("; "),
    hints.size === 0 ? {} : { hint: [...hints].join(" ") },
  );
}
