import { expect, test } from "vitest";
import { endByGitLab, type FailureCause, failureReasonOf, failures, outcomeOf } from "./job-end.ts";

const causes = Object.keys(failures) as FailureCause[];

test.each<[Parameters<typeof outcomeOf>[0], string | null]>([
  [{ result: null, reason: null, cause: null }, null],
  [{ result: "success", reason: null, cause: null }, "success"],
  [{ result: "canceled", reason: "canceled in GitLab", cause: null }, "canceled"],
  [{ result: "unknown", reason: "GitLab no longer takes anything for this job", cause: null }, "unknown"],
  [{ result: "failed", reason: null, cause: "script" }, "failed"],
  [{ result: "failed", reason: null, cause: null }, "failed"],
  [{ result: "failed", reason: "time is up", cause: "time-limit" }, "failed (time limit)"],
  [{ result: "failed", reason: "crashed", cause: "machine" }, "failed (machine)"],
  [{ result: "failed", reason: "of a release before", cause: null }, "failed (machine)"],
  [{ result: "failed", reason: "full", cause: "host-disk" }, "failed (host's disk)"],
  [{ result: "failed", reason: "oom", cause: "memory" }, "failed (memory)"],
])("a job that ended %o is listed as %s", (job, word) => {
  expect(outcomeOf(job)).toBe(word);
});

test("only a machine that was to blame is named as such", () => {
  expect(causes.filter((cause) => failures[cause].label === "machine")).toEqual(["machine"]);
  expect(new Set(causes.map((cause) => failures[cause].label)).size).toBe(causes.length);
});

test("GitLab hears of a time limit as one, of a script and what it names as one, and of all else as the system's failure", () => {
  expect(failureReasonOf("time-limit")).toBe("job_execution_timeout");
  const ofTheJob: readonly FailureCause[] = ["script", "image"];
  for (const cause of ofTheJob) expect(failureReasonOf(cause)).toBe("script_failure");
  const others = causes.filter((cause) => cause !== "time-limit" && !ofTheJob.includes(cause));
  expect(new Set(others.map(failureReasonOf))).toEqual(new Set(["runner_system_failure"]));
  expect(failureReasonOf(null)).toBe("runner_system_failure");
});

test("a retry is advised only where the job was not at fault and GitLab would retry it", () => {
  const worth = causes.filter((cause) => failures[cause].isWorthRetry);

  expect(worth).not.toContain("time-limit");
  expect(worth).not.toContain("memory");
  expect(worth.every((cause) => failures[cause].failureReason === "runner_system_failure")).toBe(true);
});

test("a failure that GitLab alone decided is not blamed on the script", () => {
  expect(endByGitLab("failed")).toMatchObject({ cause: "gitlab" });
  expect(endByGitLab("success")).toEqual({});
});
