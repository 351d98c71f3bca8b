/**
 * Jobs in containers, from both sides: the scheduler has the disks of a job's images made before its machine is, and the machine and the
 * relay are told that it has them. What a job asks for is worked out from its stored payload each time, so that nothing more is kept.
 */
import { allOrNone } from "../base/all-or-none.ts";
import type { Clock } from "../base/clock.ts";
import { withDeadline } from "../base/deadline.ts";
import { explainError, FireRunnerError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import { oneLine } from "../base/text.ts";
import { formatBytes, formatDuration } from "../base/units.ts";
import { ContainerError } from "../containers/errors.ts";
import type {
  FoundImage,
  JobImages as ImageCache,
  ImageProgress,
  PreparedImage,
} from "../containers/job-images.ts";
import type { JobLogins } from "../containers/job-logins.ts";
import { type JobWants, jobWants, type WantedJobImage } from "../containers/job-wants.ts";
import { containersUse, namesContainers } from "../domain/containers.ts";
import type { JobFailure } from "../domain/job-end.ts";
import type { Pool } from "../domain/pool.ts";
import { JobPayload } from "../gitlab/runner-api.ts";
import { maskSecrets } from "../gitlab/trace.ts";
import type { ContainersBootData } from "../guest/boot.ts";
import type { PulledImage, RegistryMirror } from "../relay/mirror/port.ts";
import type { ImageLine, ImageSource, JobImages, PreparedDisks, WantedDisks } from "../scheduler/ports.ts";
import type { EventStore, JobStore, Machine, MachineStore } from "../store/store.ts";
import { createOutfits, outfitFrom, rulesOf } from "./machine-outfits.ts";

export interface JobContainersDeps {
  readonly store: Pick<JobStore, "payload"> & Pick<MachineStore, "machine"> & Pick<EventStore, "onEvent">;
  readonly pools: () => ReadonlyMap<string, Pool>;
  readonly images: ImageSource;
  /** Opened when the first job needs it. Throws `container_cache_broken`. */
  readonly openCache: () => Promise<ImageCache>;
  readonly clock: Clock;
}

export interface JobContainers extends JobImages {
  /** What the machine is told of its disks; undefined for a job of the shell. Throws when that cannot be known any more. */
  bootOf(machine: Machine): Promise<ContainersBootData | undefined>;
  /** Images that the machine pulls since its job names them; none where they are on its disks. Throws as `bootOf` does. */
  pulledBy(machine: Machine): Promise<readonly PulledImage[]>;
  /** For what jobs pull themselves. */
  readonly mirror: RegistryMirror;
  /** Throws `container_cache_broken`. */
  cache(): Promise<ImageCache>;
  close(): Promise<void>;
}

/** Tells once of pools whose jobs run in the machine itself though nobody asked for it: that is to end with the next release. */
export async function warnOfIgnoredImages(
  pools: readonly (Pick<Pool, "driver" | "image" | "containers"> & { readonly name: string })[],
  images: ImageSource,
  log: Pick<Log, "warn">,
): Promise<void> {
  for (const pool of pools) {
    const image = await images.resolve(pool.image).catch(() => undefined);
    const use = image && containersUse(pool, image);
    if (use?.kind !== "ignore" || use.unsaid === undefined) continue;
    log.warn(
      {
        pool: pool.name,
        why: use.unsaid,
        hint: "say containers.ignore: true, or give it an image of the variant containers",
      },
      "images and services that jobs of a pool name are ignored; a later release will refuse such jobs",
    );
  }
}

/** While there is another policy to try, a registry that is down is not waited for long. */
const SHORT_PATIENCE_MS = 20_000;

/** What GitLab's payload says and the operator's login cannot change: to try again is of no use. */
const PERMANENT: ReadonlySet<string> = new Set([
  "container_bad_name",
  "container_bad_policy",
  "container_not_found",
  "container_denied",
  "container_forbidden_address",
  "container_not_here",
  "container_wrong_platform",
  "container_bad_image",
  "container_layer_refused",
  "container_too_large",
  "registry_unauthorized",
  "registry_name_unknown",
  "registry_bad_name",
]);

export function createJobContainers(deps: JobContainersDeps): JobContainers {
  const { store, clock } = deps;
  const outfits = createOutfits(deps);
  let cache: Promise<ImageCache> | undefined;

  function open(): Promise<ImageCache> {
    cache ??= openSwept(deps).catch((error: unknown) => {
      cache = undefined;
      throw error;
    });
    return cache;
  }

  const stopHearing = store.onEvent(({ kind, machineId }) => {
    if (kind !== "machine:gone" || machineId == null) return;
    outfits.forget(machineId);
    void cache?.then(({ keeper }) => keeper.unpin(machineId)).catch(() => {});
  });

  async function prepare(wanted: WantedDisks, signal: AbortSignal, tell: (line: ImageLine) => void) {
    const pool = deps.pools().get(wanted.pool);
    if (pool === undefined) return unservable(`the pool “${wanted.pool}” is not configured any more`);
    const use = containersUse(pool, await deps.images.resolve(wanted.image));
    const named = use.kind === "ignore" ? undefined : await containerJob(store, wanted.jobId);
    if (use.kind === "ignore" || named === undefined) {
      outfits.set(wanted.machineId, undefined);
      return { disks: [], lines: [] };
    }
    if (use.kind === "refuse") return unservable(`it names an image or services, and ${use.reason}`);
    return await prepareImages({ wanted, pool, ...named, way: use.images, tell }, signal);
  }

  /** For a machine that pulls them, they are looked at: what is nowhere, or not for this job, fails the job in the registry's words. */
  async function prepareImages({ wanted, pool, raw, payload, way, tell }: Preparing, signal: AbortSignal) {
    const shown = (text: string) => maskSecrets(oneLine(text), payload);
    const { pullDeadline: limitMs } = pool.containers;
    try {
      const wants = jobWants(raw, rulesOf(pool));
      const outfit = outfitFrom(pool, wants, way);
      const late = () => lateImages(limitMs);
      const onProgress = progressLines(clock, (image, text) =>
        tell({ level: "info", subject: shown(`image ${image}:`), text }),
      );
      const { images, looked } = await withDeadline(clock, { limitMs, parent: signal, late }, async (stop) =>
        imagesFor(way, await open(), wants, { signal: stop, limitMs, onProgress }),
      );
      if (way === "disks") await pin(store, await open(), { machineId: wanted.machineId, images, signal });
      outfits.set(wanted.machineId, outfit);
      const lines = linesOf([...images, ...looked], wants.logins, shown);
      return { disks: images.map(({ disk }) => disk), lines };
    } catch (error) {
      signal.throwIfAborted();
      return { failure: failureOf(error, shown) };
    }
  }

  return {
    prepare,
    bootOf: async (machine) => (await outfits.of(machine))?.boot,
    pulledBy: async (machine) => (await outfits.of(machine))?.pulled ?? [],
    cache: open,
    mirror: {
      manifest: async (request) => await (await open()).mirror.manifest(request),
      blob: async (request) => await (await open()).mirror.blob(request),
    },
    async close() {
      stopHearing();
      await (await cache?.catch(() => undefined))?.close();
    },
  };
}

interface Preparing {
  readonly wanted: WantedDisks;
  readonly pool: Pool;
  readonly raw: string;
  readonly payload: JobPayload;
  readonly way: "disks" | "pulled";
  readonly tell: (line: ImageLine) => void;
}

/** The job's payload, where it names what runs in containers. */
async function containerJob(store: Pick<JobStore, "payload">, jobId: number) {
  const raw = await store.payload(jobId);
  const payload = raw === undefined ? undefined : JobPayload.parse(JSON.parse(raw));
  return raw !== undefined && payload !== undefined && namesContainers(payload)
    ? { raw, payload }
    : undefined;
}

interface Pin {
  readonly machineId: string;
  readonly images: readonly PreparedImage[];
  readonly signal: AbortSignal;
}

/** Not for a machine that was given up meanwhile: nobody would let go of them. */
async function pin(
  store: JobContainersDeps["store"],
  { keeper }: ImageCache,
  { machineId, images, signal }: Pin,
) {
  const keys = images.map(({ key }) => key);
  keeper.pin(machineId, keys);
  const state = (await store.machine(machineId))?.state;
  if (!signal.aborted && state === "creating") return;
  keeper.unpin(machineId);
  signal.throwIfAborted();
}

/** With what an earlier process held for machines that have gone since let go of. */
async function openSwept({ openCache, store }: JobContainersDeps): Promise<ImageCache> {
  const images = await openCache();
  for (const machineId of images.keeper.pinnedMachines()) {
    const machine = await store.machine(machineId);
    if (machine === undefined || machine.state === "gone") images.keeper.unpin(machineId);
  }
  return images;
}

interface Fetching {
  readonly signal: AbortSignal;
  readonly limitMs: number;
  readonly onProgress: (progress: ImageProgress) => void;
}

/** Those of disks are made; those that a machine pulls are looked at. */
async function imagesFor(
  way: "disks" | "pulled",
  { prepare, look }: ImageCache,
  wants: JobWants,
  fetching: Fetching,
) {
  return way === "disks"
    ? { images: await fetchAll(prepare, wants, fetching), looked: [] }
    : { images: [], looked: await fetchAll(look, newest(wants), fetching) };
}

type Get<T> = (...asked: Parameters<ImageCache["prepare"]>) => Promise<readonly T[]>;

/** A machine that begins without images asks its registry, whatever was here before. */
function newest(wants: JobWants): JobWants {
  return { ...wants, images: wants.images.map((image) => ({ ...image, policies: ["always"] })) };
}

async function fetchAll<T>(get: Get<T>, { images, logins }: JobWants, fetching: Fetching): Promise<T[]> {
  return await allOrNone(images, fetching.signal, (image, signal) =>
    fetchOne(get, image, logins, { ...fetching, signal }),
  );
}

/** By each of its policies until one gives it; the last one's error counts. */
async function fetchOne<T>(
  get: Get<T>,
  { name, policies, isTrusted }: WantedJobImage,
  logins: JobLogins,
  { signal, limitMs, onProgress }: Fetching,
): Promise<T> {
  for (const [index, policy] of policies.entries()) {
    const isLast = index === policies.length - 1;
    const patienceMs = isLast ? limitMs : Math.min(limitMs, SHORT_PATIENCE_MS);
    const credentials = logins.of;
    const given = { signal, patienceMs, credentials, onProgress };
    const images = await get([{ name, policy, isTrusted }], given).catch((error: unknown) => {
      if (isLast || signal.aborted) throw error;
      return [];
    });
    if (images[0]) return images[0];
  }
  throw new Error(`${name} has no pull policy`);
}

/** A job's log says of an image that has to be fetched how much it is, and now and then how far it has come. */
const PROGRESS_GAP_MS = 30_000;
/** Of each problem with a registry the log tells once. */
const MOST_PROBLEMS = 10;

function progressLines(clock: Pick<Clock, "now">, tell: (image: string, text: string) => void) {
  const toldAt = new Map<string, number>();
  const problems = new Set<string>();
  return ({ reference, bytes, problem }: ImageProgress): void => {
    if (problem !== undefined && !problems.has(problem) && problems.size < MOST_PROBLEMS) {
      problems.add(problem);
      tell(reference, `${problem}; trying again`);
    }
    if (bytes === undefined) return;
    const before = toldAt.get(reference);
    if (before !== undefined && clock.now() - before < PROGRESS_GAP_MS) return;
    toldAt.set(reference, clock.now());
    const total = formatBytes(bytes.total);
    tell(reference, before === undefined ? `fetching ${total}` : `${formatBytes(bytes.done)} of ${total}`);
  };
}

function lateImages(limitMs: number): ContainerError {
  const words = `they were not here within ${formatDuration(limitMs)}`;
  return new ContainerError("container_late", words, { retryable: true });
}

function unservable(reason: string): { readonly failure: JobFailure } {
  return { failure: { reason, cause: "unservable" } };
}

function failureOf(error: unknown, shown: (text: string) => string): JobFailure {
  const isPermanent = error instanceof FireRunnerError && PERMANENT.has(error.code);
  return {
    reason: shown(`its images could not be had: ${explainError(error)}`),
    cause: isPermanent ? "image" : "image-fetch",
  };
}

function linesOf(
  images: readonly (PreparedImage | FoundImage)[],
  { problem }: JobLogins,
  shown: (text: string) => string,
): PreparedDisks["lines"] {
  const ofImages = images.map(
    (image): ImageLine => ({
      level: "info",
      subject: shown(`image ${image.reference}`),
      text: `is ${image.digest.slice(0, 19)}, ${originOf(image)}`,
    }),
  );
  if (problem === undefined) return ofImages;
  return [{ level: "warning", subject: "the job's variable", text: problem }, ...ofImages];
}

function originOf(image: PreparedImage | FoundImage): string {
  if (!("disk" in image)) return "pulled in the machine, through the relay";
  const { isFromCache, fetchedBytes, tookMs } = image;
  if (isFromCache) return "from the cache";
  const took = formatDuration(tookMs);
  return fetchedBytes > 0
    ? `fetched in ${took} (${formatBytes(fetchedBytes)})`
    : `made in ${took} of layers that were here`;
}
