/** Jobs: whether they start, what waits and why, what fails and why. */
import { type FailureCause, failures } from "../../../domain/job-end.ts";
import type { UnservableCause } from "../../../domain/routing.ts";
import { jobResults, unfinishedJobStates } from "../../../domain/states.ts";
import type { WaitingCause } from "../../../views/figures.ts";
import { type MetricSection, oneOf, pool } from "./row.ts";

/** The bounds that GitLab itself counts waits in, and two below them. */
const queueBuckets = [0.25, 0.5, 1, 3, 10, 30, 60, 120, 300, 900, 1800, 3600];
const startBuckets = [0.1, 0.25, 0.5, 1, 1.5, 2, 3, 5, 10, 20, 30, 60];
const jobBuckets = [30, 60, 300, 600, 1800, 3600, 7200, 10800, 18000, 36000];

const jobResult = oneOf(...jobResults);
const failureReason = oneOf(...(Object.keys(failures) as FailureCause[]));
export const jobState = oneOf(...unfinishedJobStates);
/** What a job that waits waits for, from its first read in GitLab to its payload in a machine. */
export const waitingCauses = ["runner", "asked", "refused", "capacity", "machine", "images", "boot"] as const;
const waitingCause = oneOf(...(waitingCauses satisfies readonly WaitingCause[]));
export const unservableCauses = ["tags", "size", "hosts"] as const;
const unservableCause = oneOf(...(unservableCauses satisfies readonly UnservableCause[]));

export const jobs = {
  title: "Jobs",
  question: "Are jobs starting, what waits and why, what fails and why?",
  rows: {
    firerunner_jobs: {
      type: "gauge",
      help: "Jobs that were claimed from GitLab and have not ended, by state.",
      labels: { state: jobState },
    },
    firerunner_jobs_total: {
      type: "counter",
      help: "Jobs whose end GitLab has acknowledged, by pool and result.",
      labels: { pool, result: jobResult },
    },
    firerunner_job_failures_total: {
      type: "counter",
      help: "Failed jobs by what the failure is blamed on; script is the job's own.",
      labels: { reason: failureReason },
    },
    firerunner_job_retries_total: {
      type: "counter",
      help: "Machines that were lost, or not made, before they had their job's payload: the job gets another.",
      labels: {},
    },
    firerunner_jobs_waiting: {
      type: "gauge",
      help: "Jobs that wait, in GitLab or here, by what they wait for: runner (one is to be made), asked (GitLab is being asked for it), refused (GitLab's last answer was an error), capacity, machine (claimed, none yet), images, boot. Jobs of a pool with a runner token are known from their claim on.",
      labels: { cause: waitingCause },
    },
    firerunner_jobs_unservable: {
      type: "gauge",
      help: "Jobs that wait in GitLab and ask for a machine that cannot be had, by what is in the way: tags, size, hosts.",
      labels: { cause: unservableCause },
    },
    firerunner_oldest_waiting_job_seconds: {
      type: "gauge",
      help: "For how long the job has waited that has waited longest: in GitLab since it was made, or here since it was claimed; 0 when none waits. Jobs of a pool with a runner token are known from their claim on.",
      labels: {},
    },
    firerunner_job_report_failures_total: {
      type: "counter",
      help: "Reports of failed jobs that GitLab did not take; each is tried again.",
      labels: {},
    },
    firerunner_job_queue_duration_seconds: {
      type: "histogram",
      help: "How long jobs were in GitLab's queue before they were claimed, as GitLab says. Only jobs that were claimed are counted: see firerunner_oldest_waiting_job_seconds for those that are not.",
      labels: { pool },
      buckets: queueBuckets,
    },
    firerunner_job_start_duration_seconds: {
      type: "histogram",
      help: "From a job's claim until its machine has its payload, lost machines included.",
      labels: { pool },
      buckets: startBuckets,
    },
    firerunner_job_duration_seconds: {
      type: "histogram",
      help: "From the payload in the machine until GitLab has acknowledged the job's end.",
      labels: { pool },
      buckets: jobBuckets,
    },
  },
} as const satisfies MetricSection;
