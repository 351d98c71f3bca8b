/** Series that dashboards made for GitLab's own runner read; given where `metrics.compatibility` asks for them. */
import { gitLabEndpoint, httpStatus } from "./gitlab.ts";
import { jobState } from "./jobs.ts";
import { type MetricSection, ofProcess, oneOf, pool } from "./row.ts";

/** As GitLab's runner names them. */
const compatibleFailure = oneOf("script_failure", "job_execution_timeout", "runner_system_failure");

export const compatibility = {
  title: "As GitLab's own runner names them",
  question:
    "What do dashboards show that were made for gitlab-runner? (`metrics.compatibility: gitlab-runner`)",
  rows: {
    gitlab_runner_jobs: {
      type: "gauge",
      help: "Jobs that were claimed and have not ended.",
      labels: { runner: pool, state: jobState },
    },
    gitlab_runner_jobs_total: { type: "counter", help: "Jobs that have ended.", labels: { runner: pool } },
    gitlab_runner_failed_jobs_total: {
      type: "counter",
      help: "Jobs that failed, by GitLab's reason.",
      labels: { runner: pool, failure_reason: compatibleFailure },
    },
    gitlab_runner_job_duration_seconds: {
      type: "histogram",
      help: "How long jobs ran.",
      labels: { runner: pool },
      buckets: [30, 60, 300, 600, 1800, 3600, 7200, 10800, 18000, 36000],
    },
    gitlab_runner_job_queue_duration_seconds: {
      type: "histogram",
      help: "How long jobs were in GitLab's queue before they were claimed.",
      labels: { runner: pool },
      buckets: [1, 3, 10, 30, 60, 120, 300, 900, 1800, 3600],
    },
    gitlab_runner_concurrent: {
      type: "gauge",
      help: "Machines that all hosts may run at one time, of hosts that have told.",
      labels: {},
    },
    gitlab_runner_api_request_statuses_total: {
      type: "counter",
      help: "Requests to GitLab by endpoint and status.",
      labels: { endpoint: gitLabEndpoint, status: httpStatus },
    },
    gitlab_runner_version_info: {
      type: "gauge",
      help: "Always 1; which FireRunner runs.",
      labels: { name: oneOf("firerunner"), version: ofProcess() },
    },
  },
} as const satisfies MetricSection;
