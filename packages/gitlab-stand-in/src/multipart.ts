import { createWriteStream } from "node:fs";
import { type Readable, Transform } from "node:stream";
import { pipeline } from "node:stream/promises";

const CRLF = Buffer.from("\r\n");
const END_OF_HEADERS = Buffer.from("\r\n\r\n");
const MAX_HEADER_BYTES = 16 * 1024;

export class MultipartError extends Error {}
export class PartTooLarge extends Error {}

export interface StoredPart {
  readonly filename: string;
  readonly sizeBytes: number;
}

/**
 * Writes the part called `field` of a multipart/form-data body to the file `path` as it comes; other parts are read and
 * dropped. Undefined when there is no such part. Throws MultipartError for a body that is not whole, PartTooLarge at once
 * when the part passes `maxBytes`.
 */
export async function storePart(
  body: Readable,
  contentType: string,
  field: string,
  path: string,
  maxBytes: number,
): Promise<StoredPart | undefined> {
  const boundary = /boundary=(?:"([^"]+)"|([^;]+))/.exec(contentType);
  const name = boundary?.[1] ?? boundary?.[2];
  if (!contentType.startsWith("multipart/form-data") || name === undefined)
    throw new MultipartError("not multipart/form-data with a boundary");
  const splitter = createSplitter(Buffer.from(`--${name}`), field, maxBytes);
  // Not one pipeline with the body: its failure would cut the connection that must carry the answer.
  const cut = () => {
    if (!body.readableEnded)
      splitter.stream.destroy(new MultipartError("the connection ended within the body"));
  };
  body.once("close", cut).pipe(splitter.stream);
  try {
    await pipeline(splitter.stream, createWriteStream(path));
  } finally {
    body.off("close", cut).unpipe(splitter.stream);
  }
  return splitter.stored();
}

/** Lets through only the bytes of the wanted part. Keeps at most a boundary's length in memory between chunks. */
function createSplitter(boundary: Buffer, field: string, maxBytes: number) {
  const delimiter = Buffer.concat([CRLF, boundary]);
  // The first boundary has no line before it; with one put there it looks like all others.
  let pending: Buffer = CRLF;
  let within: "preamble" | "headers" | "wanted" | "other" | "end" = "preamble";
  let filename: string | undefined;
  let sizeBytes = 0;

  function take(bytes: Buffer, out: Transform): void {
    if (within !== "wanted" || bytes.length === 0) return;
    sizeBytes += bytes.length;
    if (sizeBytes > maxBytes) throw new PartTooLarge();
    out.push(bytes);
  }

  function readHeaders(): boolean {
    const isLast = pending.subarray(0, 2).toString() === "--";
    if (isLast) {
      within = "end";
      return false;
    }
    const end = pending.indexOf(END_OF_HEADERS);
    if (end < 0) {
      if (pending.length > MAX_HEADER_BYTES) throw new MultipartError("part headers without an end");
      return false;
    }
    beginPart(pending.subarray(0, end).toString("utf8"));
    pending = pending.subarray(end + END_OF_HEADERS.length);
    return true;
  }

  function beginPart(headers: string): void {
    const isWanted = filename === undefined && headers.includes(` name="${field}"`);
    if (isWanted) filename = /filename="([^"]*)"/i.exec(headers)?.[1] ?? "file";
    within = isWanted ? "wanted" : "other";
  }

  function readUntilBoundary(out: Transform): boolean {
    const at = pending.indexOf(delimiter);
    const safe = at >= 0 ? at : Math.max(0, pending.length - delimiter.length);
    take(pending.subarray(0, safe), out);
    pending = pending.subarray(at >= 0 ? at + delimiter.length : safe);
    if (at >= 0) within = "headers";
    return at >= 0;
  }

  const stream = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      try {
        pending = Buffer.concat([pending, chunk]);
        let more = true;
        // Two bytes tell the last boundary (`--`) from one that headers follow.
        while (more && within !== "end" && !(within === "headers" && pending.length < 2))
          more = within === "headers" ? readHeaders() : readUntilBoundary(stream);
        if (within === "end") pending = Buffer.alloc(0);
        done();
      } catch (error) {
        done(error as Error);
      }
    },
    flush(done) {
      done(within === "end" ? null : new MultipartError("the body ends before its last boundary"));
    },
  });
  return {
    stream,
    stored: (): StoredPart | undefined => (filename === undefined ? undefined : { filename, sizeBytes }),
  };
}
