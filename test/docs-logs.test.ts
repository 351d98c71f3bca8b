/** The parsers that docs/logs.md offers, read from the page and applied to real lines. What they ask of Loki's and Elastic's stages is what those document. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { z } from "zod";
import { FireRunnerError } from "../src/base/errors.ts";
import { createListeners } from "../src/base/listeners.ts";
import type { LifecycleEvent } from "../src/domain/events.ts";
import { logEvents } from "../src/telemetry/events.ts";
import { createLog } from "../src/telemetry/log.ts";

const page = readFileSync(join(import.meta.dirname, "../docs/logs.md"), "utf8");

function blocks(language: string): string[] {
  return [...page.matchAll(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\``, "gms"))].map(
    ([, text = ""]) => text,
  );
}

/** As FireRunner writes them: of a part, of a failure, of a bug, of events and of a whole job. */
async function linesOf(format: "json" | "journald" | "logfmt"): Promise<string[]> {
  const lines: string[] = [];
  const settings = { level: "debug", format, fields: "standard" } as const;
  const { log } = createLog({
    settings,
    terminal: false,
    destination: { write: (line) => lines.push(line) },
  });
  log.child({ component: "relay" }).info({ machineId: "fr-aaaaaaaa", tookMs: 7 }, "certificate made");
  log.warn({ jobId: 7, err: new FireRunnerError("gitlab_unreachable", "asking failed") }, "poll failed");
  log.error({ err: new TypeError("a bug") }, "request failed");
  const listeners = createListeners<LifecycleEvent>();
  const told: LifecycleEvent[] = [];
  const stop = logEvents({ onEvent: listeners.add, history: async () => told, log });
  const about = { jobId: 7, machineId: null };
  const claimed = { pool: "small", runner: "glrt-abcd", name: "build", project: "g/p", pollMs: 4 };
  for (const event of [
    { seq: 1, at: 1_000, kind: "job:claimed", ...about, detail: claimed },
    { seq: 2, at: 4_000, kind: "job:finished", ...about, detail: { result: "failed", cause: "machine" } },
  ] satisfies LifecycleEvent[]) {
    told.push(event);
    listeners.emit(event);
  }
  await stop();
  return lines;
}

/** What stands at `error.code`, or undefined. */
function at(value: unknown, path: string): unknown {
  return path
    .split(".")
    .reduce<unknown>((each, name) => (each as Record<string, unknown> | undefined)?.[name], value);
}

const Stages = z.array(
  z.strictObject({
    json: z.strictObject({ expressions: z.record(z.string(), z.string()) }).optional(),
    timestamp: z.strictObject({ source: z.string(), format: z.literal("RFC3339Nano") }).optional(),
    labels: z.record(z.string(), z.null()).optional(),
  }),
);
const promtail = z
  .object({ scrape_configs: z.tuple([z.object({ pipeline_stages: Stages })]) })
  .parse(parse(blocks("yaml")[0] ?? ""));
const stages = promtail.scrape_configs[0].pipeline_stages;
const expressions = stages.flatMap(({ json }) => Object.entries(json?.expressions ?? {}));
const labels = stages.flatMap((stage) => Object.keys(stage.labels ?? {}));

/** The labels and the time of a line. */
function throughPromtail(line: string) {
  const json: unknown = JSON.parse(line);
  const extracted = new Map(expressions.map(([name, path]) => [name, at(json, path)]));
  const source = stages.find(({ timestamp }) => timestamp)?.timestamp?.source ?? "";
  const found = labels.flatMap((name) =>
    extracted.get(name) === undefined ? [] : [[name, extracted.get(name)]],
  );
  return { labels: Object.fromEntries(found), time: String(extracted.get(source)) };
}

describe("what docs/logs.md has for Loki", () => {
  test("finds level, event, component and error code in every line, and its time", async () => {
    const seen = (await linesOf("json")).map(throughPromtail);

    expect(seen.map((each) => each.labels)).toEqual([
      { level: "info", event: "certificate-made", component: "relay" },
      { level: "warn", event: "poll-failed", error_code: "gitlab_unreachable" },
      { level: "error", event: "request-failed" },
      { level: "info", event: "job:claimed" },
      { level: "debug", event: "job:finished" },
      { level: "info", event: "job-record" },
    ]);
    for (const { time } of seen) expect(time).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z$/);
  });

  test("is the same for Alloy", () => {
    const alloy = blocks("text").find((text) => text.includes("stage.json")) ?? "";
    const pairs = (name: string) =>
      [...(new RegExp(`${name} += \\{ (.*) \\}`).exec(alloy)?.[1] ?? "").matchAll(/(\w+) = "([^"]*)"/g)].map(
        ([, key, value]) => [key, value],
      );

    expect(pairs("expressions")).toEqual(expressions);
    expect(pairs("values").map(([name]) => name)).toEqual(labels);
  });

  test("has the fields that its questions ask for", async () => {
    const record = (await linesOf("json"))
      .map((line) => JSON.parse(line))
      .find(({ event }) => event === "job-record");

    expect(record).toMatchObject({ result: "failed", cause: "machine", duration_ms: 3_000, job_id: 7 });
  });
});

