import { createWriteStream } from "node:fs";
import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import busboy, { type Busboy } from "busboy";

export class MultipartError extends Error {}
export class PartTooLarge extends Error {}

export interface StoredPart {
  readonly filename: string;
  readonly sizeBytes: number;
}

/**
 * Writes the file called `field` of a multipart/form-data body to `path` as it comes; other parts are read and dropped. Undefined when
 * there is no such file. Throws MultipartError for a body that is not whole, PartTooLarge at once when the file passes `maxBytes`.
 */
export async function storePart(
  body: Readable,
  contentType: string,
  field: string,
  path: string,
  maxBytes: number,
): Promise<StoredPart | undefined> {
  const parser = parserFor(contentType);
  let stored: Promise<StoredPart> | undefined;
  parser.on("file", (name, file, { filename }) => {
    if (name !== field || stored !== undefined) return void file.resume();
    stored = store(file, filename, path, maxBytes);
    stored.catch((error: Error) => void parser.destroy(error));
  });
  const parsed = new Promise<void>((resolve, reject) => parser.once("close", resolve).once("error", reject));
  // Not one pipeline with the body: its failure would cut the connection that must carry the answer.
  const cut = () => {
    if (!body.readableEnded) parser.destroy(new MultipartError("the connection ended within the body"));
  };
  body.once("close", cut).pipe(parser);
  try {
    await parsed;
    return await stored;
  } catch (error) {
    if (error instanceof PartTooLarge || error instanceof MultipartError) throw error;
    throw new MultipartError(error instanceof Error ? error.message : String(error), { cause: error });
  } finally {
    body.off("close", cut).unpipe(parser);
  }
}

function parserFor(contentType: string): Busboy {
  try {
    if (contentType.startsWith("multipart/form-data"))
      return busboy({ headers: { "content-type": contentType } });
  } catch {
    // No boundary, or more of it than there may be.
  }
  throw new MultipartError("not multipart/form-data with a boundary");
}

async function store(
  file: Readable,
  filename: string | undefined,
  path: string,
  maxBytes: number,
): Promise<StoredPart> {
  let sizeBytes = 0;
  async function* counted(chunks: AsyncIterable<Buffer>) {
    for await (const chunk of chunks) {
      sizeBytes += chunk.length;
      if (sizeBytes > maxBytes) throw new PartTooLarge();
      yield chunk;
    }
  }
  await pipeline(file, counted, createWriteStream(path));
  return { filename: filename ?? "file", sizeBytes };
}
