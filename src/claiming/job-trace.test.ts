import { expect, test } from "vitest";
import { aPayload } from "../../test/builders/payload.ts";
import { traceOfJob } from "../domain/trace-context.ts";
import { JobPayload } from "../gitlab/runner-api.ts";
import { createTraceRule } from "./job-trace.ts";

const GITLABS = { trace_id: "4bf92f3577b34da6a3ce929d0e0e4736", span_parent_id: "00f067aa0ba902b7" };

function traceOf(overrides: Parameters<typeof aPayload>[0] = {}, share: number | undefined = 1) {
  const rule = createTraceRule({ installationId: "an-installation", share: () => share });
  return rule(JobPayload.parse(aPayload(overrides)));
}

test("a job is traced by GitLab's own trace where it sends one, with GitLab's ids", () => {
  const features = { trace_sections: true, tracing: { ...GITLABS, otel_endpoints: [{ url: "http://x" }] } };

  expect(traceOf({ features })).toEqual({
    traceId: GITLABS.trace_id,
    parentSpanId: GITLABS.span_parent_id,
    pipelineId: 99,
    projectId: 7,
  });
});

test.each([
  ["none", { trace_sections: true }],
  ["null", { tracing: null }],
  ["one of another form", { tracing: ["a"] }],
  ["one without ids", { tracing: {} }],
  ["one whose id is no id", { tracing: { trace_id: "x'; drop", span_parent_id: 7 } }],
  ["no features at all", null],
  ["features of another form", "all"],
])("a job with %s is traced by an id of ours, and is no worse for it", (_name, features) => {
  expect(traceOf({ features })).toMatchObject(traceOfJob("an-installation", 4711));
});

test("GitLab's trace counts also where it names no span around the job", () => {
  const features = { tracing: { trace_id: GITLABS.trace_id } };

  expect(traceOf({ features })).toMatchObject({ traceId: GITLABS.trace_id, parentSpanId: null });
  expect(traceOf({ features, job_info: { name: "build" } })).toMatchObject({
    pipelineId: null,
    projectId: null,
  });
});

test("a job has ids of GitLab's only where they are ids", () => {
  const info = { name: "build", pipeline_id: "ninety", project_id: null };

  expect(traceOf({ job_info: info })).toMatchObject({ pipelineId: null, projectId: null });
});

test("a job that nobody traces, or that is not among the share, has no trace", () => {
  expect(
    createTraceRule({ installationId: "i", share: () => undefined })(JobPayload.parse(aPayload())),
  ).toBeUndefined();
  expect(traceOf({}, 0)).toBeUndefined();
});