const Renaming = z.strictObject({
  field: z.string(),
  target_field: z.string(),
  ignore_missing: z.boolean().optional(),
  override: z.boolean().optional(),
});
const Pipeline = z.strictObject({
  description: z.string(),
  processors: z.array(
    z.strictObject({
      json: z.strictObject({ field: z.string(), target_field: z.string() }).optional(),
      date: z
        .strictObject({
          field: z.string(),
          formats: z.tuple([z.literal("ISO8601")]),
          target_field: z.string(),
        })
        .optional(),
      rename: Renaming.optional(),
      remove: z.strictObject({ field: z.array(z.string()), ignore_missing: z.literal(true) }).optional(),
    }),
  ),
});

/** Fields with dots are objects in one another, as Elastic keeps them. */
function put(document: Record<string, unknown>, path: string, value: unknown): void {
  const names = path.split(".");
  const last = names.pop() ?? "";
  let inner = document;
  for (const name of names) {
    inner[name] ??= {};
    inner = inner[name] as Record<string, unknown>;
  }
  if (value === undefined) delete inner[last];
  else inner[last] = value;
}

function throughElastic(line: string): Record<string, unknown> {
  const document: Record<string, unknown> = { message: line };
  const { processors } = Pipeline.parse(JSON.parse(blocks("json")[0] ?? ""));
  for (const { json, date, rename, remove } of processors) {
    if (json) put(document, json.target_field, JSON.parse(String(at(document, json.field))));
    if (date) put(document, date.target_field, new Date(String(at(document, date.field))).toISOString());
    if (rename) renameField(document, rename);
    for (const field of remove?.field ?? [])
      if (at(document, field) !== undefined) put(document, field, undefined);
  }
  return document;
}

function renameField(document: Record<string, unknown>, rename: z.infer<typeof Renaming>): void {
  const { field, target_field: target, ignore_missing: mayMiss = false, override = false } = rename;
  const value = at(document, field);
  if (value === undefined && mayMiss) return;
  if (value === undefined) throw new Error(`${field} is missing`);
  if (at(document, target) !== undefined && !override) throw new Error(`${target} is there already`);
  put(document, target, value);
  put(document, field, undefined);
}

test("what docs/logs.md has for Elastic takes every line, and puts what the common schema knows where it belongs", async () => {
  const [first, failure, bug, , , record] = (await linesOf("json")).map(throughElastic);

  expect(first).toMatchObject({
    message: "certificate made",
    "@timestamp": expect.stringMatching(/Z$/),
    log: { level: "info", logger: "relay" },
    event: { action: "certificate-made" },
    firerunner: { machine_id: "fr-aaaaaaaa", duration_ms: 7 },
  });
  expect(failure).toMatchObject({ error: { code: "gitlab_unreachable", message: "asking failed" } });
  expect(bug).toMatchObject({ error: { type: "TypeError", stack_trace: expect.stringContaining("a bug") } });
  expect(failure?.["firerunner"]).toEqual({ job_id: 7 });
  expect(record).toMatchObject({ firerunner: { job_id: 7, result: "failed", phases: { total_ms: 3_000 } } });
});

test("a line for the journal is the same behind its priority, and one as logfmt has the same fields", async () => {
  const withoutTime = (line: string) => ({ ...JSON.parse(line), time: "" });
  const json = await linesOf("json");
  const journal = (await linesOf("journald")).map((line) => line.slice(3));
  const logfmt = await linesOf("logfmt");

  expect(journal.map(withoutTime).map(({ error: _, ...rest }) => rest)).toEqual(
    json.map(withoutTime).map(({ error: _, ...rest }) => rest),
  );
  expect(logfmt[1]).toMatch(
    / event=poll-failed .*error\.code=gitlab_unreachable error\.message="asking failed"/,
  );
  expect(logfmt[5]).toMatch(/ phases\.total_ms=3000 /);
});

test("every field that docs/logs.md lists is one that lines have, or will have", async () => {
  const [, table = ""] = /\| field \| what it is \|\n(.*?)\n\n/s.exec(page) ?? [];
  const listed = [...table.matchAll(/^\| (.*?) \|/gm)].flatMap(([, cell = ""]) =>
    [...cell.matchAll(/`([\w.]+)`/g)].map(([, name = ""]) => name),
  );
  const lines = (await linesOf("json")).map((line): unknown => JSON.parse(line));

  expect(listed.filter((name) => !lines.some((line) => at(line, name) !== undefined))).toEqual([
    // Known where jobs by tag are watched, of machines that run, and of traces.
    ...["project_id", "host", "trace_id"],
  ]);
});
