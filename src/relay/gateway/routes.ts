/**
 * What a request of each route may cost the program, and what of it goes on to GitLab: said here, and nowhere else.
 *
 * `dispatcher.ts` applies it to every request before a handler sees it, so that a handler is bounded by construction: it is called only
 * when there is room (`atOnce`, `holdsBytes`), sees no header and no part of the query but those named here, counts what it reads with
 * `exchange.hold`, and stops waiting when `exchange.signal` aborts. A new route is a kind in `routes.ts`, a line here, and a handler.
 */
import { HOUR_MS, MINUTE_MS, SECOND_MS } from "../../base/units.ts";
import { type CacheRequest, cacheRequestOf, isCachePath } from "../../cache/request.ts";

/** What a guest's request is about. Paths are matched as sent: nothing is decoded, so nothing can hide in an encoding. */
export type Route =
  | { readonly kind: "boot" }
  /** Answered when GitLab wants the job canceled: the machine's init hurries its runner. */
  | { readonly kind: "await-cancel" }
  /** The guest is about to power off. */
  | { readonly kind: "end" }
  /** The guest tells how much of its machine it has used. */
  | { readonly kind: "tell-use" }
  | { readonly kind: "request-job" }
  | { readonly kind: "update-job"; readonly jobId: number }
  | { readonly kind: "append-trace"; readonly jobId: number }
  | { readonly kind: "upload-artifacts"; readonly jobId: number }
  | { readonly kind: "download-artifacts"; readonly jobId: number }
  | { readonly kind: "git" }
  /** The list of a push's or a checkout's large files: its answer names URLs that must lead through the relay. */
  | { readonly kind: "lfs-batch" }
  | { readonly kind: "lfs-object" }
  /** Images that the job pulls itself: whether this is a registry, a token for it, and what it has. */
  | { readonly kind: "registry-check" }
  | { readonly kind: "registry-token" }
  | { readonly kind: "registry-manifest"; readonly name: string; readonly reference: string }
  | { readonly kind: "registry-blob"; readonly name: string; readonly reference: string }
  /** What else is asked of a registry: pushes, lists. */
  | { readonly kind: "registry-other" }
  /** By the protocol S3, of which runners know no other part. */
  | ({ readonly kind: "fetch-cache" } & CacheRequest)
  | ({ readonly kind: "store-cache" } & CacheRequest);

const segment = "(?!\\.{1,2}/)[A-Za-z0-9_.-]+";
const repository = `^(?:/${segment}){1,30}\\.git`;
/** Without `.git` GitLab answers this one request, by naming the address with it. */
const shortHandshake = new RegExp(`^(?!/api/)(?:/${segment}){2,30}/info/refs$`);
const git = new RegExp(`${repository}/(?:info/refs|git-upload-pack|git-receive-pack)$`);
const lfsBatch = new RegExp(`${repository}/info/lfs/objects/batch$`);
const lfsLocks = new RegExp(`${repository}/info/lfs/locks(?:/verify|/[A-Za-z0-9_-]+/unlock)?$`);
const lfsObject = new RegExp(`${repository}/gitlab-lfs/objects/[0-9a-f]{64}(?:/\\d{1,15})?$`);

const jobPath = /^\/api\/v4\/jobs\/([1-9]\d{0,14})(\/trace|\/artifacts)?$/;

/** The route of a request, or undefined when the relay has nothing there. `path` is without the query. */
export function routeOf(method: string, path: string): Route | undefined {
  if (isCachePath(path)) return cacheRoute(method, path);
  if (path.length > 2_048) return undefined;
  return (
    ownRoute(method, path) ?? jobRoute(method, path) ?? gitRoute(method, path) ?? registryRoute(method, path)
  );
}

function ownRoute(method: string, path: string): Route | undefined {
  if (method === "GET" && path === "/firerunner/boot") return { kind: "boot" };
  if (method === "GET" && path === "/firerunner/cancel") return { kind: "await-cancel" };
  if (method === "POST" && path === "/firerunner/end") return { kind: "end" };
  if (method === "POST" && path === "/firerunner/use") return { kind: "tell-use" };
  if (method === "GET" && path === "/firerunner/registry-token") return { kind: "registry-token" };
  if (method === "POST" && path === "/api/v4/jobs/request") return { kind: "request-job" };
  return undefined;
}

