import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { OtlpRequest } from "../../../test/servers/trace-collector.ts";
import type { EventDetails, EventKind, LifecycleEvent } from "../../domain/events.ts";
import { composeSpans, type Span, type TracedJob } from "./job-story.ts";
import { encodeSpans } from "./otlp.ts";

const job: TracedJob = {
  traceId: "4bf92f3577b34da6a3ce929d0e0e4736",
  parentSpanId: "00f067aa0ba902b7",
  ...{ jobId: 4711, pipelineId: 99, projectId: 7, stage: "test", gitlabUrl: "https://gitlab.example.com" },
};
const claim = { pool: "small", runner: "glrt-abcd", name: "build", project: "g/p", pollMs: 40 };
const machine = { host: "local", driver: "qemu", cpus: 2, memoryMib: 1_024 };
const T = 1_700_000_000_000;

/** Events of the job at milliseconds after T. */
function story() {
  const events: LifecycleEvent[] = [];
  return {
    events,
    add<Kind extends EventKind>(
      at: number,
      kind: Kind,
      machineId: string | null,
      detail: EventDetails[Kind],
    ) {
      events.push({ seq: events.length + 1, at: T + at, kind, jobId: 4711, machineId, detail } as never);
      return this;
    },
  };
}

/** Name, start, end (ms after T) and problem of each, as they are given. */
function times(spans: readonly Span[]) {
  return spans.map(({ name, startAt, endAt, problem }) => [name, startAt - T, endAt - T, problem]);
}

const booted = () =>
  story()
    .add(1_000, "job:claimed", null, { ...claim, queuedMs: 700 })
    .add(1_010, "machine:creating", "fr-a", machine)
    .add(1_020, "machine:fetching", "fr-a", {})
    .add(1_500, "machine:images-here", "fr-a", { tookMs: 470 })
    .add(1_600, "machine:booting", "fr-a", {})
    .add(3_100, "machine:heard", "fr-a", {})
    .add(3_600, "machine:ready", "fr-a", {})
    .add(3_605, "job:running", "fr-a", { machineId: "fr-a" });

