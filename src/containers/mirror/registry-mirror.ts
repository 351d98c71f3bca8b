/**
 * Images for jobs that pull them themselves, out of the blobs of job images. What is here is given only when the registry lets this job have it:
 * each request is one HEAD there, with the job's own login and by its pool's way. What is missing comes once, and streams to the job while it is
 * kept. What cannot be kept, since there is no room or the machine has had its share, streams past the cache. What a machine pulls because its
 * job names it is had as for the disks of other machines: by FireRunner's own way, and not by its pool's.
 */
import { open } from "node:fs/promises";
import type { Clock } from "../../base/clock.ts";
import { FireRunnerError } from "../../base/errors.ts";
import { createSharedWork, runOrRepeat } from "../../base/shared-work.ts";
import { createLoginMemory, type LoginMemory } from "../../registry/authorization.ts";
import type { Credentials } from "../../registry/credentials.ts";
import type { MirrorAnswer, MirrorRequest, RegistryMirror } from "../../relay/mirror/port.ts";
import { ContainerError } from "../errors.ts";
import type { BlobFetches } from "../fetch/blob-fetches.ts";
import {
  acceptedTypes,
  hostArchitecture,
  LAYER_BYTES_MAX,
  mediaTypeOf,
  readDocument,
} from "../fetch/documents.ts";
import { createRepository, type Document, type DocumentHead, type Repository } from "../fetch/repository.ts";
import type { Ways } from "../fetch/ways.ts";
import type { JobLogins } from "../job-logins.ts";
import { isAllowed, payloadLogins } from "../job-wants.ts";
import { keepDocument, readKeptDocument } from "../keep/documents.ts";
import type { Keeper, Lease } from "../keep/keeper.ts";
import { type ImageReference, parseImageName } from "../reference.ts";
import { createOwnImages, type OwnImage, type OwnImages } from "./own-images.ts";
import { refusalOf } from "./refusals.ts";

interface MirrorDeps {
  readonly keeper: Keeper;
  readonly fetches: BlobFetches;
  readonly ways: Ways;
  readonly clock: Clock;
  /** Of the whole cache. */
  readonly sizeBytes: number;
}

/** A client asks again, or goes to the registry itself. */
const PATIENCE_MS = 15_000;
const ACCEPT_CHARACTERS_MAX = 2_048;
/** What one machine may bring into the cache, so that it does not drive out what all others use. */
const SHARE = { files: 1_000, ofSize: 1 / 4 };
const LOGINS_MAX = 50;
const READ_BYTES = 256 * 1024;

/** What is known of one machine. */
interface Acquaintance {
  readonly logins: JobLogins;
  readonly own: OwnImages;
  /** By registry and who reads. */
  readonly memories: Map<string, LoginMemory>;
  files: number;
  bytes: number;
}

/** One request, with all that is needed to answer it. */
interface Reading {
  readonly request: MirrorRequest;
  readonly reference: ImageReference;
  readonly repository: Repository;
  readonly lease: Lease;
  readonly known: Acquaintance;
  /** The image that it is of, where its machine pulls that for its job. */
  readonly own: OwnImage | undefined;
}

export function createRegistryMirror(deps: MirrorDeps): RegistryMirror {
  const known = new WeakMap<object, Acquaintance>();
  const documents = createSharedWork<Document>();

  function acquaintance({ job: { machine, payload, environment, pulled } }: MirrorRequest): Acquaintance {
    const one = known.get(machine) ?? {
      ...{ logins: payloadLogins(payload, environment), own: createOwnImages(pulled) },
      ...{ memories: new Map(), files: 0, bytes: 0 },
    };
    known.set(machine, one);
    return one;
  }

  async function read(
    request: MirrorRequest,
    answer: (reading: Reading) => Promise<MirrorAnswer>,
  ): Promise<MirrorAnswer> {
    const acquainted = acquaintance(request);
    const lease = deps.keeper.lease();
    const asked = { request, lease, known: acquainted };
    let hasLogin = false;
    const begin = (reference: ImageReference, own: OwnImage | undefined) => {
      const credentials = credentialsFor(deps.ways, { ...asked, reference, own });
      hasLogin = credentials !== undefined;
      return {
        ...asked,
        reference,
        own,
        repository: repositoryFor(deps, { ...asked, reference, own }, credentials),
      };
    };
    try {
      const reference = referenceOf(request);
      // Who comes with a login of his own does not come for his job's sake, and could put anything into it.
      if (request.login !== undefined) return await answer(begin(reference, undefined));
      for (const image of unreadImages(acquainted, reference))
        await readParts(deps, documents, begin(image.reference, image));
      return await answer(begin(reference, acquainted.own.ask(reference)));
    } catch (error) {
      request.signal.throwIfAborted();
      throw refusalOf(error, hasLogin);
    } finally {
      lease.end();
    }
  }

  return {
    manifest: (request) => read(request, (reading) => giveManifest(deps, documents, reading)),
    blob: (request) => read(request, (reading) => giveBlob(deps, reading)),
  };
}

