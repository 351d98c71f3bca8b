/** One repository of a registry, as one image is read from it: which digest a tag has, documents, and the beginnings of blobs. */
import { createHash } from "node:crypto";
import type { Clock } from "../../base/clock.ts";
import { describeError, FireRunnerError } from "../../base/errors.ts";
import { readBounded, TooLongError } from "../../base/read-bounded.ts";
import type { LoginMemory } from "../../registry/authorization.ts";
import type { Credentials } from "../../registry/credentials.ts";
import { type Answer, RegistryError, refusal } from "../../registry/errors.ts";
import {
  createSession,
  type OpenAnswer,
  type RegistrySession,
  type Transport,
  withRetries,
} from "../../registry/session.ts";
import { ContainerError } from "../errors.ts";
import type { ImageReference } from "../reference.ts";
import { acceptedTypes, type Blob, DOCUMENT_BYTES_MAX } from "./documents.ts";

export interface Document {
  readonly digest: string;
  readonly body: Buffer;
}

/** All throw ContainerError, or RegistryError where the registry is at fault, when `untilMs` leaves no time to try again. */
export interface Repository {
  readonly origin: string;
  /** What the registry says of the reference without sending it; undefined when it does not say its digest. */
  head(reference: string): Promise<DocumentHead | undefined>;
  /** An index or a manifest. */
  manifest(reference: string): Promise<Document>;
  /** A blob that is a document. */
  config(blob: Blob): Promise<Document>;
  /** How long a blob is that this login may read; undefined when the registry does not say. */
  blobBytes(digest: string): Promise<number | undefined>;
  /** The answer to a request for a blob from this byte on: 200 or 206. Tried once. */
  openBlob(digest: string, from: number): Promise<OpenAnswer>;
  retrying<T>(act: () => Promise<T>): Promise<T>;
  close(): Promise<void>;
}

export interface DocumentHead {
  readonly digest: string;
  readonly mediaType: string | undefined;
  readonly bytes: number | undefined;
}

interface Deps {
  readonly transport: Transport;
  readonly reference: ImageReference;
  readonly credentials: Credentials | undefined;
  readonly clock: Clock;
  /** By the clock: when it is given up. */
  readonly untilMs: number;
  readonly signal: AbortSignal;
  /** Told of each failure that is waited for and tried again. */
  readonly onRetry?: ((error: RegistryError) => void) | undefined;
  /** Of earlier readings with these credentials. */
  readonly memory?: LoginMemory | undefined;
  /** Which documents are wanted; by default all that can be run here. */
  readonly accept?: string | undefined;
  /** Called with each piece of a document that is about to be held; what it throws ends the reading. */
  readonly onHeld?: ((bytes: number) => void) | undefined;
}

const MOST_REDIRECTS = 5;

export function createRepository(deps: Deps): Repository {
  const { transport, reference, credentials, clock, untilMs, signal, memory, onHeld } = deps;
  const accept = deps.accept ?? acceptedTypes;
  const session = createSession({ transport, credentials: async () => credentials, signal, memory });
  const { onRetry } = deps;
  const limits = { clock, signal, untilMs, attempts: Number.POSITIVE_INFINITY, onRetry };
  const retrying = <T>(act: () => Promise<T>) => withRetries(limits, act);
  const asking = createAsking(session, reference);

  async function read(path: string, headers: Record<string, string>): Promise<Document> {
    return await retrying(async () => {
      const answer = await asking.get(path, headers, [200]);
      const count = (piece: Uint8Array) => onHeld?.(piece.length);
      const { bytes, cut } = await readBounded(answer.body, DOCUMENT_BYTES_MAX, count);
      answer.body.destroy();
      signal.throwIfAborted();
      if (cut instanceof FireRunnerError) throw cut;
      if (cut instanceof TooLongError) throw wrongAnswer(reference, "what describes it is longer than 4 MiB");
      if (cut !== undefined) throw brokenOff(asking.doing, session.origin, cut);
      return { digest: `sha256:${createHash("sha256").update(bytes).digest("hex")}`, body: bytes };
    });
  }

  function requireDigest(found: Document, wanted: string): Document {
    if (!wanted.startsWith("sha256:") || wanted === found.digest) return found;
    throw wrongAnswer(reference, `the registry gives ${found.digest} where ${wanted} was asked for`);
  }

  return {
    origin: session.origin,
    retrying,
    head: (wanted) => retrying(() => asking.head(`manifests/${wanted}`, { accept })),
    manifest: async (wanted) => requireDigest(await read(`manifests/${wanted}`, { accept }), wanted),
    blobBytes: (digest) => retrying(() => asking.blobBytes(digest)),
    config: async ({ digest }) => requireDigest(await read(`blobs/${digest}`, {}), digest),
    async openBlob(digest, from) {
      const headers = { "accept-encoding": "identity", ...(from > 0 ? { range: `bytes=${from}-` } : {}) };
      return await asking.get(`blobs/${digest}`, headers, from > 0 ? [200, 206, 416] : [200]);
    },
    close: session.close,
  };
}

