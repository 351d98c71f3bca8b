/** What a guest's request is about. Paths are matched as sent: nothing is decoded, so nothing can hide in an encoding. */
export type Route =
  | { readonly kind: "boot" }
  /** Answered when GitLab wants the job canceled: the machine's init hurries its runner. */
  | { readonly kind: "await-cancel" }
  /** The guest is about to power off. */
  | { readonly kind: "end" }
  | { readonly kind: "request-job" }
  | { readonly kind: "update-job"; readonly jobId: number }
  | { readonly kind: "append-trace"; readonly jobId: number }
  | { readonly kind: "upload-artifacts"; readonly jobId: number }
  | { readonly kind: "download-artifacts"; readonly jobId: number }
  | { readonly kind: "git" }
  /** The list of a push's or a checkout's large files: its answer names URLs that must lead through the relay. */
  | { readonly kind: "lfs-batch" }
  | { readonly kind: "lfs-object" };

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
  if (path.length > 2_048) return undefined;
  return ownRoute(method, path) ?? jobRoute(method, path) ?? gitRoute(method, path);
}

function ownRoute(method: string, path: string): Route | undefined {
  if (method === "GET" && path === "/firerunner/boot") return { kind: "boot" };
  if (method === "GET" && path === "/firerunner/cancel") return { kind: "await-cancel" };
  if (method === "POST" && path === "/firerunner/end") return { kind: "end" };
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

function gitRoute(method: string, path: string): Route | undefined {
  if (method === "POST" && lfsBatch.test(path)) return { kind: "lfs-batch" };
  if ((method === "GET" || method === "PUT") && lfsObject.test(path)) return { kind: "lfs-object" };
  if (method === "GET" && shortHandshake.test(path)) return { kind: "git" };
  if ((method === "GET" || method === "POST") && (git.test(path) || lfsLocks.test(path)))
    return { kind: "git" };
  return undefined;
}
