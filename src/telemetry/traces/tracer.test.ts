import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { aClaim } from "../../../test/builders/job.ts";
import { aNewMachine } from "../../../test/builders/machine.ts";
import { createRecordingLog } from "../../../test/builders/recording-log.ts";
import { aStore, type TestStore } from "../../../test/builders/store.ts";
import { eventually } from "../../../test/harness/eventually.ts";
import {
  attributesOf,
  startTraceCollector,
  type TraceCollector,
} from "../../../test/servers/trace-collector.ts";
import { systemClock } from "../../base/clock.ts";
import { createManualClock, type ManualClock } from "../../base/manual-clock.ts";
import { directRoutes } from "../../base/proxy/routes.ts";
import { Secret } from "../../base/secret.ts";
import { HOUR_MS, MINUTE_MS, SECOND_MS } from "../../base/units.ts";
import { traceOfJob } from "../../domain/trace-context.ts";
import type { Store } from "../../store/store.ts";
import { createSender, type Sender } from "./sender.ts";
import { createTracer, type Tracer } from "./tracer.ts";

let collector: TraceCollector;
let kept: TestStore;
let clock: ManualClock;
let log: ReturnType<typeof createRecordingLog>;
let sender: Sender;
let tracer: Tracer;

beforeEach(async () => {
  collector = await startTraceCollector();
  clock = createManualClock();
  kept = await aStore({ clock });
  log = createRecordingLog();
  sender = senderTo(collector.url);
  tracer = tracerOf(kept.store);
});
afterEach(async () => {
  await tracer.stop();
  await sender.close();
  await collector[Symbol.asyncDispose]();
  await kept[Symbol.asyncDispose]();
});

function tracerOf(queue: Store): Tracer {
  return createTracer({
    queue,
    sender: () => sender,
    producer: { version: "1.2.3", installationId: kept.store.installationId },
    keepMs: () => HOUR_MS,
    gitlabUrl: "https://gitlab.example.com",
    ...{ clock, random: () => 1, log: log.log },
  });
}

/** Its requests have real time, so that a slow computer makes none of them late. */
function senderTo(endpoint: string, timeoutMs = 60_000): Sender {
  const headers = [["authorization", new Secret("Bearer sesame")]] as const;
  return createSender(
    { endpoint, timeoutMs, access: { headers, ca: undefined }, proxies: directRoutes },
    systemClock,
  );
}

async function endJob(jobId: number): Promise<void> {
  const { store } = kept;
  const trace = { ...traceOfJob(store.installationId, jobId), pipelineId: 99, projectId: 7 };
  await store.claim(aClaim({ jobId, trace }));
  await store.finishJob(jobId, "success");
}

async function endJobs(count: number): Promise<void> {
  for (let jobId = 1; jobId <= count; jobId++) await endJob(jobId);
}

const waiting = () => kept.store.waitingTraces();
const jobsTold = () =>
  [...collector.spans.values()]
    .filter(({ name }) => name === "job")
    .map((span) => Number(attributesOf(span)["ci.job.id"]))
    .toSorted((a, b) => a - b);
const all = (count: number) => Array.from({ length: count }, (_, index) => index + 1);
const requests = (count: number) =>
  eventually("the requests came", () => collector.requests.length === count);
const settled = () => eventually("no trace waits", async () => (await waiting()) === 0);
/** The tracer sleeps until the collector may be tried again: nothing is under way. */
const asleep = () =>
  eventually("it waits", () => tracer.figures().problem !== undefined && clock.nextWake() !== undefined);
const said = (level: string, message: string) => expect.stringContaining(`${level} ${message}`);

