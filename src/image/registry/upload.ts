import type { Clock } from "../../base/clock.ts";
import { MIB_BYTES } from "../../base/units.ts";
import { RegistryError } from "./errors.ts";
import { pauseAfter } from "./retry.ts";
import type { RegistrySession } from "./session.ts";
import { createUploadCalls, type Upload, type UploadRequest } from "./upload-calls.ts";

/** Few enough requests, each short enough for the limits of proxies. */
const CHUNK_BYTES = 16 * MIB_BYTES;
/** Failures in a row, without a byte arriving in between. */
const FAILURES_MAX = 5;

interface Deps {
  readonly session: RegistrySession;
  readonly clock: Clock;
  readonly signal?: AbortSignal | undefined;
  readonly chunkBytes?: number | undefined;
}

/**
 * Sends one blob, in pieces. It goes on where the connection broke as far as the registry remembers, and begins anew where it does
 * not.
 */
export async function uploadBlob(deps: Deps, request: UploadRequest): Promise<void> {
  const { session, clock, signal, chunkBytes = CHUNK_BYTES } = deps;
  const calls = createUploadCalls(session, request, chunkBytes);
  let upload: Upload | undefined;
  let best = 0;
  let failures = 0;

  async function recover(error: RegistryError): Promise<void> {
    failures += 1;
    if (failures >= FAILURES_MAX) throw error;
    await clock.sleep(pauseAfter(error, failures), signal);
    // A registry that is still away is asked again by the next attempt.
    upload = upload && (await calls.progressOf(upload).catch(() => upload));
    request.onBytes(upload?.offset ?? 0);
  }

  /** Undefined when all has arrived. */
  async function advance(): Promise<Upload | undefined> {
    upload ??= await calls.begin();
    const next = await calls.step(upload);
    if (next === "done") return undefined;
    if (next === "lost") {
      upload = undefined;
      throw lost(request);
    }
    if (next.offset > best) failures = 0;
    best = Math.max(best, next.offset);
    return next;
  }

  for (;;) {
    try {
      upload = await advance();
      if (!upload) return;
    } catch (error) {
      signal?.throwIfAborted();
      if (!(error instanceof RegistryError) || !error.retryable) throw error;
      await recover(error);
    }
  }
}

function lost({ repository, blob }: UploadRequest): RegistryError {
  const what = `sending ${blob.digest.slice(0, 19)} to ${repository}`;
  return new RegistryError("registry_unavailable", `${what}: the registry loses what has been sent`, {
    hint: "look at its log; several registries behind one address need a storage in common",
    retryable: true,
  });
}
