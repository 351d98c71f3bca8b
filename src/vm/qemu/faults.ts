/** What a hypervisor says of itself that means the end of its machine, though its process goes on. */
import type { Exit } from "../driver.ts";

/** How the machine ends for it. */
export type MachineFault = Exit;

/**
 * A write that the host's disk did not take was reported to the guest, which may have lost it without a word: its kernel tells only
 * those who ask (fsync), so that a job could succeed with files that are not whole. A read that failed is for the guest to deal with.
 */
export function faultOfEvent(
  event: string,
  data: Readonly<Record<string, unknown>>,
): MachineFault | undefined {
  if (event !== "BLOCK_IO_ERROR" || data["operation"] === "read" || data["action"] === "ignore")
    return undefined;
  const reason = typeof data["reason"] === "string" ? data["reason"] : "";
  if (data["nospace"] === true || /quota/i.test(reason))
    return { exit: "host-disk", words: "what it wrote found no room there" };
  return { exit: "disk-error", words: reason === "" ? "an error that has no name" : reason.slice(0, 80) };
}

/** Of the answer to `query-status`. Nobody here pauses machines: one that stands still does so for good. */
export function faultOfStatus(answer: unknown): MachineFault | undefined {
  const status =
    typeof answer === "object" && answer !== null && "status" in answer ? answer.status : undefined;
  if (status === "io-error") return { exit: "host-disk", words: "its hypervisor stood still at a write" };
  return status === "internal-error" ? { exit: "crash", words: "its hypervisor gave up" } : undefined;
}
