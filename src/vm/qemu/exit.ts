import { readFile, rename, writeFile } from "node:fs/promises";
import { systemCode } from "../../base/errors.ts";
import type { ExitKind } from "../driver.ts";
import type { MachineFiles } from "./files.ts";

const kinds: readonly string[] = ["orderly", "crash", "killed", "lost"] satisfies readonly ExitKind[];

/** What QEMU's reason for a SHUTDOWN event says about the machine. With `-no-reboot` every reset is an end, and ours only power off. */
export function exitOfReason(reason: unknown): ExitKind {
  if (reason === "guest-shutdown") return "orderly";
  return typeof reason === "string" && reason.startsWith("guest-") ? "crash" : "killed";
}

/** The end that was remembered, or undefined when none was seen. */
export async function readExit(files: MachineFiles): Promise<ExitKind | undefined> {
  const text = await readFile(files.exit, "utf8").catch(() => "");
  return kinds.includes(text.trim()) ? (text.trim() as ExitKind) : undefined;
}

/** Remembers the end, so that it survives this program. Nothing is remembered of a machine that is being removed. */
export async function writeExit(files: MachineFiles, exit: ExitKind): Promise<void> {
  const draft = `${files.exit}.new`;
  try {
    await writeFile(draft, `${exit}\n`, { mode: 0o600 });
    await rename(draft, files.exit);
  } catch (error) {
    if (systemCode(error) !== "ENOENT") throw error;
  }
}
