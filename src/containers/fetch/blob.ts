/** One blob, from wherever an earlier try ended, into a file; it is whole and what its digest says, or it is an error. */
import { createHash, type Hash } from "node:crypto";
import { type FileHandle, open } from "node:fs/promises";
import type { OpenAnswer } from "../../registry/session.ts";
import type { ImageReference } from "../reference.ts";
import type { Blob } from "./documents.ts";
import { brokenOff, type Repository, wrongAnswer } from "./repository.ts";

interface BlobOptions {
  readonly repository: Repository;
  readonly reference: ImageReference;
  readonly blob: Blob;
  /** What it has at its beginning is gone on from. */
  readonly part: string;
  readonly signal: AbortSignal;
  /** How much of the blob is there. */
  readonly onBytes: (bytes: number) => void;
}

/** Answers how much was fetched; the file is on its disk then. Throws ContainerError or RegistryError. */
export async function fetchBlob(options: BlobOptions): Promise<number> {
  await using file = await open(options.part, "a+", 0o600);
  const found = (await file.stat()).size;
  const first = await fetchInto(file, options);
  if (first.isRight) return first.fetched;
  await file.truncate(0);
  // The beginning may have been spoilt by what ended the try before.
  const second = found > 0 ? await fetchInto(file, options) : first;
  if (second.isRight) return first.fetched + second.fetched;
  await file.truncate(0);
  throw wrongAnswer(options.reference, `the registry gives other bytes than those of ${options.blob.digest}`);
}

interface Growing {
  readonly file: FileHandle;
  hash: Hash;
  bytes: number;
  fetched: number;
}

async function fetchInto(
  file: FileHandle,
  { repository, reference, blob, signal, onBytes }: BlobOptions,
): Promise<{ isRight: boolean; fetched: number }> {
  const growing: Growing = { file, hash: createHash("sha256"), bytes: 0, fetched: 0 };
  await readBeginning(growing, blob);
  onBytes(growing.bytes);
  const ended = (cause: unknown) => brokenOff(`fetching ${reference.name}`, repository.origin, cause);
  await repository.retrying(async () => {
    if (growing.bytes === blob.bytes) return;
    const answer = await repository.openBlob(blob.digest, growing.bytes);
    if (!goesOn(answer, growing.bytes)) await restart(growing, onBytes);
    if (answer.status === 416) answer.body.destroy();
    else
      await append(growing, answer, { blob, onBytes }).catch((error: unknown) => {
        // Whatever ended the connection: all of it is here.
        if (growing.bytes === blob.bytes && !isOfDisk(error)) return;
        signal.throwIfAborted();
        throw isOfDisk(error) ? error : ended(error);
      });
    if (growing.bytes < blob.bytes) throw ended(new Error("it ended early"));
  });
  await file.sync();
  const isRight = growing.bytes === blob.bytes && `sha256:${growing.hash.digest("hex")}` === blob.digest;
  return { isRight, fetched: growing.fetched };
}

/** Does this answer begin where we stand? */
function goesOn({ status, header }: OpenAnswer, from: number): boolean {
  if (from === 0) return status === 200;
  return status === 206 && header("content-range")?.startsWith(`bytes ${from}-`) === true;
}

async function restart(growing: Growing, onBytes: (bytes: number) => void): Promise<void> {
  await growing.file.truncate(0);
  growing.hash = createHash("sha256");
  growing.bytes = 0;
  onBytes(0);
}

async function readBeginning(growing: Growing, { bytes }: Blob): Promise<void> {
  const { size } = await growing.file.stat();
  if (size > bytes) await growing.file.truncate(0);
  if (size === 0 || size > bytes) return;
  const beginning = growing.file.createReadStream({ start: 0, autoClose: false });
  for await (const chunk of beginning as AsyncIterable<Buffer>) {
    growing.hash.update(chunk);
    growing.bytes += chunk.length;
  }
}

/** Never more than the blob has: what comes beyond is not read. */
async function append(
  growing: Growing,
  answer: OpenAnswer,
  { blob, onBytes }: Pick<BlobOptions, "blob" | "onBytes">,
): Promise<void> {
  try {
    for await (const chunk of answer.body as AsyncIterable<Buffer>) {
      const piece = chunk.subarray(0, blob.bytes - growing.bytes);
      await growing.file.writeFile(piece);
      growing.hash.update(piece);
      growing.bytes += piece.length;
      growing.fetched += piece.length;
      onBytes(growing.bytes);
      if (piece.length < chunk.length) {
        // More than was said: other bytes, whatever they are.
        growing.hash.update(chunk.subarray(piece.length));
        break;
      }
    }
  } finally {
    answer.body.destroy();
  }
}

function isOfDisk(error: unknown): boolean {
  const { syscall } = error as NodeJS.ErrnoException;
  return syscall === "write" || syscall === "ftruncate" || syscall === "fsync";
}