/** Single requests, with answers that are no good as errors. */
function createAsking(session: RegistrySession, reference: ImageReference) {
  const { origin } = session;
  const base = `/v2/${reference.repository}/`;
  const scopes = [`repository:${reference.repository}:pull`];
  const doing = `fetching ${reference.name}`;

  /** Wherever the registry sends us; its login goes to the registry alone. */
  async function follow(path: string, headers: Record<string, string>): Promise<OpenAnswer> {
    let url = new URL(`${base}${path}`, origin);
    for (let hops = 0; ; hops++) {
      const answer = await session.open({ method: "GET", url: url.href, scopes, headers, doing });
      const location = answer.header("location");
      if (![301, 302, 303, 307, 308].includes(answer.status) || location === undefined) return answer;
      answer.body.destroy();
      if (hops >= MOST_REDIRECTS)
        throw wrongWay(doing, origin, "leads from one address to the next without end");
      url = redirected(url, location, doing);
    }
  }

  async function get(
    path: string,
    headers: Record<string, string>,
    statuses: readonly number[],
  ): Promise<OpenAnswer> {
    const answer = await follow(path, headers).catch(throwAsPull(reference));
    if (statuses.includes(answer.status)) return answer;
    const { bytes } = await readBounded(answer.body, REFUSAL_BYTES);
    answer.body.destroy();
    const refused = refusal({ ...answer, text: bytes.toString("utf8") }, origin, doing);
    throw asPull(refused, answer.status, reference);
  }

  /** Throws for an answer that says no, or to wait. */
  async function look(path: string, headers: Record<string, string>): Promise<Answer> {
    const url = `${base}${path}`;
    const answer = await session
      .send({ method: "HEAD", url, scopes, headers, doing })
      .catch(throwAsPull(reference));
    if (answer.status === 404 || answer.status === 403) throw asPull(undefined, answer.status, reference);
    if (answer.status === 429 || answer.status >= 500) throw refusal(answer, origin, doing);
    return answer;
  }

  /** A registry that takes no HEAD, or does not tell the digest, has to be asked for the whole. */
  async function head(path: string, headers: Record<string, string>): Promise<DocumentHead | undefined> {
    const { status, header } = await look(path, headers);
    const digest = status === 200 ? header("docker-content-digest") : undefined;
    if (digest === undefined || !/^sha256:[0-9a-f]{64}$/.test(digest)) return undefined;
    return { digest, mediaType: header("content-type"), bytes: lengthIn(header("content-length")) };
  }

  /** One that keeps its blobs elsewhere says there how long they are, and only to whoever begins to read. */
  async function blobBytes(digest: string): Promise<number | undefined> {
    const path = `blobs/${digest}`;
    const looked = await look(path, {});
    const told = looked.status === 200 ? lengthIn(looked.header("content-length")) : undefined;
    if (told !== undefined) return told;
    const first = await get(path, { "accept-encoding": "identity", range: "bytes=0-0" }, [200, 206]);
    first.body.destroy();
    const range = first.header("content-range");
    return lengthIn(first.status === 206 ? range?.split("/")[1] : first.header("content-length"));
  }

  return { doing, get, head, blobBytes };
}

function lengthIn(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}

const REFUSAL_BYTES = 64 * 1024;

/** From a way that is secured none leads to one that is not. */
function redirected(from: URL, location: string, doing: string): URL {
  const to = URL.canParse(location, from.href) ? new URL(location, from.href) : undefined;
  const isKept = to?.protocol === "https:" || (to?.protocol === "http:" && from.protocol === "http:");
  if (to && isKept) return to;
  throw wrongWay(doing, from.origin, "leads to an address without TLS, or to none");
}

function wrongWay(doing: string, origin: string, problem: string): RegistryError {
  return new RegistryError("registry_refused", `${doing}: ${origin} ${problem}`, {
    hint: "look at the registry's configuration: where it keeps its blobs, and its own address",
  });
}

export function brokenOff(doing: string, origin: string, cause: unknown): RegistryError {
  return new RegistryError(
    "registry_unreachable",
    `${doing}: ${origin} broke off (${describeError(cause)})`,
    { cause, hint: "check the network, and the registry's log", retryable: true },
  );
}

export function wrongAnswer({ name }: ImageReference, problem: string): ContainerError {
  return new ContainerError("container_bad_image", `${name} cannot be used: ${problem}`, {
    hint: "nothing of it was kept; look at the registry, and at proxies before it",
  });
}

function throwAsPull(reference: ImageReference) {
  return (error: unknown): never => {
    const isDenied = error instanceof RegistryError && error.code === "registry_unauthorized";
    throw isDenied ? asPull(error, 401, reference) : error;
  };
}

/** What an answer means for whoever wants the image; in the registry's own words where it says some. */
function asPull(cause: RegistryError | undefined, status: number, { name, registry }: ImageReference): Error {
  const said = cause === undefined ? "" : `: ${cause.message}`;
  if (status === 404)
    return new ContainerError("container_not_found", `there is no image ${name}${said}`, {
      cause,
      hint: `check its name and tag, and whether ${registry} has it`,
    });
  if (status === 401 || status === 403)
    return new ContainerError("container_denied", `${registry} does not give ${name} to this login${said}`, {
      cause,
      hint: "give a login that may read it (containers.registries), and check the name: some registries say the same of what is not there",
    });
  return cause ?? wrongWay(`fetching ${name}`, registry, `answers ${status}`);
}