const jobKinds: Readonly<
  Record<string, "update-job" | "append-trace" | "upload-artifacts" | "download-artifacts">
> = {
  "PUT ": "update-job",
  "PATCH /trace": "append-trace",
  "POST /artifacts": "upload-artifacts",
  "GET /artifacts": "download-artifacts",
};

function jobRoute(method: string, path: string): Route | undefined {
  const match = jobPath.exec(path);
  const kind = match ? jobKinds[`${method} ${match[2] ?? ""}`] : undefined;
  return kind ? { kind, jobId: Number(match?.[1]) } : undefined;
}

function cacheRoute(method: string, path: string): Route | undefined {
  const request = cacheRequestOf(path);
  if (request === undefined) return undefined;
  if (method === "GET" || method === "HEAD") return { kind: "fetch-cache", ...request };
  return method === "PUT" ? { kind: "store-cache", ...request } : undefined;
}

function gitRoute(method: string, path: string): Route | undefined {
  if (method === "POST" && lfsBatch.test(path)) return { kind: "lfs-batch" };
  if ((method === "GET" || method === "PUT") && lfsObject.test(path)) return { kind: "lfs-object" };
  if (method === "GET" && shortHandshake.test(path)) return { kind: "git" };
  if ((method === "GET" || method === "POST") && (git.test(path) || lfsLocks.test(path)))
    return { kind: "git" };
  return undefined;
}

const imagePart = "[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*";
const imagePath = new RegExp(
  `^/v2/(${imagePart}(?:/${imagePart})*)/(?:(manifests)/(\\w[\\w.-]{0,127}|sha256:[0-9a-f]{64})|blobs/(sha256:[0-9a-f]{64}))$`,
);
/** As registries have them, behind the host's. */
const IMAGE_NAME_CHARACTERS_MAX = 512;

function registryRoute(method: string, path: string): Route | undefined {
  if (!path.startsWith("/v2/") && path !== "/v2") return undefined;
  if (method !== "GET" && method !== "HEAD") return { kind: "registry-other" };
  if (path === "/v2/" || path === "/v2") return { kind: "registry-check" };
  if (path.length > IMAGE_NAME_CHARACTERS_MAX) return { kind: "registry-other" };
  const [, name, isManifest, reference, digest = ""] = imagePath.exec(path) ?? [];
  if (name === undefined) return { kind: "registry-other" };
  if (isManifest === undefined) return { kind: "registry-blob", name, reference: digest };
  return { kind: "registry-manifest", name, reference: reference ?? "" };
}

/** `elsewhere`: by the proxy to another server, as a request or a tunnel. `nothing`: there is no such place, and it is refused. */
export type Served = Route["kind"] | "elsewhere" | "nothing";

interface RouteRule {
  /** Requests of one machine that are not answered yet. `tunnels`: as many as `relay.tunnels` says. */
  readonly atOnce: number | "tunnels";
  /** Counted as held while a request is under way: what its connections buffer. Bodies that are read whole come on top as they arrive. */
  readonly holdsBytes: number;
  /** From its header to the end of its answer. Undefined where only silence is limited (`relay.idleTimeout`): a body may take hours. */
  readonly endsAfterMs?: number;
  /** Names (lower case) of the headers that handlers see and GitLab gets. `others`: all but those by which one claims to be somebody else. */
  readonly headers: readonly string[] | "others";
  /** Names of the query's parts that handlers see and GitLab gets. */
  readonly query: readonly string[] | "others";
}

const KIB = 1024;
const SMALL_BYTES = 32 * KIB;
/** Two connections with a piece on its way in each direction, as Node and undici cut them. */
const STREAM_BYTES = 256 * KIB;
/** Two pieces as they are read from a file or written to one, and what the connection buffers. */
const FILE_BYTES = 768 * KIB;
/** A tunnel that is read at both ends holds next to nothing, and there are many. */
const TUNNEL_BYTES = 64 * KIB;
/** For what is answered from here. */
const SOON_MS = 30 * SECOND_MS;
/** Reports wait for their turn, for GitLab's pace and for its answer. */
const REPORT_MS = 5 * MINUTE_MS;

