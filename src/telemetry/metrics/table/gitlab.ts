/** GitLab, webhooks and runners of jobs by tag. */
import { liveRunnerStates } from "../../../domain/states.ts";
import { type MetricSection, oneOf } from "./row.ts";

/** What is asked of GitLab, by its path; `git` is all of a guest's git. */
export const gitLabEndpoint = oneOf(
  "jobs_request",
  "job_update",
  "job_trace",
  "job_artifacts",
  "runner_verify",
  "projects",
  "project_jobs",
  "runners",
  "hooks",
  "token",
  "git",
);
/** GitLab's statuses; `none`: no answer came. Others stand as `other`. */
export const httpStatus = oneOf(
  ...["200", "201", "202", "204", "206", "301", "302", "304", "307", "308", "400", "401", "403", "404"],
  ...["405", "409", "410", "413", "416", "422", "429", "500", "501", "502", "503", "504", "none"],
);
const webhookOutcome = oneOf("taken", "duplicate", "unreadable", "failed", "refused");
const runnerState = oneOf(...liveRunnerStates);

export const gitLab = {
  title: "GitLab and webhooks",
  question: "Does GitLab answer, do its webhooks arrive, and which tokens and certificates end soon?",
  rows: {
    firerunner_gitlab_up: {
      type: "gauge",
      help: "Whether GitLab answers, 1 or 0, as heard in all that is asked of it.",
      labels: {},
    },
    firerunner_gitlab_requests_total: {
      type: "counter",
      help: "Requests to GitLab, those of guests included, by what was asked and by the status of the answer.",
      labels: { endpoint: gitLabEndpoint, status: httpStatus },
    },
    firerunner_gitlab_rate_limit_remaining: {
      type: "gauge",
      help: "Requests left of the API's rate limit as of the last answer; missing where GitLab does not say.",
      labels: {},
    },
    firerunner_gitlab_rate_limit: {
      type: "gauge",
      help: "Requests that the API's rate limit allows in its window; missing where GitLab does not say.",
      labels: {},
    },
    firerunner_api_token_expiry_timestamp_seconds: {
      type: "gauge",
      help: "When the API token ends; missing for a token without an end, and before it was read.",
      labels: {},
    },
    firerunner_tls_expiry_timestamp_seconds: {
      type: "gauge",
      help: "When the certificate in use ends, by the listener that shows it: http (the public server), metrics, relay (to machines on other hosts); missing where none is used.",
      labels: { listener: oneOf("http", "metrics", "relay") },
    },
    firerunner_webhook_deliveries_total: {
      type: "counter",
      mirrored: true,
      help: "Webhook requests: taken, of those duplicate and unreadable, failed (answered 503), refused.",
      labels: { outcome: webhookOutcome },
    },
    firerunner_webhook_last_delivery_timestamp_seconds: {
      type: "gauge",
      help: "When the last authentic webhook request came; missing before the first.",
      labels: {},
    },
    firerunner_webhook_missed_total: {
      type: "counter",
      mirrored: true,
      help: "Waiting jobs that were found by looking where a webhook should have told of them.",
      labels: {},
    },
    firerunner_hook_disabled: {
      type: "gauge",
      help: "Webhooks in GitLab that lead here and do not work: switched off by GitLab, or without job events.",
      labels: {},
    },
    firerunner_gitlab_runners: {
      type: "gauge",
      help: "Runners in GitLab that were made for jobs by tag, by state.",
      labels: { state: runnerState },
    },
    firerunner_projects_watched: {
      type: "gauge",
      help: "Projects of GitLab whose waiting jobs are looked for.",
      labels: {},
    },
    firerunner_projects_due: {
      type: "gauge",
      help: "Projects of which a webhook told news that was not read yet.",
      labels: {},
    },
  },
} as const satisfies MetricSection;
