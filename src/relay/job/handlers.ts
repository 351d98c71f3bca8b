import type { Clock } from "../../base/clock.ts";
import { describeError } from "../../base/errors.ts";
import type { Log } from "../../base/log.ts";
import type { ProxyRoutes } from "../../base/proxy/routes.ts";
import { MIB_BYTES } from "../../base/units.ts";
import type { Pool } from "../../domain/pool.ts";
import type { GitLabHttp } from "../../gitlab/http.ts";
import type { RunnerApi } from "../../gitlab/runner-api.ts";
import type { Job, Machine, Store } from "../../store/store.ts";
import type { RelaySettings } from "../config.ts";
import type { AddressGuard, Resolve } from "../egress/addresses.ts";
import type { Dialer } from "../egress/egress-dialer.ts";
import { Refusal } from "../errors.ts";
import type { ChunkedWork } from "../gateway/admission.ts";
import type { Audit } from "../gateway/audit.ts";
import type { Handle } from "../gateway/dispatcher.ts";
import { type Exchange, reply } from "../gateway/exchange.ts";
import type { Guest, JobSession } from "../gateway/guest.ts";
import type { RegistryMirror } from "../mirror/port.ts";
import type { PulledImages, ServeMirror } from "../mirror/registry-mirror.ts";
import { createDownload, createUpload } from "./artifacts.ts";
import { createCacheHandlers, type RelayCache } from "./cache.ts";
import { createGit } from "./git.ts";
import { createGuestCalls, createJobCaller } from "./gitlab-calls.ts";
import { noteUse } from "./guest-use.ts";
import { createJobDelivery } from "./job-delivery.ts";
import type { JobLogs } from "./job-logs.ts";
import { createJobEnd, type JobEnd, type RecordEnd } from "./job-session.ts";
import { createRedirects } from "./redirects.ts";
import { createAppendTrace, ensureHead } from "./trace.ts";
import { awaitCancel, createUpdateJob } from "./update-job.ts";

interface HandlersContext {
  readonly dialer: Dialer;
  readonly mirror: ServeMirror;
  readonly audit: Audit;
  readonly recordEnd: RecordEnd;
  readonly pieces: ChunkedWork;
  readonly logs: JobLogs;
  /** Waited for at the stop. */
  readonly track: (work: Promise<void>) => void;
}

/** One handler for each route: the parts list of everything that is served to a guest, but for the proxy. */
export function createHandlers(options: RelayOptions, context: HandlersContext): Handle {
  const { store, http, api, clock, config } = options;
  const { dialer, audit, recordEnd, pieces, track } = context;
  const jobEnd = createJobEnd({ store, clock });
  const caller = createJobCaller({ http, clock });
  const reports = { store, api, clock, jobEnd, caller, logs: context.logs, ...limitsOf(config) };
  const [appendTrace, updateJob] = [createAppendTrace(reports), createUpdateJob(reports)];
  const { objectStorage, idleTimeout: idleTimeoutMs } = config;
  const redirects = createRedirects({ http, dialer, audit, objectStorage, idleTimeoutMs });
  const calls = createGuestCalls({ http, clock });
  const artifacts = { store, http, calls, dialer, redirects, jobEnd, idleTimeoutMs };
  const [uploadArtifacts, downloadArtifacts] = [createUpload(artifacts), createDownload(artifacts)];
  const git = createGit({ store, http, calls, redirects, idleTimeoutMs, pieces });
  const redeliverAfterMs = config.redeliverAfter;
  const onDelivered = createOpenTrace({ api, store, jobEnd, track });
  const requestJob = createJobDelivery({
    ...{ store, http, clock, redeliverAfterMs, onDelivered },
    inContainers: options.inContainers ?? (async () => false),
    pulledImages: options.pulledImages ?? (async () => []),
    traceparentOf: options.traceparentOf ?? (async () => undefined),
    whyNoCaches: (image) => reasonForNoCaches(options.cache, image),
  });
  const caches = createCacheHandlers({ store, cache: options.cache });

  return async (exchange, route) => {
    switch (route.kind) {
      case "boot":
        return await sendBootData(exchange, options.bootData);
      case "await-cancel":
        return awaitCancel(exchange, clock);
      case "end":
        await recordEnd(exchange.guest, "orderly");
        return reply(exchange.response, 204, {});
      case "tell-use":
        return await noteUse(store, exchange);
      case "request-job":
        return await requestJob(exchange);
      case "update-job":
        return await updateJob(exchange, route.jobId);
      case "append-trace":
        return await appendTrace(exchange, route.jobId);
      case "upload-artifacts":
        return await uploadArtifacts(exchange, route.jobId);
      case "download-artifacts":
        return await downloadArtifacts(exchange, route.jobId);
      case "git":
        return await git.forward(exchange);
      case "lfs-batch":
        return await git.lfsBatch(exchange);
      case "lfs-object":
        return await git.lfsObject(exchange);
      case "fetch-cache":
        return await caches.fetch(exchange, route);
      case "store-cache":
        return await caches.store(exchange, route);
      default:
        return await context.mirror(exchange, route);
    }
  };
}

