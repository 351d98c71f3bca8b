/**
 * Which caches a job may have. The runner that asks for them is in the machine, where the job can make it ask for anything: what counts is
 * the job's payload, which GitLab gave to us, and never a word of the request beyond the key.
 *
 * Caches of a project lie in realms. Keys are hashed, so that the plain name of a cache (runners up to 18) and its hashed name (from 19 on)
 * are one cache, and nothing of a key is ever a path.
 */
import { createHash } from "node:crypto";

/** `shared`: keys without GitLab's ending, where GitLab's endings decide. */
const realms = ["protected", "unprotected", "shared"] as const;
export type Realm = (typeof realms)[number];

/** What decides which branches share caches (`cache.separate`). */
export type Separation = "ref" | "gitlab";

/** What a job's payload says of its caches. */
export interface CacheJob {
  readonly projectId: number;
  /** Its branch or tag is protected. */
  readonly isProtected: boolean;
  /** Keys of its caches as GitLab wrote them, with the endings of GitLab's, without fallback keys. */
  readonly keys: readonly string[];
}

/** A cache as a request names it: by its key, or by its key's SHA-256 in hex. */
export type CacheName = { readonly key: string } | { readonly digest: string };

/** Where a cache lies. */
export interface CacheId {
  readonly projectId: number;
  readonly realm: Realm;
  /** SHA-256 of its key, in hex. */
  readonly digest: string;
}

/** A place in which to look. */
export interface Place {
  readonly id: CacheId;
  /** Whether what lies there, stored under this key (undefined: nobody proved one), is for this job. */
  accepts(key: string | undefined): boolean;
}

/** Where a cache is to be stored. */
export interface Target {
  readonly id: CacheId;
  /** Undefined for a hashed name whose key is not known. */
  readonly key: string | undefined;
}

const NOT_PROTECTED = "-non_protected";
const PROTECTED = "-protected";

export function digestOfKey(key: string): string {
  return createHash("sha256").update(key).digest("hex");
}

/** Where to look for a cache, in this order; nowhere when the job may not have it. */
export function placesFor(job: CacheJob, name: CacheName, separation: Separation): Place[] {
  const { base, all, realmOf } = rightsOf(job, separation);
  const { projectId } = job;
  if ("key" in name) {
    const realm = realmOf(name.key);
    if (realm === undefined) return [];
    return [{ id: { projectId, realm, digest: digestOfKey(name.key) }, accepts: () => true }];
  }
  // By a hashed name any job can put anything into its own realm. Elsewhere it counts only under the key that was proved for it.
  return all.map((realm) => ({
    id: { projectId, realm, digest: name.digest },
    accepts: (key) => realm === base || (key !== undefined && realmOf(key) === realm),
  }));
}

/** Where to store a cache. `said` is the key that the request gives for a hashed name. Undefined when the job may not. */
export function targetFor(
  job: CacheJob,
  name: CacheName,
  said: string | undefined,
  separation: Separation,
): Target | undefined {
  const { base, realmOf } = rightsOf(job, separation);
  const { projectId } = job;
  const digest = "key" in name ? digestOfKey(name.key) : name.digest;
  const key = "key" in name ? name.key : proved(said, digest);
  const realm = key === undefined ? base : realmOf(key);
  return realm && { id: { projectId, realm, digest }, key };
}

function proved(said: string | undefined, digest: string): string | undefined {
  return said !== undefined && digestOfKey(said) === digest ? said : undefined;
}

interface Rights {
  /** What the job has by itself, where a hashed name belongs that says no more. */
  readonly base: Realm;
  readonly all: readonly Realm[];
  /** Undefined for a key of a realm that is closed to the job. */
  realmOf(key: string): Realm | undefined;
}

function rightsOf({ isProtected, keys }: CacheJob, separation: Separation): Rights {
  if (separation === "ref") {
    if (!isProtected) return { base: "unprotected", all: ["unprotected"], realmOf: () => "unprotected" };
    // `unprotect: true` gives the key of a protected branch this ending: its cache is everybody's.
    const realmOf = (key: string) => (key.endsWith(NOT_PROTECTED) ? "unprotected" : "protected");
    return { base: "protected", all: ["protected", "unprotected"], realmOf };
  }
  const named = new Set(keys.map(realmOfEnding));
  if (named.has("protected")) named.add("unprotected");
  const all = realms.filter((realm) => named.has(realm));
  const base = (["protected", "shared", "unprotected"] as const).find((realm) => named.has(realm));
  return {
    base: base ?? "unprotected",
    all,
    realmOf(key) {
      const realm = realmOfEnding(key);
      return named.has(realm) ? realm : undefined;
    },
  };
}

function realmOfEnding(key: string): Realm {
  if (key.endsWith(NOT_PROTECTED)) return "unprotected";
  return key.endsWith(PROTECTED) ? "protected" : "shared";
}
