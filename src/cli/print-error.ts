import { describeError, FireRunnerError } from "../base/errors.ts";
import { plainJson, plainText } from "../base/text.ts";
import type { Surroundings } from "./context.ts";
import { writeLines } from "./output.ts";

/** The end of every failed command: what went wrong and what to do, or, for a fault of our own, where it happened. */
export function printError(error: unknown, { stderr, argv }: Pick<Surroundings, "stderr" | "argv">): void {
  if (argv.includes("--json")) {
    stderr.write(`${plainJson(asProblem(error))}\n`);
    return;
  }
  if (!(error instanceof FireRunnerError)) {
    const trace = error instanceof Error ? (error.stack ?? error.message) : String(error);
    stderr.write("firerunner: this is a bug in FireRunner, please report it with these lines:\n");
    stderr.write(`${plainText(trace)}\n`);
    return;
  }
  writeLines(stderr, `firerunner: ${plainText(messageOf(error))}`);
  if (error.hint) writeLines(stderr, `  → ${plainText(error.hint)}`);
}

/** The cause is told only where it says more than the message. */
function messageOf(error: FireRunnerError): string {
  const full = describeError(error);
  const cause = error.cause === undefined ? "" : describeError(error.cause);
  const isTold =
    error.code.startsWith("config_") || error.code.startsWith("cli_") || error.message.includes(cause);
  return isTold ? error.message : full;
}

function asProblem(error: unknown): { code: string; message: string; hint: string | null } {
  if (error instanceof FireRunnerError) {
    return { code: error.code, message: messageOf(error), hint: error.hint ?? null };
  }
  return { code: "internal", message: describeError(error), hint: "This is a bug in FireRunner." };
}