describe("traces of jobs that have ended", () => {
  test("are sent once, those of before the start and those that end later", async () => {
    await endJobs(3);
    tracer.start();
    await settled();
    await endJob(4);
    await settled();

    expect(jobsTold()).toEqual(all(4));
    expect(new Set(collector.timesTaken.values())).toEqual(new Set([1]));
    expect(collector.violations).toEqual([]);
    expect(collector.requests[0]?.headers["authorization"]).toBe("Bearer sesame");
    const { resource } = JSON.parse(collector.requests[0]?.body ?? "").resourceSpans[0];
    expect(resource.attributes.map(({ key }: { key: string }) => key)).toEqual([
      "service.name",
      "service.version",
      "service.instance.id",
    ]);
    expect(tracer.figures()).toEqual({ sent: 4, dropped: 0, rejectedSpans: 0, problem: undefined });
  });

  test("wait for the last machine of their job", async () => {
    const { store } = kept;
    tracer.start();
    const trace = { ...traceOfJob(store.installationId, 1), pipelineId: null, projectId: null };
    await store.claim(aClaim({ jobId: 1, trace }));
    await store.startJob(1, aNewMachine({ id: "fr-aaaaaaaa" }));
    await store.finishJob(1, "success");
    await endJob(2);
    await eventually("the other was sent", () => jobsTold().includes(2));
    expect(jobsTold()).toEqual([2]);

    await store.stopMachine("fr-aaaaaaaa", "its job has ended");
    await store.markGone("fr-aaaaaaaa");
    await settled();

    expect([...collector.spans.values()].map(({ name }) => name)).toContain("machine.destroy");
    expect(jobsTold()).toEqual([1, 2]);
  });

  test("of many jobs are sent in requests of bounded size", async () => {
    await endJobs(100);
    tracer.start();
    await settled();

    expect(jobsTold()).toEqual(all(100));
    expect(collector.requests.length).toBeGreaterThanOrEqual(4);
    expect(Math.max(...collector.requests.map(({ body }) => body.length))).toBeLessThan(512 * 1024);
  });
});

