/**
 * From a name to an image: which digest it stands for now, and the documents that say what is in it. That an image lies here proves no
 * permission: a job gets only what it was allowed to read itself, or what anybody may.
 */
import { createHmac } from "node:crypto";
import type { Credentials } from "../registry/credentials.ts";
import { ContainerError } from "./errors.ts";
import { type Blob, readConfig, readDocument } from "./fetch/documents.ts";
import type { Document, Repository } from "./fetch/repository.ts";
import { keepDocument, readKeptDocument } from "./keep/documents.ts";
import type { Keeper, Lease } from "./keep/keeper.ts";
import type { ImageReference } from "./reference.ts";

/** As GitLab has them: ask the registry each time, only when nothing is known, or not at all. */
export const pullPolicies = ["always", "if-not-present", "never"] as const;
export type PullPolicy = (typeof pullPolicies)[number];

export interface ResolvedImage {
  readonly manifest: Document;
  readonly index: Document | undefined;
  readonly config: Document;
  /** The lowest first. */
  readonly layers: readonly (Blob & { readonly diffId: string })[];
}

export interface Resolving {
  readonly reference: ImageReference;
  readonly policy: PullPolicy;
  readonly credentials: Credentials | undefined;
  readonly repository: Repository;
  readonly keeper: Keeper;
  readonly lease: Lease;
  readonly architecture: string;
}

/** Throws ContainerError or RegistryError. */
export async function resolveImage(resolving: Resolving): Promise<ResolvedImage> {
  const { reference, repository, architecture } = resolving;
  const top = await topDocument(resolving);
  const first = readDocument(top.body, reference.name, architecture);
  const index = "chosen" in first ? top : undefined;
  const manifest =
    "chosen" in first
      ? await keptDocument(resolving, first.chosen, () => repository.manifest(first.chosen))
      : top;
  const content = "chosen" in first ? readDocument(manifest.body, reference.name, architecture) : first;
  if ("chosen" in content) throw nested(reference);
  const { config: wanted, layers } = content.manifest;
  const config = await keptDocument(resolving, wanted.digest, () => repository.config(wanted));
  const diffIds = readConfig(config.body, reference.name, { architecture, layers: layers.length });
  return {
    manifest,
    index,
    config,
    layers: layers.map((layer, number) => ({ ...layer, diffId: diffIds[number] ?? "" })),
  };
}

/** What the name stands for: an index or a manifest. From here on it is known that this job may read it. */
async function topDocument(resolving: Resolving): Promise<Document> {
  const { reference, policy, repository, keeper } = resolving;
  const own = readerOf(resolving);
  const known = policy === "always" ? undefined : keeper.reading(reference.name, [ANYONE, own])?.digest;
  if (known !== undefined) return await keptDocument(resolving, known, () => repository.manifest(known));
  if (policy === "never") throw notHere(reference);
  const wanted = reference.digest ?? reference.tag ?? "latest";
  const told = (await repository.head(wanted))?.digest;
  const document =
    told === undefined
      ? await keep(resolving, await repository.manifest(wanted))
      : await keptDocument(resolving, told, () => repository.manifest(told));
  keeper.setReading(reference.name, own, document.digest);
  return document;
}

const ANYONE = "anyone";

/** Who reads, as it is kept: told apart, and not to be found out. */
function readerOf({ credentials, reference, keeper }: Resolving): string {
  if (credentials === undefined) return ANYONE;
  const secret =
    credentials.kind === "password"
      ? [credentials.username, credentials.password.reveal()]
      : [credentials.token.reveal()];
  return createHmac("sha256", keeper.readerKey())
    .update(JSON.stringify([reference.registry, credentials.kind, ...secret]))
    .digest("hex");
}

async function keptDocument(
  resolving: Resolving,
  digest: string,
  fetch: () => Promise<Document>,
): Promise<Document> {
  const { keeper, lease, policy, reference } = resolving;
  const kept = lease.takeBlob(digest, reference.registry)
    ? await readKeptDocument(keeper, digest)
    : undefined;
  if (kept !== undefined) return kept;
  if (policy === "never") throw notHere(reference);
  return await keep(resolving, await fetch());
}

async function keep(
  { keeper, lease, reference }: Pick<Resolving, "keeper" | "lease" | "reference">,
  document: Document,
): Promise<Document> {
  lease.takeBlob(document.digest, reference.registry);
  await keepDocument(keeper, reference, document);
  return document;
}

function notHere({ name }: ImageReference): ContainerError {
  return new ContainerError("container_not_here", `${name} is not on this computer for this login`, {
    hint: "let it be fetched: use another pull policy than never, or firerunner image cache pull",
  });
}

function nested({ name }: ImageReference): ContainerError {
  return new ContainerError("container_bad_image", `${name} cannot be used: its index leads to an index`, {
    hint: "name the image by the digest of its manifest",
  });
}
