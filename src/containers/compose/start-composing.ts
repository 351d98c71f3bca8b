/**
 * Composes in a thread of its own, with a bound on its memory: reading a hostile archive can hold up or end that thread, and neither the jobs
 * that run nor what GitLab is told of them.
 */
import { rm } from "node:fs/promises";
import { Worker } from "node:worker_threads";
import { describeError } from "../../base/errors.ts";
import { ContainerError } from "../errors.ts";
import type { ComposeOrder } from "./compose.ts";
import type { ComposeAnswer } from "./worker.ts";

const HEAP_MIB_MAX = 1_536;

/** As `composeDisk`. When the signal aborts it ends at once, and leaves nothing behind. */
export async function startComposing(order: ComposeOrder, signal: AbortSignal): Promise<number> {
  signal.throwIfAborted();
  const worker = new Worker(new URL("./worker.ts", import.meta.url), {
    workerData: order,
    resourceLimits: { maxOldGenerationSizeMb: HEAP_MIB_MAX },
  });
  const stop = () => void worker.terminate();
  signal.addEventListener("abort", stop, { once: true });
  try {
    const answer = await new Promise<ComposeAnswer>((resolve, reject) => {
      worker.once("message", resolve);
      worker.once("error", reject);
      worker.once("exit", () => reject(new Error("the thread ended")));
    });
    if ("bytes" in answer) return answer.bytes;
    throw answer;
  } catch (error) {
    await worker.terminate();
    await rm(order.target, { force: true });
    signal.throwIfAborted();
    throw toContainerError(error, order.names[0] ?? "");
  } finally {
    signal.removeEventListener("abort", stop);
  }
}

function toContainerError(error: unknown, name: string): ContainerError {
  const { code, message, hint } = error as Exclude<ComposeAnswer, { bytes: number }>;
  if (code === "container_layer_refused" || code === "container_compose_failed")
    return new ContainerError(code, message, hint === undefined ? {} : { hint });
  const why = error instanceof Error ? describeError(error) : message;
  return new ContainerError("container_compose_failed", `making the disk of ${name}: ${why}`, {
    cause: error,
    hint: "look at the free space of the disk and the memory of this computer, and try again",
  });
}