describe("a collector", () => {
  test("that is down is asked ever less often, and gets everything when it is back", async () => {
    const { port } = collector;
    await collector[Symbol.asyncDispose]();
    await endJobs(40);
    tracer.start();
    await asleep();
    await clock.advance(SECOND_MS);
    await asleep();
    expect(await waiting()).toBe(40);

    collector = await startTraceCollector(port);
    await clock.advance(MINUTE_MS);
    await settled();

    expect(jobsTold()).toEqual(all(40));
    expect(new Set(collector.timesTaken.values())).toEqual(new Set([1]));
    expect(tracer.figures()).toMatchObject({ sent: 40, dropped: 0, problem: undefined });
    expect(log.lines).toEqual([
      said("warn", "the collector does not take traces"),
      said("info", "the collector takes traces again"),
    ]);
  });

  test.each([503, 429])("that answers %i is asked when it says, and not before", async (status) => {
    collector.faults.push({ status, headers: { "retry-after": "120" }, body: "busy" });
    await endJob(1);
    tracer.start();
    await asleep();
    await clock.advance(119 * SECOND_MS);
    await endJob(2);
    expect(collector.requests).toHaveLength(1);

    await clock.advance(2 * SECOND_MS);
    await settled();

    expect(jobsTold()).toEqual([1, 2]);
    expect(collector.requests).toHaveLength(2);
  });

  test("that is asked to be patient for a day is asked after an hour", async () => {
    collector.faults.push({ status: 503, headers: { "retry-after": "86400" } });
    await endJob(1);
    tracer.start();
    await asleep();
    await endJob(2);

    await clock.advance(HOUR_MS - 1);
    expect(collector.requests).toHaveLength(1);
    await clock.advance(1);
    await requests(2);
  });

  test.each([400, 401, 404, 307])(
    "that answers %i is not asked for the same again, which is counted",
    async (status) => {
      collector.faults.push({ status, headers: { location: "http://127.0.0.1:9/" }, body: "no such tenant" });
      await endJob(1);
      tracer.start();
      await settled();
      await endJob(2);
      await clock.advance(MINUTE_MS);
      await settled();

      expect(jobsTold()).toEqual([2]);
      expect(collector.requests).toHaveLength(2);
      expect(tracer.figures()).toMatchObject({ sent: 1, dropped: 1 });
      expect(log.lines).toContainEqual(said("warn", "traces of jobs dropped"));
      expect(log.lines.join()).toContain(`the collector answers ${status} (no such tenant)`);
    },
  );

  test("that refuses one request has time to be put right before it gets the next", async () => {
    collector.always = { status: 401 };
    await endJobs(100);
    tracer.start();
    await asleep();
    collector.always = undefined;
    await clock.advance(MINUTE_MS);
    await settled();

    expect(jobsTold()).toHaveLength(68);
    expect(tracer.figures()).toMatchObject({ sent: 68, dropped: 32 });
  });

  test("that answers 500 to one request for ever does not keep the others from it", async () => {
    collector.always = { status: 500 };
    await endJobs(33);
    tracer.start();
    while (tracer.figures().dropped === 0) {
      await asleep();
      await clock.advance(SECOND_MS);
    }
    expect(collector.requests).toHaveLength(5);
    collector.always = undefined;
    await clock.advance(MINUTE_MS);
    await settled();

    expect(jobsTold()).toEqual([33]);
    expect(tracer.figures()).toMatchObject({ sent: 1, dropped: 32 });
  });

  test("that does not take so much at once gets less", async () => {
    collector.faults.push({ status: 413 }, { status: 413 });
    await endJobs(20);
    tracer.start();
    await settled();

    expect(jobsTold()).toEqual(all(20));
    expect(tracer.figures()).toMatchObject({ sent: 20, dropped: 0 });
  });

  test.each([
    ["as text", '"2"'],
    ["as a number", "2"],
  ])("that takes a part is not sent the rest again (%s)", async (_name, rejected) => {
    const body = `{"partialSuccess":{"rejectedSpans":${rejected},"errorMessage":"too old"}}`;
    collector.faults.push({ status: 200, body });
    await endJobs(2);
    tracer.start();
    await settled();

    expect(collector.requests).toHaveLength(1);
    expect(tracer.figures()).toMatchObject({ sent: 2, rejectedSpans: 2 });
    expect(log.lines).toEqual([said("warn", "the collector of traces rejected spans")]);
    expect(log.lines.join()).toContain("too old");
  });

  test.each([
    ["nothing", ""],
    ["a page", "<html>thanks</html>"],
    ["null", '{"partialSuccess":null}'],
    ["more than anybody reads", "x".repeat(1_000_000)],
  ])("that answers 200 with %s has taken all", async (_name, body) => {
    collector.faults.push({ status: 200, body });
    await endJob(1);
    tracer.start();
    await settled();

    expect(tracer.figures()).toMatchObject({ sent: 1, rejectedSpans: 0, problem: undefined });
  });

  test.each(["cut", "taken, answer lost"] as const)(
    "whose connection breaks (%s) gets the same spans again",
    async (fault) => {
      collector.faults.push(fault);
      await endJobs(3);
      tracer.start();
      await asleep();
      await clock.advance(MINUTE_MS);
      await settled();

      expect(jobsTold()).toEqual(all(3));
      expect(collector.violations).toEqual([]);
      expect(new Set(collector.timesTaken.values())).toEqual(new Set([fault === "cut" ? 1 : 2]));
    },
  );

  test("that does not answer is given up in time", async () => {
    await sender.close();
    sender = senderTo(collector.url, 50);
    collector.faults.push("no answer");
    await endJob(1);
    tracer.start();
    await asleep();
    expect(tracer.figures().problem?.words).toContain("no answer within 50 ms (traces.timeout)");

    await sender.close();
    sender = senderTo(collector.url);
    tracer.reload();
    await settled();

    expect(jobsTold()).toEqual([1]);
  });

  test("that does not answer holds up the end for some seconds only", async () => {
    collector.faults.push("no answer");
    await endJob(1);
    tracer.start();
    await requests(1);

    const stopped = tracer.stop();
    await clock.advance(3 * SECOND_MS);
    await stopped;

    expect(await waiting()).toBe(1);
  });
});

test("what no collector has taken for too long is given up and counted", async () => {
  collector.always = { status: 503 };
  await endJobs(2);
  tracer.start();
  await asleep();
  await clock.advance(HOUR_MS + MINUTE_MS);
  await endJob(3);
  await eventually("the old ones were given up", () => tracer.figures().dropped === 2);
  collector.always = undefined;
  await clock.advance(MINUTE_MS);
  await settled();

  expect(jobsTold()).toEqual([3]);
  expect(tracer.figures()).toMatchObject({ sent: 1, dropped: 2 });
});

test("what was taken is not sent again when the store cannot note it", async () => {
  const { store } = kept;
  await tracer.stop();
  let failures = 1;
  const settleTraces: typeof store.settleTraces = async (ids) => {
    if (ids.length > 0 && failures-- > 0) throw new Error("the disk is full");
    await store.settleTraces(ids);
  };
  tracer = tracerOf({ ...store, settleTraces });
  await endJob(1);
  tracer.start();
  await eventually("it was told", () => log.lines.join().includes("traces could not be made"));
  await clock.advance(MINUTE_MS);
  await settled();

  expect(new Set(collector.timesTaken.values())).toEqual(new Set([1]));
});
