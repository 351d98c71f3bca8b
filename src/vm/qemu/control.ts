/**
 * QEMU's monitor as the connection through which a machine's end is heard: its events, and what it answers when it is asked how it is,
 * in the port's terms.
 */
import type { Exit, ExitKind } from "../driver.ts";
import type { Control } from "../local/hypervisor.ts";
import { connectQmp, type QmpClient } from "./qmp.ts";

export async function connectControl(path: string, signal: AbortSignal): Promise<Control> {
  const qmp = await connectQmp(path, signal);
  return { follow: (onFault) => follow(qmp, onFault), close: () => qmp.close() };
}

async function follow(qmp: QmpClient, onFault: (fault: Exit) => void): Promise<ExitKind | undefined> {
  let seen: ExitKind | undefined;
  const stop = qmp.onEvent(({ event, data }) => {
    if (event === "SHUTDOWN") seen = exitOfReason(data["reason"]);
    if (event === "STOP") void askStatus(qmp, onFault);
    const fault = faultOfEvent(event, data);
    if (fault) onFault(fault);
  });
  // It may have stopped while nobody listened.
  void askStatus(qmp, onFault);
  await qmp.closed;
  stop();
  return seen;
}

async function askStatus(qmp: QmpClient, onFault: (fault: Exit) => void): Promise<void> {
  const fault = faultOfStatus(await qmp.execute("query-status").catch(() => undefined));
  if (fault) onFault(fault);
}

/** What QEMU's reason for a SHUTDOWN event says about the machine. With `-no-reboot` every reset is an end, and ours only power off. */
export function exitOfReason(reason: unknown): ExitKind {
  if (reason === "guest-shutdown") return "orderly";
  return typeof reason === "string" && reason.startsWith("guest-") ? "crash" : "killed";
}

/**
 * A write that the host's disk did not take was reported to the guest, which may have lost it without a word: its kernel tells only
 * those who ask (fsync), so that a job could succeed with files that are not whole. A read that failed is for the guest to deal with.
 */
export function faultOfEvent(event: string, data: Readonly<Record<string, unknown>>): Exit | undefined {
  if (event !== "BLOCK_IO_ERROR" || data["operation"] === "read" || data["action"] === "ignore")
    return undefined;
  const reason = typeof data["reason"] === "string" ? data["reason"] : "";
  if (data["nospace"] === true || /quota/i.test(reason))
    return { exit: "host-disk", words: "what it wrote found no room there" };
  return { exit: "disk-error", words: reason === "" ? "an error that has no name" : reason.slice(0, 80) };
}

/** Of the answer to `query-status`. Nobody here pauses machines: one that stands still does so for good. */
export function faultOfStatus(answer: unknown): Exit | undefined {
  const status =
    typeof answer === "object" && answer !== null && "status" in answer ? answer.status : undefined;
  if (status === "io-error") return { exit: "host-disk", words: "its hypervisor stood still at a write" };
  return status === "internal-error" ? { exit: "crash", words: "its hypervisor gave up" } : undefined;
}