function referenceOf({ image, reference }: MirrorRequest): ImageReference {
  return parseImageName(`${image}${reference.startsWith("sha256:") ? "@" : ":"}${reference}`);
}

type Asked = Omit<Reading, "repository">;

/** The client's own, then the job's, then FireRunner's where the pool lets its jobs have that. */
function credentialsFor(
  ways: Ways,
  { request: { login, job }, reference, known, own }: Asked,
): Credentials | undefined {
  if (login !== undefined) return { kind: "password", ...login };
  const isOperators = own?.isTrusted ?? isAllowed(`${reference.registry}/${reference.repository}`, job.allow);
  return known.logins.of(reference) ?? (isOperators ? ways.loginFor(reference) : undefined);
}

function repositoryFor(
  { ways, clock }: MirrorDeps,
  { request, reference, known, own }: Asked,
  credentials: Credentials | undefined,
): Repository {
  const { accept, signal, hold } = request;
  const transport = own ? ways.to(reference, own.isTrusted) : ways.ofGuest(reference, request.ways);
  const isUsual =
    own !== undefined || accept === undefined || accept === "*/*" || accept.length > ACCEPT_CHARACTERS_MAX;
  return createRepository({
    ...{ transport, reference, credentials, clock, signal },
    untilMs: clock.now() + PATIENCE_MS,
    memory: memoryOf(known, reference, credentials),
    accept: isUsual ? acceptedTypes : accept,
    onHeld: hold,
  });
}

function memoryOf(
  { memories }: Acquaintance,
  { registry }: ImageReference,
  credentials: Credentials | undefined,
): LoginMemory {
  const secret = credentials?.kind === "password" ? credentials.password : credentials?.token;
  const name = credentials?.kind === "password" ? credentials.username : "";
  const key = JSON.stringify([registry, name, secret?.reveal() ?? null]);
  if (memories.size >= LOGINS_MAX) memories.clear();
  const memory = memories.get(key) ?? createLoginMemory();
  memories.set(key, memory);
  return memory;
}

type Documents = ReturnType<typeof createSharedWork<Document>>;

async function giveManifest(deps: MirrorDeps, documents: Documents, reading: Reading): Promise<MirrorAnswer> {
  const { request, known, own } = reading;
  const told = await headOf(reading);
  const kept = told && (await keptDocument(deps, reading, told.digest));
  if (own && told) known.own.learn(own, told.digest);
  if (kept === undefined && request.isHead && told?.mediaType !== undefined)
    return { ...told, mediaType: told.mediaType, from: 0, body: undefined };
  const { digest, body, mediaType } = await wholeDocument(deps, documents, reading, { told, kept });
  return { digest, mediaType, bytes: body.length, from: 0, body: request.isHead ? undefined : body };
}

async function headOf({ reference, repository }: Reading): Promise<DocumentHead | undefined> {
  const told = await repository.head(reference.digest ?? reference.tag ?? "latest");
  if (reference.digest !== undefined && told !== undefined && told.digest !== reference.digest)
    throw otherDigest(reference, told);
  return told;
}

interface Found {
  readonly told: DocumentHead | undefined;
  readonly kept: Document | undefined;
}

async function wholeDocument(
  deps: MirrorDeps,
  documents: Documents,
  reading: Reading,
  { told, kept }: Found,
): Promise<Document & { readonly mediaType: string }> {
  const { reference, known, own } = reading;
  const { digest, body } = kept ?? (await fetchDocument(documents, reading, told));
  const mediaType = mediaTypeOf(body);
  if (mediaType === undefined) throw notUsable(reference);
  if (own) known.own.learn(own, digest, body);
  if (kept === undefined && mayKeep(deps, reading, body.length))
    await keepDocument(deps.keeper, reference, { digest, body });
  return { digest, body, mediaType };
}

/** Of which something may be wanted that is known to be a part of none: an earlier process may have given its documents. */
function unreadImages({ own }: Acquaintance, asked: ImageReference): readonly OwnImage[] {
  return asked.digest === undefined || own.find(asked) !== undefined ? [] : own.unread(asked);
}

/** Learns which parts an image has, as a machine of this architecture pulls it. One that cannot be had has none. */
async function readParts(deps: MirrorDeps, documents: Documents, reading: Reading): Promise<void> {
  const { known, own, reference, request } = reading;
  const whole = async (each: Reading) => {
    const told = await headOf(each);
    const kept = told && (await keptDocument(deps, each, told.digest));
    return await wholeDocument(deps, documents, each, { told, kept });
  };
  try {
    const { body } = await whole(reading);
    const content = readDocument(body, reference.name, hostArchitecture());
    if ("chosen" in content) await whole({ ...reading, reference: { ...reference, digest: content.chosen } });
    if (own) known.own.markRead(own);
  } catch (error) {
    request.signal.throwIfAborted();
    if (!(error instanceof FireRunnerError)) throw error;
  }
}

