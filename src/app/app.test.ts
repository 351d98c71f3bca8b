import { expect, test } from "vitest";
import { createRecordingLog } from "../../test/builders/recording-log.ts";
import { createManualClock } from "../base/manual-clock.ts";
import { ShutdownConfig } from "../scheduler/config.ts";
import type { SchedulerStatus } from "../scheduler/status.ts";
import { stopWork } from "./app.ts";

/** Open requests end when the test says so; the scheduler writes down what it is told. */
function aProgram({ polls = 0, jobs = 0 } = {}) {
  const clock = createManualClock();
  const { log, lines } = createRecordingLog();
  const answered = Promise.withResolvers<void>();
  const did: string[] = [];
  const status = { unfinishedJobs: jobs } as SchedulerStatus;
  let open = polls;
  const stop = (hurry = new AbortController().signal) =>
    stopWork(
      {
        claimer: { stop: () => (polls === 0 ? Promise.resolve() : answered.promise), openPolls: () => open },
        scheduler: {
          drain: () => void did.push("drain"),
          shutDown: async (_hurry, sinceMs) => void did.push(`shut down after ${sinceMs} ms`),
          status: () => status,
        },
        others: () => undefined,
        limits: ShutdownConfig.parse({ pollLimit: "20s" }),
        ...{ clock, log },
      },
      hurry,
    );
  const answer = () => {
    open = 0;
    answered.resolve();
  };
  return { clock, lines, did, stop, answer };
}

test("says at once what it waits for, and takes GitLab's answers", async () => {
  const { clock, lines, did, stop, answer } = aProgram({ polls: 2, jobs: 1 });
  const stopped = stop();

  expect(did).toEqual(["drain"]);
  expect(lines.join("\n")).toMatch(/2 requests for jobs are open.*at most 20.*shutdown.pollLimit/);
  expect(lines.join("\n")).toMatch(/waiting for 1 unfinished job for at most 10.*shutdown.drainLimit/);
  await clock.advance(8_000);
  answer();
  await stopped;

  expect(did).toEqual(["drain", "shut down after 8000 ms"]);
  expect(lines.filter((line) => line.startsWith("warn"))).toEqual([]);
});

test("waits no longer than the limit, and says what may be lost", async () => {
  const { clock, lines, did, stop } = aProgram({ polls: 1 });
  const stopped = stop();
  await clock.advance(19_999);
  expect(did).toEqual(["drain"]);
  await clock.advance(1);
  await stopped;

  expect(did).toEqual(["drain", "shut down after 20000 ms"]);
  expect(lines.at(-1)).toMatch(
    /^warn 1 request for jobs is given up before GitLab's answer: a job .* is lost/,
  );
});

test("leaves at a second signal, and is silent when there is nothing to wait for", async () => {
  const hurried = aProgram({ polls: 1 });
  const hurry = new AbortController();
  const stopped = hurried.stop(hurry.signal);
  hurry.abort();
  await stopped;
  const idle = aProgram();
  await idle.stop();

  expect(hurried.did).toEqual(["drain", "shut down after 0 ms"]);
  expect(hurried.lines.at(-1)).toContain("is lost");
  expect(idle.lines).toEqual([]);
});