describe("the trace of a job", () => {
  test("has a span for each part of its life, at the times of its events", () => {
    const { events } = booted()
      .add(9_605, "job:finished", "fr-a", { result: "success", toldAt: T + 9_400 })
      .add(9_606, "machine:stopping", "fr-a", { reason: "its job has ended" })
      .add(9_700, "machine:gone", "fr-a", {});

    const spans = composeSpans(job, events);

    expect(times(spans)).toEqual([
      ["job", 300, 9_605, undefined],
      ["queue", 300, 1_000, undefined],
      ["claim", 960, 1_000, undefined],
      ["place", 1_000, 1_010, undefined],
      ["image", 1_020, 1_500, undefined],
      ["machine.create", 1_500, 1_600, undefined],
      ["machine.boot", 1_600, 3_100, undefined],
      ["runner.start", 3_100, 3_600, undefined],
      ["run", 3_605, 9_400, undefined],
      ["finish", 9_400, 9_605, undefined],
      ["machine.destroy", 9_606, 9_700, undefined],
    ]);
    const [root, ...children] = spans;
    expect(root?.parentSpanId).toBe(job.parentSpanId);
    expect(new Set(children.map(({ parentSpanId }) => parentSpanId))).toEqual(new Set([root?.spanId]));
    expect(new Set(spans.map(({ spanId }) => spanId)).size).toBe(spans.length);
    expect(new Set(spans.map(({ traceId }) => traceId))).toEqual(new Set([job.traceId]));
    expect(root?.attributes).toEqual({
      "cicd.pipeline.task.name": "build",
      "cicd.pipeline.task.run.id": "4711",
      "cicd.pipeline.task.run.result": "success",
      "cicd.pipeline.task.run.url.full": "https://gitlab.example.com/g/p/-/jobs/4711",
      "cicd.pipeline.task.type": "test",
      "cicd.pipeline.run.id": "99",
      "cicd.pipeline.run.url.full": "https://gitlab.example.com/g/p/-/pipelines/99",
      "cicd.worker.id": "fr-a",
      ...{ "ci.job.id": 4711, "ci.job.name": "build", "ci.job.stage": "test" },
      ...{ "ci.pipeline.id": 99, "ci.project.id": 7, "ci.project.path": "g/p" },
      ...{ "firerunner.pool": "small", "firerunner.runner": "glrt-abcd", "firerunner.machines": 1 },
      ...{ "firerunner.host": "local", "firerunner.driver": "qemu" },
      ...{ "firerunner.machine.cpus": 2, "firerunner.machine.memory_mib": 1_024 },
    });
  });

  test("is the same whenever it is made", () => {
    const { events } = booted().add(9_605, "job:finished", "fr-a", { result: "success" });

    expect(composeSpans(job, structuredClone(events))).toEqual(composeSpans(job, events));
  });

  test("begins with the request that brought the job where GitLab did not say how long it waited", () => {
    const { events } = story()
      .add(1_000, "job:claimed", null, claim)
      .add(1_005, "job:finished", null, { result: "canceled" });

    expect(times(composeSpans(job, events))).toEqual([
      ["job", 960, 1_005, undefined],
      ["claim", 960, 1_000, undefined],
    ]);
  });

  test("does not count the time before the job was there, in which GitLab held the request", () => {
    const { events } = story()
      .add(60_000, "job:claimed", null, { ...claim, pollMs: 50_000, queuedMs: 200 })
      .add(60_005, "job:finished", null, { result: "canceled" });

    expect(times(composeSpans(job, events)).slice(0, 3)).toEqual([
      ["job", 59_800, 60_005, undefined],
      ["queue", 59_800, 60_000, undefined],
      ["claim", 59_800, 60_000, undefined],
    ]);
  });

  test("tells of a machine that died before it took the job, and of the one after it", () => {
    const { events } = story()
      .add(0, "job:claimed", null, { ...claim, queuedMs: 0 })
      .add(10, "machine:creating", "fr-a", machine)
      .add(60, "machine:booting", "fr-a", {})
      .add(90, "machine:stopping", "fr-a", { reason: "it crashed" })
      .add(90, "job:retried", "fr-a", { machineId: "fr-a", reason: "it crashed", attempt: 1 })
      .add(95, "machine:gone", "fr-a", {})
      .add(100, "machine:creating", "fr-b", machine)
      .add(170, "machine:booting", "fr-b", {})
      .add(180, "machine:heard", "fr-b", {})
      .add(185, "machine:ready", "fr-b", {})
      .add(190, "job:running", "fr-b", { machineId: "fr-b" })
      .add(290, "job:finished", "fr-b", { result: "failed", cause: "script" })
      .add(291, "machine:stopping", "fr-b", { reason: "its job has ended" })
      .add(295, "machine:gone", "fr-b", {});

    const spans = composeSpans(job, events);

    expect(times(spans)).toEqual([
      ["job", 0, 290, "the job ended with script"],
      ["queue", 0, 0, undefined],
      ["claim", 0, 0, undefined],
      ["place", 0, 10, undefined],
      ["machine.create", 10, 60, undefined],
      ["machine.boot", 60, 90, "it crashed"],
      ["machine.destroy", 90, 95, undefined],
      ["place", 90, 100, undefined],
      ["machine.create", 100, 170, undefined],
      ["machine.boot", 170, 180, undefined],
      ["runner.start", 180, 185, undefined],
      ["run", 190, 290, "the job ended with script"],
      ["machine.destroy", 291, 295, undefined],
    ]);
    expect(new Set(spans.map(({ spanId }) => spanId)).size).toBe(spans.length);
    expect(spans.filter(({ attributes }) => attributes["cicd.worker.id"] === "fr-a")).toHaveLength(4);
    expect(spans[0]?.attributes).toMatchObject({
      "firerunner.machines": 2,
      "cicd.worker.id": "fr-b",
      "cicd.pipeline.task.run.result": "failure",
      "error.type": "script",
    });
  });

  test("of a job whose machine died has the report to GitLab as its finish", () => {
    const { events } = booted()
      .add(5_000, "machine:stopping", "fr-a", { reason: "its process was killed" })
      .add(5_001, "job:failing", "fr-a", { reason: "its process was killed", cause: "machine" })
      .add(5_900, "job:finished", "fr-a", {
        result: "failed",
        reason: "its process was killed",
        cause: "machine",
      })
      .add(5_950, "machine:gone", "fr-a", {});

    const spans = composeSpans(job, events);

    expect(times(spans).slice(-3)).toEqual(
      [
        ["run", 3_605, 5_001, "its process was killed"],
        ["machine.destroy", 5_000, 5_950, undefined],
        ["finish", 5_001, 5_900, undefined],
      ].toSorted((a, b) => Number(a[1]) - Number(b[1])),
    );
    expect(spans[0]).toMatchObject({
      problem: "its process was killed",
      attributes: { "cicd.pipeline.task.run.result": "error", "error.type": "machine" },
    });
  });

  test.each([
    ["canceled", undefined, undefined, "cancellation", undefined],
    ["failed", "time-limit", "the job's time limit was over", "timeout", "time-limit"],
    ["failed", "image", "there is no such image", "failure", "image"],
    ["failed", "memory", "no memory left", "error", "memory"],
    ["failed", undefined, undefined, "failure", "script"],
    ["unknown", undefined, "GitLab no longer takes anything", "error", "unknown"],
  ] as const)("of a job that ended %s (%s)", (result, cause, reason, expected, errorType) => {
    const detail = { result, ...(cause ? { cause } : {}), ...(reason ? { reason } : {}) };
    const { events } = booted().add(9_605, "job:finished", "fr-a", detail);

    const [root] = composeSpans(job, events);

    expect(root?.attributes["cicd.pipeline.task.run.result"]).toBe(expected);
    expect(root?.attributes["error.type"]).toBe(errorType);
    expect(root?.problem).toBe(errorType && (reason ?? `the job ended with ${errorType}`));
  });

  test("of a job that tried very many machines tells of the last ones", () => {
    const many = story().add(0, "job:claimed", null, claim);
    for (let at = 1; at <= 200; at++)
      many
        .add(at * 10, "machine:creating", `fr-${at}`, machine)
        .add(at * 10 + 1, "machine:stopping", `fr-${at}`, { reason: "no" })
        .add(at * 10 + 2, "machine:gone", `fr-${at}`, {})
        .add(at * 10 + 3, "job:retried", `fr-${at}`, { machineId: `fr-${at}`, reason: "no", attempt: 0 });
    many.add(3_000, "job:finished", null, { result: "failed", reason: "no", cause: "never-started" });

    const spans = composeSpans(job, many.events);

    expect(spans.length).toBeLessThan(60);
    expect(spans[0]?.attributes["firerunner.machines"]).toBe(200);
    expect(spans.some(({ attributes }) => attributes["cicd.worker.id"] === "fr-200")).toBe(true);
  });

  test("that history has forgotten is empty", () => {
    expect(composeSpans(job, [])).toEqual([]);
    expect(composeSpans(job, booted().events)).toEqual([]);
  });
});