function limitsOf({ traceInterval, traceLimit }: RelaySettings) {
  return {
    intervalSeconds: Math.max(1, Math.ceil(traceInterval / 1_000)),
    traceLimitBytes: traceLimit * MIB_BYTES,
  };
}

async function reasonForNoCaches(cache: RelayCache | undefined, image: string): Promise<string | undefined> {
  if (cache === undefined) return "FireRunner keeps no caches here (cache.enabled)";
  if (await cache.isKnownTo(image)) return undefined;
  return "the machine's image was built by an earlier release, which kept no caches";
}

interface OpenTraceDeps extends Pick<RelayOptions, "api" | "store">, Pick<HandlersContext, "track"> {
  readonly jobEnd: JobEnd;
}

/** Our own lines reach GitLab at once; what fails here is made up for before the runner's first byte. */
function createOpenTrace({ api, store, jobEnd, track }: OpenTraceDeps) {
  return (guest: Guest, session: JobSession): void => {
    const onOver = (status: string | undefined) => jobEnd.over(session, status);
    const opened = guest.exclusively(() => ensureHead({ api, store }, session, onOver));
    track(
      opened.catch((error: unknown) =>
        guest.log.write("info", "trace", { error: describeError(error) }, "trace not opened yet"),
      ),
    );
  };
}

async function sendBootData(
  { guest, response }: Exchange,
  bootData: RelayOptions["bootData"],
): Promise<void> {
  const text = await bootData(guest.machineId);
  if (text === undefined) throw new Refusal(404, "this machine is not to run");
  reply(response, 200, { "content-type": "text/plain; charset=utf-8", "cache-control": "no-store" }, text);
}

export interface RelayOptions {
  readonly store: Store;
  readonly http: GitLabHttp;
  readonly api: Pick<RunnerApi, "appendTrace">;
  /** The pools as configured now. */
  readonly pools: () => ReadonlyMap<string, Pool>;
  /** What a machine is told at its boot, as text; undefined for a machine that is not to run. */
  readonly bootData: (machineId: string) => Promise<string | undefined>;
  /** Whether the job of a machine runs in containers there; by default none does. */
  readonly inContainers?: (machine: Machine) => Promise<boolean>;
  /** Those that it pulls there; by default all are on its disks. */
  readonly pulledImages?: PulledImages;
  /** Under which span a job may hang its own; by default it is told of none. */
  readonly traceparentOf?: (job: Job) => Promise<string | undefined>;
  readonly clock: Clock;
  readonly log: Log;
  readonly config: RelaySettings;
  /** Undefined where jobs' caches are not kept. */
  readonly cache?: RelayCache | undefined;
  /** Where the authority for machines on other hosts is kept, if any come. */
  readonly directory?: string;
  /** Which addresses guests may not reach. The default refuses everything that is not public. */
  readonly guard?: AddressGuard;
  /** Through which proxies guests' other hosts are reached; by default through none. */
  readonly proxies?: ProxyRoutes;
  /** Gives images to jobs that pull them; without it none are. */
  readonly mirror?: RegistryMirror | undefined;
  /** Replaces the resolution of names that guests ask for. */
  readonly resolve?: Resolve;
}