const about = ["accept", "user-agent"];
const transfer = [...about, "accept-encoding", "content-type"];
const conditions = ["range", "if-range", "if-none-match", "if-modified-since"];

const small = { holdsBytes: SMALL_BYTES, endsAfterMs: SOON_MS, headers: [], query: [] };
const report = { atOnce: 8, holdsBytes: SMALL_BYTES, endsAfterMs: REPORT_MS };

export const routeRules: Readonly<Record<Served, RouteRule>> = {
  boot: { ...small, atOnce: 4 },
  // Held for hours: the newest alone waits, the one before it is answered.
  "await-cancel": { atOnce: 4, holdsBytes: SMALL_BYTES, headers: [], query: [] },
  end: { ...small, atOnce: 4 },
  "tell-use": { ...small, atOnce: 2, query: ["available_mib", "disk_mib"] },
  "request-job": { ...small, atOnce: 4 },
  "update-job": { ...report, headers: [...about, "content-type", "job-token"], query: [] },
  "append-trace": {
    ...report,
    headers: [...about, "content-type", "job-token", "content-range"],
    query: ["debug_trace"],
  },
  "upload-artifacts": {
    atOnce: 16,
    holdsBytes: STREAM_BYTES,
    headers: [...transfer, "content-encoding", "job-token"],
    query: ["artifact_format", "artifact_type", "expire_in", "accessibility"],
  },
  "download-artifacts": {
    atOnce: 16,
    holdsBytes: STREAM_BYTES,
    headers: [...about, "accept-encoding", "job-token", ...conditions],
    query: ["direct_download"],
  },
  git: {
    atOnce: 32,
    holdsBytes: STREAM_BYTES,
    headers: [
      ...transfer,
      "accept-language",
      "authorization",
      "cache-control",
      "content-encoding",
      "git-protocol",
      "pragma",
    ],
    // The protocol's own, and the filters of a list of locks.
    query: ["service", "path", "id", "cursor", "limit", "refspec"],
  },
  "lfs-batch": {
    atOnce: 4,
    holdsBytes: STREAM_BYTES,
    // Not accept-encoding: the answer is read on its way.
    headers: [...about, "authorization", "content-type"],
    query: [],
  },
  "lfs-object": {
    atOnce: 32,
    holdsBytes: STREAM_BYTES,
    headers: [...transfer, "authorization", ...conditions],
    query: [],
  },
  // The runner itself gives up after ten minutes, unless its job says otherwise.
  "fetch-cache": {
    atOnce: 8,
    holdsBytes: FILE_BYTES,
    endsAfterMs: HOUR_MS,
    headers: [...about, "range"],
    query: [],
  },
  "store-cache": {
    atOnce: 4,
    holdsBytes: FILE_BYTES,
    endsAfterMs: HOUR_MS,
    headers: [...about, "content-type", "x-amz-meta-cachekey"],
    query: [],
  },
  "registry-check": { ...small, atOnce: 16, headers: ["authorization"] },
  "registry-token": { ...small, atOnce: 16, headers: ["authorization"] },
  // Documents, which are held whole, come on top as they arrive.
  "registry-manifest": {
    atOnce: 16,
    holdsBytes: STREAM_BYTES,
    endsAfterMs: MINUTE_MS,
    headers: ["accept", "authorization"],
    query: ["ns"],
  },
  "registry-blob": {
    atOnce: 16,
    holdsBytes: FILE_BYTES,
    headers: ["authorization", "range"],
    query: ["ns"],
  },
  "registry-other": { ...small, atOnce: 8 },
  elsewhere: { atOnce: "tunnels", holdsBytes: TUNNEL_BYTES, headers: "others", query: "others" },
  nothing: { ...small, atOnce: 8 },
};
