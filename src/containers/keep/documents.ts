/** Manifests, indexes and configurations among the blobs of the cache: small enough to be read whole, and hashed each time they are. */
import { createHash } from "node:crypto";
import { readFile, stat, writeFile } from "node:fs/promises";
import { syncPath } from "../../base/durable-file.ts";
import { DOCUMENT_BYTES_MAX } from "../fetch/documents.ts";
import type { Document } from "../fetch/repository.ts";
import type { ImageReference } from "../reference.ts";
import type { Keeper } from "./keeper.ts";

/** Of a blob that is there. Undefined when it is damaged, which removes it, or too long for a document: a registry may call a layer one. */
export async function readKeptDocument(keeper: Keeper, digest: string): Promise<Document | undefined> {
  const path = keeper.pathOf("blob", digest);
  if ((await stat(path)).size > DOCUMENT_BYTES_MAX) return undefined;
  const body = await readFile(path);
  if (`sha256:${createHash("sha256").update(body).digest("hex")}` === digest) return { digest, body };
  keeper.remove("blob", digest);
  return undefined;
}

/** As the registry gave it. */
export async function keepDocument(
  keeper: Keeper,
  { registry }: Pick<ImageReference, "registry">,
  { digest, body }: Document,
): Promise<void> {
  const path = keeper.workPath("document");
  await writeFile(path, body, { mode: 0o600 });
  await syncPath(path);
  await keeper.addBlob(digest, registry, path);
}
