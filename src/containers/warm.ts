/**
 * Images that the operator wants at hand (`images.warm`): each is looked for again and again, so that a tag that has moved is here before the
 * first job names it. One at a time and beside what jobs wait for: they take none of its places.
 */
import type { Clock } from "../base/clock.ts";
import { explainError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import { formatBytes, formatDuration, MINUTE_MS } from "../base/units.ts";
import { createWakeLoop } from "../base/wake-loop.ts";
import type { ImageProgress, JobImages } from "./job-images.ts";

/** How soon a tag that has moved is noticed: one HEAD each time. */
const FOLLOW_MS = 15 * MINUTE_MS;
/** After a failure. */
const AGAIN_MS = 2 * MINUTE_MS;
/** A registry that is down is asked again with the next look. */
const PATIENCE_MS = MINUTE_MS;

export interface WarmImage {
  /** As the operator wrote it. */
  readonly name: string;
  /** What it stood for at the last look that went well. */
  readonly digest: string | undefined;
  /** Why the last look did not, in words. */
  readonly problem: string | undefined;
}

export interface WarmImages {
  start(): void;
  /** Looks at once: the list may have changed. */
  wake(): void;
  /** In the order of the list; of those that were looked at. */
  status(): readonly WarmImage[];
  stop(): Promise<void>;
}

interface WarmDeps {
  /** As configured now. */
  readonly names: () => readonly string[];
  readonly images: () => Promise<Pick<JobImages, "prepare">>;
  readonly clock: Clock;
  readonly log: Log;
}

export function createWarmImages({ names, images, clock, log }: WarmDeps): WarmImages {
  const known = new Map<string, WarmImage>();
  const stopping = new AbortController();
  const loop = createWakeLoop(clock, lookAtAll);

  async function lookAtAll(): Promise<number> {
    const wanted = names();
    for (const name of known.keys()) if (!wanted.includes(name)) known.delete(name);
    for (const name of wanted) {
      const before = known.get(name);
      const now = await lookAt(name, before);
      if (stopping.signal.aborted) break;
      learn(now, before);
    }
    const isWell = [...known.values()].every(({ problem }) => problem === undefined);
    return clock.now() + (isWell ? FOLLOW_MS : AGAIN_MS);
  }

  function learn(now: WarmImage, before: WarmImage | undefined): void {
    const { name: image, problem } = now;
    known.set(image, now);
    if (problem !== undefined && problem !== before?.problem)
      log.warn({ image, problem }, "an image that is to be kept at hand is not here");
  }

  async function lookAt(name: string, before: WarmImage | undefined): Promise<WarmImage> {
    try {
      const { prepare } = await images();
      const wants = [{ name, policy: "always", isTrusted: true } as const];
      const { signal } = stopping;
      const given = { signal, patienceMs: PATIENCE_MS, isAside: true, onProgress: teller(name, log) };
      const [image] = await prepare(wants, given);
      if (image && !image.isFromCache)
        log.info(
          {
            ...{ image: name, digest: image.digest, took: formatDuration(image.tookMs) },
            ...{ fetched: formatBytes(image.fetchedBytes), disk: formatBytes(image.sizeBytes) },
          },
          "an image is at hand",
        );
      return { name, digest: image?.digest, problem: undefined };
    } catch (error) {
      return { name, digest: before?.digest, problem: explainError(error) };
    }
  }

  return {
    start: loop.start,
    wake: loop.wake,
    status: () => names().flatMap((name) => known.get(name) ?? []),
    async stop() {
      stopping.abort(new Error("the program ends"));
      await loop.stop();
    },
  };
}

/** Each phase once that takes its time. */
function teller(image: string, log: Log): (progress: ImageProgress) => void {
  const told = new Set<string>();
  return ({ phase, bytes, problem }) => {
    if (phase === "resolve" || told.has(phase)) return;
    told.add(phase);
    if (phase === "wait") log.info({ image, problem }, "waiting for the registry of an image");
    else if (phase === "fetch")
      log.info({ image, missing: formatBytes(bytes?.total ?? 0) }, "fetching an image");
    else log.info({ image }, "making the disk of an image");
  };
}
