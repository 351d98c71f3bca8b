/**
 * Images that jobs name, as disks for their machines: resolved, fetched, composed, and kept for the next job. Whoever starts machines asks
 * for what a job needs (`prepare`), and holds the disks for as long as a machine has them (`pin`).
 */
import { createHash } from "node:crypto";
import { availableParallelism } from "node:os";
import pLimit from "p-limit";
import { allOrNone } from "../base/all-or-none.ts";
import type { Clock } from "../base/clock.ts";
import type { ProxyRoutes } from "../base/proxy/routes.ts";
import { createSharedWork } from "../base/shared-work.ts";
import { MINUTE_MS } from "../base/units.ts";
import type { Credentials } from "../registry/credentials.ts";
import type { RegistryError } from "../registry/errors.ts";
import type { RegistryMirror } from "../relay/mirror/port.ts";
import { type ComposeLimits, usualLimits } from "./compose/compose.ts";
import { startComposing } from "./compose/start-composing.ts";
import type { NamedRegistry } from "./config.ts";
import { ContainerError } from "./errors.ts";
import { type BlobFetches, createBlobFetches } from "./fetch/blob-fetches.ts";
import { type Blob, hostArchitecture } from "./fetch/documents.ts";
import { createRepository, type Repository } from "./fetch/repository.ts";
import { createWays } from "./fetch/ways.ts";
import { Keeper, type Lease } from "./keep/keeper.ts";
import { createRegistryMirror } from "./mirror/registry-mirror.ts";
import { type ImageReference, parseImageName } from "./reference.ts";
import { type PullPolicy, type ResolvedImage, resolveImage } from "./resolve.ts";

interface WantedImage {
  /** As the job names it. */
  readonly name: string;
  readonly policy: PullPolicy;
  /** The operator has named it: its registry may be anywhere, and gets the login of the configuration. */
  readonly isTrusted?: boolean;
}

export interface FoundImage {
  /** In full. */
  readonly reference: string;
  /** Of what the name stands for: an index or a manifest. */
  readonly digest: string;
}

export interface PreparedImage extends FoundImage {
  /** The disk's key, for `pin`, and where it lies. */
  readonly key: string;
  readonly disk: string;
  readonly sizeBytes: number;
  /** What came over the network for it: 0 when all its layers were here. */
  readonly fetchedBytes: number;
  readonly tookMs: number;
  readonly isFromCache: boolean;
}

export interface ImageProgress {
  readonly reference: string;
  /** `wait`: for a registry that is down or asks for patience. */
  readonly phase: "resolve" | "fetch" | "wait" | "compose";
  /** In the phase `wait`: what is the matter, in words. */
  readonly problem?: string;
  /** Of the layers that are missing; undefined in other phases. */
  readonly bytes?: { readonly done: number; readonly total: number };
}

interface PrepareOptions {
  readonly signal: AbortSignal;
  readonly onProgress?: (progress: ImageProgress) => void;
  /** The job's own login for an image. */
  readonly credentials?: (reference: ImageReference) => Credentials | undefined;
  /** For how long a registry that is down, or asks for patience, is tried again. Default: 10 minutes. */
  readonly patienceMs?: number;
  /** No job waits for it: it takes no place among those that jobs wait for, and comes one layer after the other. */
  readonly isAside?: boolean;
}

export interface JobImages {
  /** In the order of the wants. Throws ContainerError or RegistryError as soon as one of them fails. */
  prepare(wants: readonly WantedImage[], options: PrepareOptions): Promise<readonly PreparedImage[]>;
  /** As `prepare`, for images that others get: reads what describes them, and fetches no layer. */
  look(wants: readonly WantedImage[], options: PrepareOptions): Promise<readonly FoundImage[]>;
  readonly keeper: Keeper;
  /** For what jobs pull themselves. */
  readonly mirror: RegistryMirror;
  close(): Promise<void>;
}

export interface JobImagesOptions {
  readonly directory: string;
  readonly sizeBytes: number;
  readonly minFreeBytes: number;
  readonly registries: ReadonlyMap<string, NamedRegistry>;
  readonly proxies: ProxyRoutes;
  readonly clock: Clock;
  readonly limits?: ComposeLimits;
}

/** Each takes a core. */
const COMPOSITIONS = 1;
const PATIENCE_MS = 10 * MINUTE_MS;
/** Raised whenever the same image would become another disk. */
const FORMAT = 1;

