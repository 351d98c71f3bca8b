import { readFile, rename, writeFile } from "node:fs/promises";
import { systemCode } from "../../base/errors.ts";
import type { Exit, ExitKind } from "../driver.ts";
import type { MachineFiles } from "./files.ts";

const kinds: readonly string[] = [
  "orderly",
  "crash",
  "killed",
  "host-disk",
  "disk-error",
  "host-memory",
  "lost",
] satisfies readonly ExitKind[];

/** What QEMU's reason for a SHUTDOWN event says about the machine. With `-no-reboot` every reset is an end, and ours only power off. */
export function exitOfReason(reason: unknown): ExitKind {
  if (reason === "guest-shutdown") return "orderly";
  return typeof reason === "string" && reason.startsWith("guest-") ? "crash" : "killed";
}

/** `before` and `after`: how many processes the kernel had killed for want of memory, at the machine's start and at its end. */
export function exitWithMemory(
  exit: ExitKind,
  before: number | undefined,
  after: number | undefined,
): ExitKind {
  return exit === "killed" && before !== undefined && after !== undefined && after > before
    ? "host-memory"
    : exit;
}

/** The end that was remembered, or undefined when none was seen. */
export async function readExit(files: MachineFiles): Promise<Exit | undefined> {
  const text = await readFile(files.exit, "utf8").catch(() => "");
  const [kind = "", words = ""] = text.split("\n");
  if (!kinds.includes(kind)) return undefined;
  return { exit: kind as ExitKind, ...(words === "" ? {} : { words }) };
}

/** Remembers the end, so that it survives this program. Nothing is remembered of a machine that is being removed. */
export async function writeExit(files: MachineFiles, { exit, words }: Exit): Promise<void> {
  const draft = `${files.exit}.new`;
  try {
    await writeFile(draft, words === undefined ? `${exit}\n` : `${exit}\n${words}\n`, { mode: 0o600 });
    await rename(draft, files.exit);
  } catch (error) {
    if (systemCode(error) !== "ENOENT") throw error;
  }
}