async function keptDocument(
  { keeper }: MirrorDeps,
  { request, reference, lease }: Reading,
  digest: string,
): Promise<Document | undefined> {
  if (!lease.takeBlob(digest, reference.registry)) return undefined;
  const document = await readKeptDocument(keeper, digest);
  request.hold(document?.body.length ?? 0);
  return document;
}

/** Once for all who ask, where the registry has said which it is. */
async function fetchDocument(
  documents: Documents,
  { request, reference, repository }: Reading,
  told: DocumentHead | undefined,
): Promise<Document> {
  if (told === undefined) return await repository.manifest(reference.digest ?? reference.tag ?? "latest");
  const key = `${reference.registry} ${told.digest}`;
  return await runOrRepeat(documents, key, request.signal, () => repository.manifest(told.digest));
}

async function giveBlob(deps: MirrorDeps, reading: Reading): Promise<MirrorAnswer> {
  const { keeper, fetches } = deps;
  const { request, reference, repository, lease } = reading;
  const { digest = "", registry } = reference;
  const bytes = await repository.blobBytes(digest);
  const isHere = lease.takeBlob(digest, registry);
  const file = isHere ? await open(keeper.pathOf("blob", digest), "r") : undefined;
  const size = file === undefined ? bytes : (await file.stat()).size;
  if (file === undefined && size !== undefined && size > LAYER_BYTES_MAX) throw tooLarge(reference);
  const head = { digest, mediaType: "application/octet-stream", bytes: size };
  const from = size !== undefined && request.from < size ? request.from : 0;
  if (request.isHead) {
    await file?.close();
    return { ...head, from: 0, body: undefined };
  }
  if (file !== undefined) {
    const body = file.createReadStream({ start: from, highWaterMark: READ_BYTES });
    return { ...head, from, body };
  }
  if (size !== undefined && (await hasRoom(deps, reading, size))) {
    const { signal } = request;
    const wanted = { repository, reference, blob: { digest, bytes: size }, signal, isAside: true };
    return { ...head, from, body: await fetches.follow(wanted, from) };
  }
  return { ...head, ...(await openPast(reading, digest, from)) };
}

/** Past the cache. */
async function openPast(
  { repository, own }: Reading,
  digest: string,
  from: number,
): Promise<Pick<MirrorAnswer, "from" | "body">> {
  // Where a machine begins to read would be a word of its own to a registry that it may not reach.
  const past = await repository.openBlob(digest, own ? 0 : from);
  const body = atMost(past.body, LAYER_BYTES_MAX);
  if (own) return { from, body: behind(body, from) };
  return { from: past.status === 206 ? from : 0, body };
}

/** Whether it may be kept; then it is counted. */
function mayKeep({ sizeBytes }: MirrorDeps, { known }: Reading, bytes: number): boolean {
  if (known.files >= SHARE.files || known.bytes + bytes > sizeBytes * SHARE.ofSize) return false;
  known.files += 1;
  known.bytes += bytes;
  return true;
}

async function hasRoom(deps: MirrorDeps, reading: Reading, bytes: number): Promise<boolean> {
  if (!mayKeep(deps, reading, bytes)) return false;
  return await deps.keeper.makeRoom(deps.fetches.comingBytes() + bytes).then(
    () => true,
    (error: unknown) => {
      if (error instanceof ContainerError) return false;
      throw error;
    },
  );
}

async function* atMost(body: AsyncIterable<Buffer>, mostBytes: number): AsyncGenerator<Buffer> {
  let bytes = 0;
  for await (const chunk of body) {
    bytes += chunk.length;
    if (bytes > mostBytes) throw new Error("it is longer than a layer may be");
    yield chunk;
  }
}

async function* behind(body: AsyncIterable<Buffer>, from: number): AsyncGenerator<Buffer> {
  let left = from;
  for await (const chunk of body) {
    if (left < chunk.length) yield chunk.subarray(left);
    left = Math.max(0, left - chunk.length);
  }
}

function tooLarge({ name }: ImageReference): ContainerError {
  return new ContainerError("container_too_large", `${name} is larger than 32 GiB`, {
    hint: "make its layers smaller",
  });
}

function otherDigest({ name }: ImageReference, { digest }: DocumentHead): ContainerError {
  return new ContainerError(
    "container_bad_image",
    `the registry gives ${digest} where ${name} was asked for`,
    {
      hint: "look at the registry, and at proxies before it",
    },
  );
}

function notUsable({ name }: ImageReference): ContainerError {
  return new ContainerError(
    "container_bad_image",
    `what the registry gives for ${name} is no manifest of today's form`,
    {
      hint: "push the image again with a current client; registries once converted images to a form of 2017",
    },
  );
}
