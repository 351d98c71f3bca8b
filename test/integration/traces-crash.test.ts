import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { eventually } from "../harness/eventually.ts";
import { attributesOf, startTraceCollector, type TraceCollector } from "../servers/trace-collector.ts";

const JOBS = 100;
/** As many jobs may be on their way when a process dies. */
const MOST_IN_ONE_REQUEST = 32;
const program = join(import.meta.dirname, "../programs/traced-jobs-process.ts");

let collector: TraceCollector;
let state: string;

beforeEach(async () => {
  collector = await startTraceCollector();
  state = await mkdtemp(join(tmpdir(), "fr-traces-"));
});
afterEach(async () => {
  await collector[Symbol.asyncDispose]();
  await rm(state, { recursive: true, force: true });
});

function start() {
  const child = spawn(process.execPath, [program, state, collector.url, String(JOBS)], { stdio: "inherit" });
  return { child, ended: once(child, "exit") };
}

const roots = () => [...collector.spans.values()].filter(({ name }) => name === "job");
const tracedJobs = () => roots().map((span) => Number(attributesOf(span)["ci.job.id"]));

test("100 jobs, killed twice in the middle, have one whole trace each: none is missing, none is doubled", {
  timeout: 120_000,
}, async () => {
  // The second time just when a collector has taken a request and has not answered it yet.
  for (const [enough, fault] of [
    [25, undefined],
    [55, "taken, answer lost"],
  ] as const) {
    const { child, ended } = start();
    await eventually("some traces came", () => tracedJobs().length >= enough, 60_000);
    if (fault) {
      collector.always = fault;
      const before = collector.requests.length;
      await eventually("another request came", () => collector.requests.length > before);
    }
    child.kill("SIGKILL");
    await ended;
    collector.always = undefined;
    expect(tracedJobs().length).toBeLessThan(JOBS);
  }
  const { ended } = start();
  expect(await ended).toEqual([0, null]);

  const all = Array.from({ length: JOBS }, (_, index) => index + 1);
  expect(tracedJobs().toSorted((a, b) => a - b)).toEqual(all);
  expect(collector.violations).toEqual([]);
  const byTrace = Map.groupBy(collector.spans.values(), ({ traceId }) => traceId);
  expect(byTrace.size).toBe(JOBS);
  for (const spans of byTrace.values()) {
    const names = spans.map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
    expect(names).toEqual(expect.arrayContaining(["job", "claim", "place", "run", "machine.destroy"]));
    const [root] = spans.filter(({ name }) => name === "job");
    expect(spans.filter(({ parentSpanId }) => parentSpanId !== root?.spanId)).toEqual([root]);
  }
  const again = roots().filter(({ spanId }) => (collector.timesTaken.get(spanId) ?? 0) > 1);
  expect(again.length).toBeLessThanOrEqual(2 * MOST_IN_ONE_REQUEST);
});
