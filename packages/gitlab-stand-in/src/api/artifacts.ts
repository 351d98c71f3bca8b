import { createReadStream, createWriteStream } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import busboy, { type Busboy } from "busboy";
import { parseExpireInMs } from "../../../../src/ci/duration.ts";
import type { Core } from "../core.ts";
import { type Exchange, json, type Reply, refuse } from "../exchange.ts";
import { type Artifact, archiveOf, isProcessing, type Job } from "../model.ts";
import { authenticateJob, isTokenOf, jobTokenHeader, tooMany } from "./jobs.ts";

/** `POST /jobs/:id/artifacts`: one file, streamed to the disk. The right to send it is checked before it is read. */
export async function uploadArtifact(core: Core, exchange: Exchange): Promise<Reply> {
  const token = jobTokenHeader(exchange);
  const { limits } = core.behaviour;
  if (!core.limiter.allow(`artifact ${token}`, limits.artifactsPerJob))
    return tooMany(core, "artifact upload", exchange.jobId);
  const access = authenticateJob(core, exchange, token, "artifact upload");
  if ("refusal" in access) return access.refusal;
  const { job } = access;
  const type = exchange.url.searchParams.get("artifact_type") ?? "archive";
  const path = join(core.artifactsDirectory, `${job.id}-${crypto.randomUUID()}`);
  const stored = await receive(core, exchange, job, path);
  if ("status" in stored) {
    await rm(path, { force: true });
    return stored;
  }
  if (job.artifacts.some((artifact) => artifact.type === type)) {
    await rm(path, { force: true });
    core.report("duplicate-artifact", `a second artifact of type ${type}`, job.id);
    return refuse(400, "another artifact of the same type already exists");
  }
  job.artifacts.push(describe(core, exchange, type, path, stored));
  return json(201, 201);
}

async function receive(core: Core, exchange: Exchange, job: Job, path: string): Promise<StoredPart | Reply> {
  const { maxArtifactBytes } = core.behaviour;
  const contentType = exchange.request.headers["content-type"] ?? "";
  try {
    const part = await storePart(exchange.request, contentType, "file", path, maxArtifactBytes);
    if (part) return part;
    core.report("bad-request", "artifact upload without a file", job.id);
    return refuse(400, "Missing artifacts file!");
  } catch (error) {
    if (error instanceof PartTooLarge) return refuse(413, "413 Request Entity Too Large");
    if (!(error instanceof MultipartError)) throw error;
    core.report("bad-request", `artifact upload: ${error.message}`, job.id);
    return refuse(400, error.message);
  }
}

function describe(core: Core, exchange: Exchange, type: string, path: string, part: StoredPart): Artifact {
  const expireIn = exchange.url.searchParams.get("expire_in");
  const lifeMs = expireIn ? parseExpireInMs(expireIn) : undefined;
  return {
    type,
    format: exchange.url.searchParams.get("artifact_format") ?? "zip",
    filename: part.filename,
    path,
    sizeBytes: part.sizeBytes,
    expiresAt: lifeMs === undefined ? undefined : core.clock.now() + lifeMs,
  };
}

/**
 * `GET /jobs/:id/artifacts`. The token is that of a running job of the same project: a finished job's own token, also that
 * of the job whose artifact it is, opens nothing any more.
 */
export async function downloadArtifact(core: Core, exchange: Exchange): Promise<Reply> {
  const token = jobTokenHeader(exchange);
  if (!core.limiter.allow(`artifact ${token}`, core.behaviour.limits.artifactsPerJob))
    return tooMany(core, "artifact download", exchange.jobId);
  const asking = runningJobOf(core, exchange, token);
  if (!asking) return refuse(401, "401 Unauthorized");
  const job = exchange.jobId === undefined ? undefined : core.jobs.get(exchange.jobId);
  if (!job || job.project !== asking.project) return refuse(404, "404 Not Found");
  const archive = archiveOf(job);
  if (!archive || (archive.expiresAt ?? Number.POSITIVE_INFINITY) < core.clock.now())
    return refuse(404, "404 Not Found");
  if (core.behaviour.directDownload && exchange.url.searchParams.get("direct_download") === "true")
    return { status: 302, headers: { Location: core.storage.sign(archive) } };
  return fileReply(archive);
}

function runningJobOf(core: Core, exchange: Exchange, token: string | undefined): Job | undefined {
  const job = core.jobs.all().find((each) => token !== undefined && isTokenOf(core, each, token));
  if (job && isProcessing(job)) return job;
  if (!job?.canceledAt)
    core.report("wrong-token", "artifact download without a running job's token", exchange.jobId);
  return undefined;
}

function fileReply(artifact: Artifact): Reply {
  return {
    status: 200,
    headers: {
      "Content-Type": "application/octet-stream",
      "Content-Length": String(artifact.sizeBytes),
      "Content-Disposition": `attachment; filename="${artifact.filename}"`,
    },
    body: createReadStream(artifact.path),
  };
}

class MultipartError extends Error {}

class PartTooLarge extends Error {}

interface StoredPart {
  readonly filename: string;
  readonly sizeBytes: number;
}

/**
 * Writes the file called `field` of a multipart/form-data body to `path` as it comes; other parts are read and dropped. Undefined when
 * there is no such file. Throws MultipartError for a body that is not whole, PartTooLarge at once when the file passes `maxBytes`.
 */
async function storePart(
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