test("whatever events say, in whatever order and at whatever times, the request is valid OTLP", () => {
  const text = fc.oneof(fc.string({ unit: "binary" }), fc.constant("\ud800"), fc.constant("x".repeat(5_000)));
  const at = fc.integer({ min: 10_000_000, max: 20_000_000 });
  const kinds = [
    "machine:booting",
    "machine:heard",
    "machine:ready",
    "machine:gone",
    "machine:fetching",
  ] as const;
  const event = fc.record({
    at,
    kind: fc.constantFrom(...kinds),
    machineId: fc.constantFrom("fr-a", "fr-b"),
  });
  fc.assert(
    fc.property(fc.array(event, { maxLength: 12 }), text, text, at, (events, name, reason, endAt) => {
      const told = story()
        .add(10_000_000, "job:claimed", null, { ...claim, name, project: reason, queuedMs: 5.25 })
        .add(10_000_001, "machine:creating", "fr-a", machine)
        .add(10_000_001, "machine:creating", "fr-b", { ...machine, host: name });
      for (const each of events) told.add(each.at, each.kind, each.machineId, {});
      told
        .add(endAt, "machine:stopping", "fr-a", { reason })
        .add(endAt, "job:finished", null, { result: "failed", reason, cause: "machine", toldAt: T + 1 });

      const body = encodeSpans(composeSpans({ ...job, stage: reason }, told.events), {
        version: "1.2.3",
        installationId: "0a1b",
      });

      expect(OtlpRequest.safeParse(JSON.parse(body)).error).toBeUndefined();
    }),
    { numRuns: 50 },
  );
});