/** Throws `container_cache_broken`. */
export async function openJobImages(options: JobImagesOptions): Promise<JobImages> {
  const { clock } = options;
  const keeper = await Keeper.open(options);
  const ways = createWays(options);
  const fetches = createBlobFetches(keeper);
  const maker = createMaker(keeper, fetches, options.limits ?? usualLimits);

  async function found<T>(
    want: WantedImage,
    given: PrepareOptions,
    use: (making: Making, found: FoundImage) => Promise<T>,
  ): Promise<T> {
    const startedAt = clock.now();
    const { name, policy, isTrusted = false } = want;
    const reference = parseImageName(name);
    const { signal, patienceMs = PATIENCE_MS, isAside = false } = given;
    const credentials = given.credentials?.(reference) ?? (isTrusted ? ways.loginFor(reference) : undefined);
    const transport = ways.to(reference, isTrusted);
    const untilMs = startedAt + patienceMs;
    const report = (progress: Omit<ImageProgress, "reference">) =>
      given.onProgress?.({ reference: reference.name, ...progress });
    const onRetry = ({ message: problem }: RegistryError) => report({ phase: "wait", problem });
    const asked = { transport, reference, credentials, clock, untilMs, signal, onRetry };
    const repository = createRepository(asked);
    const lease = keeper.lease();
    try {
      report({ phase: "resolve" });
      const architecture = hostArchitecture();
      const parts = { reference, policy, credentials, repository, keeper, lease, architecture };
      const image = await resolveImage(parts);
      const making = { image, reference, repository, lease, signal, report, policy, isAside };
      const { digest } = image.index ?? image.manifest;
      return await use(making, { reference: reference.name, digest });
    } finally {
      lease.end();
      await repository.close();
    }
  }

  async function prepareOne(want: WantedImage, given: PrepareOptions): Promise<PreparedImage> {
    const startedAt = clock.now();
    return await found(want, given, async (making, image) => {
      const made = await maker.disk(making);
      return { ...image, ...made, tookMs: clock.now() - startedAt };
    });
  }

  return {
    keeper,
    mirror: createRegistryMirror({ keeper, fetches, ways, clock, sizeBytes: options.sizeBytes }),
    prepare: (wants, given) =>
      allOrNone(wants, given.signal, (want, signal) => prepareOne(want, { ...given, signal })),
    look: (wants, given) =>
      allOrNone(wants, given.signal, (want, signal) =>
        found(want, { ...given, signal }, async (_, image) => image),
      ),
    async close() {
      keeper.close();
      await ways.close();
    },
  };
}

interface Making {
  readonly image: ResolvedImage;
  readonly reference: ImageReference;
  readonly repository: Repository;
  readonly lease: Lease;
  readonly signal: AbortSignal;
  readonly policy: PullPolicy;
  readonly isAside: boolean;
  readonly report: (progress: Omit<ImageProgress, "reference">) => void;
}

type Made = Pick<PreparedImage, "key" | "disk" | "sizeBytes" | "fetchedBytes" | "isFromCache">;

function createMaker(keeper: Keeper, fetches: BlobFetches, limits: ComposeLimits) {
  const fetchLayers = createFetching(keeper, fetches);
  const compose = createComposing(keeper, limits);
  return {
    async disk(making: Making): Promise<Made> {
      const key = keyOf(making);
      const disk = keeper.pathOf("disk", key);
      if (making.lease.takeDisk(key))
        return { key, disk, sizeBytes: keeper.diskBytes(key), fetchedBytes: 0, isFromCache: true };
      const fetchedBytes = await fetchLayers(making);
      const sizeBytes = await compose(making, key);
      await keeper.makeRoom(0);
      return { key, disk, sizeBytes, fetchedBytes, isFromCache: false };
    },
  };
}

/** Layers that are not here; answers how much came for this image. */
function createFetching(keeper: Keeper, fetches: BlobFetches) {
  return async (making: Making): Promise<number> => {
    const { image, lease, report, policy, reference, repository, signal, isAside } = making;
    const order = isAside ? pLimit(1) : (work: () => Promise<number>) => work();
    const each = new Map(image.layers.map((layer) => [layer.digest, layer]));
    const missing = [...each.values()].filter(({ digest }) => !lease.takeBlob(digest, reference.registry));
    if (missing.length > 0 && policy === "never") throw goneFromHere(reference);
    const total = sum(missing);
    // Besides the layers: the disk, and one archive for as long as it is read.
    await keeper.makeRoom(total + 2 * sum(image.layers));
    const done = new Map<string, number>();
    if (total > 0) report({ phase: "fetch", bytes: { done: 0, total } });
    const fetched = await Promise.all(
      missing.map((blob) => {
        const onBytes = (bytes: number) => {
          done.set(blob.digest, bytes);
          report({ phase: "fetch", bytes: { done: [...done.values()].reduce((a, b) => a + b, 0), total } });
        };
        return order(() => fetches.fetch({ repository, reference, blob, signal, onBytes, isAside }));
      }),
    );
    return fetched.reduce((a, b) => a + b, 0);
  };
}

/** Disks from the blobs that are here; each once. */
function createComposing(keeper: Keeper, limits: ComposeLimits) {
  const composing = createSharedWork<number>();
  const compositions = pLimit(COMPOSITIONS);
  // tar2sqfs leaves one to the rest of this computer.
  const most = Math.max(1, Math.min(4, availableParallelism() - 1));

  return async ({ image, reference, signal, report, isAside }: Making, key: string): Promise<number> => {
    report({ phase: "compose" });
    const jobs = isAside ? 1 : most;
    return await composing.run(key, signal, (stop) => {
      const compose = async () => {
        const target = keeper.workPath("sqfs");
        const layers = image.layers.map((layer) => ({ ...layer, path: keeper.pathOf("blob", layer.digest) }));
        const { manifest, index, config } = image;
        const parts = { names: [reference.name], manifest, index, config, layers };
        const bytes = await startComposing({ ...parts, target, limits, jobs }, stop);
        await keeper.addDisk({ key, name: reference.name, manifest: manifest.digest }, target);
        return bytes;
      };
      return isAside ? compose() : compositions(compose);
    });
  };
}

function keyOf({ image, reference }: Making): string {
  const parts = [FORMAT, image.manifest.digest, image.index?.digest ?? "", reference.name];
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex");
}

function sum(blobs: readonly Blob[]): number {
  return blobs.reduce((total, { bytes }) => total + bytes, 0);
}

function goneFromHere({ name }: ImageReference): ContainerError {
  return new ContainerError("container_not_here", `layers of ${name} are not on this computer any more`, {
    hint: "let them be fetched: use another pull policy than never, or firerunner image cache pull",
  });
}
