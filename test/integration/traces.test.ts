import { expect, test } from "vitest";
import { traceOfJob } from "../../src/domain/trace-context.ts";
import { createRecordingLog } from "../builders/recording-log.ts";
import { eventually } from "../harness/eventually.ts";
import { servedGroup, startTaggedInstallation } from "../harness/tagged-installation.ts";
import { attributesOf, startTraceCollector } from "../servers/trace-collector.ts";

const tags = ["firecracker-1cpu-1gb"];
const tracing = { traceId: "4bf92f3577b34da6a3ce929d0e0e4736", spanParentId: "00f067aa0ba902b7" };

test("a job's whole life is a trace, in GitLab's own where it makes one, and the job is told where it belongs", async () => {
  await using collector = await startTraceCollector();
  const { log, lines } = createRecordingLog();
  const settings = { traces: { endpoint: collector.url, guests: true } };
  await using installation = await startTaggedInstallation({ settings, log });
  const { gitlab, components, runs } = installation;
  const project = await gitlab.projects.add({ path: `${servedGroup}/one` });
  const inGitLabs = await gitlab.addJob(project, { tags });
  inGitLabs.tracing = tracing;
  const alone = await gitlab.addJob(project, { tags });

  const rootOf = (id: number) =>
    [...collector.spans.values()].find(
      (span) => span.name === "job" && attributesOf(span)["ci.job.id"] === id,
    );
  const roots = await eventually(
    "both traces came",
    () => {
      const both = [rootOf(inGitLabs.id), rootOf(alone.id)];
      return both.every((each) => each !== undefined) && both;
    },
    60_000,
  );

  expect(collector.violations).toEqual([]);
  const { traceId } = traceOfJob(components.store.installationId, alone.id);
  expect(roots.map((span) => [span?.traceId, span?.parentSpanId])).toEqual([
    [tracing.traceId, tracing.spanParentId],
    [traceId, undefined],
  ]);
  expect(attributesOf(roots[1]!)).toMatchObject({
    "cicd.pipeline.task.run.result": "success",
    "cicd.pipeline.task.run.url.full": `${gitlab.url}/${servedGroup}/one/-/jobs/${alone.id}`,
    "ci.project.path": `${servedGroup}/one`,
  });
  const spans = [...collector.spans.values()].filter((span) => span.traceId === traceId);
  const children = spans.filter(({ name }) => name !== "job");
  expect(children.map(({ name }) => name).toSorted()).toEqual(
    ["claim", "place", "machine.create", "machine.boot", "runner.start", "run", "machine.destroy"]
      .concat(children.some(({ name }) => name === "queue") ? ["queue"] : [])
      .concat(children.some(({ name }) => name === "finish") ? ["finish"] : [])
      .toSorted(),
  );
  const work = spans.find(({ name }) => name === "run");
  const given = runs.find(({ jobId }) => jobId === alone.id)?.given;
  expect(given).toContain(`"00-${traceId}-${work?.spanId}-01"`);
  const records = lines.filter((line) => line.includes("job record"));
  expect(records.filter((line) => line.includes(`"traceId":"${traceId}"`))).toHaveLength(1);
  expect(components.traces.figures()).toMatchObject({ dropped: 0, problem: undefined });
});
