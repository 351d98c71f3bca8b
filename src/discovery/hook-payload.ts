/**
 * What a webhook says, as far as it is used. Both events are read narrowly: no date, no runner, no commit is looked at, so that a
 * GitLab which writes these otherwise is understood as well. Facts: `lib/gitlab/data_builder/{build,pipeline}.rb` of GitLab.
 */

import { createHash } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import { z } from "zod";
import { single } from "../base/headers.ts";

/** Up to here whatever is in a body is read within a few milliseconds. */
const SMALL_BYTES = 65_536;
/**
 * A pipeline of 5,000 jobs has fewer. Beyond it JSON.parse could hold up the program for seconds: 10 MB of brackets take two.
 */
const MOST_BRACKETS = 50_000;
const MOST_COMMAS = 250_000;
const LONGEST_STATUS = 32;

/** News of a project's jobs. `jobId`: of a Job Hook. */
interface HookContent {
  readonly projectId: number | null;
  readonly jobId: number | null;
  readonly status: string | null;
}

export type HookReading =
  | ({ readonly kind: "job" | "pipeline" } & HookContent)
  /** Another event than those of jobs and pipelines. */
  | { readonly kind: "other" }
  /** Something has happened, but it cannot be told what. `projectId` where at least that can be read. */
  | { readonly kind: "unreadable"; readonly projectId: number | null; readonly problem: string };

const Id = z.int().positive();
const OptionalId = Id.nullish().catch(null);
const Status = z.string().min(1).transform(cutTo(LONGEST_STATUS));
const Project = z.object({ id: OptionalId }).nullish().catch(null);

const Kind = z.object({ object_kind: z.string() });
const JobHook = z.object({ build_id: Id, build_status: Status, project_id: OptionalId, project: Project });
const PipelineHook = z.object({
  object_attributes: z.object({ status: Status }),
  project_id: OptionalId,
  project: Project,
});
const AnyHook = z.object({ project_id: OptionalId, project: Project });

/** `event`: the header `X-Gitlab-Event`. Never throws, and its work is bounded by the length of the body. */
export function readHook(event: string | undefined, body: Buffer | undefined): HookReading {
  const kindByHeader = event === undefined ? undefined : kindOfEvent(event);
  if (event !== undefined && kindByHeader === undefined) return { kind: "other" };
  if (body === undefined) return unreadable("its body is longer than what is read here");
  if (!isQuickToParse(body)) return unreadable("its body has more parts than a pipeline can have");
  const json = parse(body);
  if (json === undefined) return unreadable("its body is not JSON");
  return readJson(kindByHeader, json);
}

function readJson(kindByHeader: "job" | "pipeline" | undefined, json: unknown): HookReading {
  const said = Kind.safeParse(json).data?.object_kind;
  const kind = kindOfObject(said) ?? kindByHeader;
  if (kind === undefined) {
    return said === undefined
      ? unreadable("neither its headers nor its body name an event")
      : { kind: "other" };
  }
  const hook = kind === "job" ? readJobHook(json) : readPipelineHook(json);
  if (hook) return { kind, ...hook };
  const projectId = projectOf(AnyHook.safeParse(json).data ?? {});
  const what = kind === "job" ? "a Job Hook (build_id, build_status)" : "a Pipeline Hook (object_attributes)";
  return unreadable(`its body is not that of ${what}`, projectId);
}

function readJobHook(json: unknown): HookContent | undefined {
  const hook = JobHook.safeParse(json).data;
  return hook && { projectId: projectOf(hook), jobId: hook.build_id, status: hook.build_status };
}

function readPipelineHook(json: unknown): HookContent | undefined {
  const hook = PipelineHook.safeParse(json).data;
  return hook && { projectId: projectOf(hook), jobId: null, status: hook.object_attributes.status };
}

function projectOf({ project_id, project }: z.infer<typeof AnyHook>): number | null {
  return project?.id ?? project_id ?? null;
}

function kindOfEvent(event: string): "job" | "pipeline" | undefined {
  if (event === "Job Hook") return "job";
  return event === "Pipeline Hook" ? "pipeline" : undefined;
}

function kindOfObject(objectKind: string | undefined): "job" | "pipeline" | undefined {
  if (objectKind === "build") return "job";
  return objectKind === "pipeline" ? "pipeline" : undefined;
}

function unreadable(problem: string, projectId: number | null = null): HookReading {
  return { kind: "unreadable", projectId, problem };
}

function parse(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString("utf8"));
  } catch {
    return undefined;
  }
}

function isQuickToParse(body: Buffer): boolean {
  if (body.length <= SMALL_BYTES) return true;
  let brackets = 0;
  let commas = 0;
  for (const byte of body) {
    if (byte === 0x2c) commas++;
    else if (byte === 0x5b || byte === 0x7b) brackets++;
  }
  return brackets <= MOST_BRACKETS && commas <= MOST_COMMAS;
}

/** Without half of a character at its end, and without what a database or a terminal would stumble over. */
function cutTo(length: number): (text: string) => string {
  return (text) => text.slice(0, length).replaceAll(/\p{C}/gu, "\ufffd");
}

/** What GitLab sends is a UUID; a few printable characters more do no harm. */
const plainKey = /^[\x21-\x7e]{1,100}$/;

/**
 * By what a delivery is known again: `webhook-id` (GitLab 19.0), which equals `Idempotency-Key` (17.4); before these
 * `X-Gitlab-Event-UUID`, which all hooks of one event share, with what the hook is about; else what the body says. Undefined when
 * there is neither.
 */
export function deliveryKey(
  headers: IncomingHttpHeaders,
  body: Buffer | undefined,
  about: string,
): string | undefined {
  const own = boundedKey(firstValue(headers["webhook-id"]) ?? firstValue(headers["idempotency-key"]));
  if (own !== undefined) return own;
  const event = boundedKey(firstValue(headers["x-gitlab-event-uuid"]));
  if (event !== undefined) return `${event} ${about}`;
  return body === undefined ? undefined : digest(body);
}

function firstValue(value: string | string[] | undefined): string | undefined {
  const text = single(value);
  return text === "" ? undefined : text;
}

/** Two that differ stay different. */
function boundedKey(text: string | undefined): string | undefined {
  return text === undefined || plainKey.test(text) ? text : digest(text);
}

function digest(data: string | Buffer): string {
  return `sha256:${createHash("sha256").update(data).digest("hex")}`;
}
