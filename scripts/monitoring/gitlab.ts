import type { DashboardSpec, PanelSpec, Step } from "./panels.ts";
import { perHour, series } from "./series.ts";
import { instances } from "./variables.ts";

const DAY_S = 86_400;
const badWhenSoon: readonly Step[] = [
  { value: null, color: "red" },
  { value: 3 * DAY_S, color: "yellow" },
  { value: 14 * DAY_S, color: "green" },
];

const gitLab: readonly PanelSpec[] = [
  {
    ...{ kind: "timeseries", title: "GitLab answers", width: 8, height: 8, unit: "none", max: 1 },
    description: "1 or 0, as heard in all that is asked of it.",
    queries: [{ expr: `min by (instance) (${series("firerunner_gitlab_up")})`, legend: "{{instance}}" }],
  },
  {
    ...{
      kind: "timeseries",
      title: "Requests, by what is asked",
      width: 8,
      height: 8,
      unit: "ops",
      stacked: true,
    },
    description: "FireRunner's own and its guests'.",
    queries: [
      {
        expr: `sum by (endpoint) (rate(${series("firerunner_gitlab_requests_total")}[$__rate_interval]))`,
        legend: "{{endpoint}}",
      },
    ],
  },
  {
    ...{ kind: "timeseries", title: "Requests, by answer", width: 8, height: 8, unit: "ops", stacked: true },
    description: "`none`: no answer came. 429: GitLab limits us. 5xx: GitLab is in trouble.",
    queries: [
      {
        expr: `sum by (status) (rate(${series("firerunner_gitlab_requests_total")}[$__rate_interval]))`,
        legend: "{{status}}",
      },
    ],
  },
  {
    ...{ kind: "timeseries", title: "Rate limit left", width: 8, height: 8, unit: "none" },
    description: "Of the API, as of the last answer; nothing where GitLab tells no limit.",
    queries: [
      { expr: series("firerunner_gitlab_rate_limit_remaining"), legend: "{{instance}} left" },
      { expr: series("firerunner_gitlab_rate_limit"), legend: "{{instance}} in a window" },
    ],
  },
  {
    ...{ kind: "stat", title: "API token ends in", width: 8, height: 8, unit: "s", steps: badWhenSoon },
    description: "Nothing for a token without an end.",
    queries: [
      {
        expr: `min by (instance) (${series("firerunner_api_token_expiry_timestamp_seconds")}) - time()`,
        legend: "{{instance}}",
      },
    ],
  },
  {
    ...{ kind: "stat", title: "Certificates end in", width: 8, height: 8, unit: "s", steps: badWhenSoon },
    description: "Of the public server and of the metrics; nothing where they have none.",
    queries: [
      {
        expr: `min by (instance, listener) (${series("firerunner_tls_expiry_timestamp_seconds")}) - time()`,
        legend: "{{instance}} {{listener}}",
      },
    ],
  },
];

const webhooks: readonly PanelSpec[] = [
  {
    ...{ kind: "timeseries", title: "Webhooks, an hour", width: 8, height: 8, unit: "none", stacked: true },
    description: "`refused`: a wrong key or a strange address. `failed`: we could not store it.",
    queries: [
      {
        expr: `sum by (outcome) (${perHour(series("firerunner_webhook_deliveries_total"))})`,
        legend: "{{outcome}}",
      },
    ],
  },
  {
    ...{ kind: "stat", title: "Last webhook", width: 8, height: 4, unit: "s" },
    description: "Time since the last authentic one.",
    queries: [
      {
        expr: `time() - max by (instance) (${series("firerunner_webhook_last_delivery_timestamp_seconds")})`,
        legend: "{{instance}}",
      },
    ],
  },
  {
    ...{ kind: "stat", title: "Hooks that do not work", width: 8, height: 4, unit: "none" },
    description: "Switched off by GitLab, or without job events: `firerunner webhook status`.",
    steps: [
      { value: null, color: "green" },
      { value: 1, color: "red" },
    ],
    queries: [{ expr: `sum(${series("firerunner_hook_disabled")})`, legend: "hooks" }],
  },
  {
    ...{ kind: "timeseries", title: "Missed by webhooks, an hour", width: 8, height: 8, unit: "none" },
    description: "Waiting jobs that were found by looking.",
    queries: [{ expr: `sum(${perHour(series("firerunner_webhook_missed_total"))})`, legend: "jobs" }],
  },
  {
    ...{
      kind: "timeseries",
      title: "Runners made for tags",
      width: 8,
      height: 8,
      unit: "none",
      stacked: true,
    },
    description: "In GitLab, by state. Many in `creating`: GitLab refuses them.",
    queries: [{ expr: `sum by (state) (${series("firerunner_gitlab_runners")})`, legend: "{{state}}" }],
  },
  {
    ...{ kind: "timeseries", title: "Projects", width: 8, height: 8, unit: "none" },
    description: "`due` that does not come down: GitLab's API is slow, or its limit is used up.",
    queries: [
      { expr: `sum(${series("firerunner_projects_watched")})`, legend: "watched" },
      { expr: `sum(${series("firerunner_projects_due")})`, legend: "due" },
    ],
  },
];

const guests: readonly PanelSpec[] = [
  {
    ...{ kind: "timeseries", title: "Ways out, an hour", width: 12, height: 8, unit: "none", stacked: true },
    description: "What machines reached or did not. `refused`: their pool does not let them.",
    queries: [
      { expr: `sum by (outcome) (${perHour(series("firerunner_egress_total"))})`, legend: "{{outcome}}" },
    ],
  },
  {
    ...{ kind: "timeseries", title: "Rules that guests broke, an hour", width: 12, height: 8, unit: "none" },
    description:
      "Of the relay. More than a few: a job attacks it, or its limits are too narrow for what it does.",
    stacked: true,
    queries: [
      { expr: `sum by (rule) (${perHour(series("firerunner_guest_refusals_total"))})`, legend: "{{rule}}" },
    ],
  },
  {
    ...{ kind: "timeseries", title: "Requests for caches, an hour", width: 12, height: 8, unit: "none" },
    description: "Caches that jobs fetched, missed and stored. Many misses: keys change with every pipeline.",
    stacked: true,
    queries: [
      {
        expr: `sum by (operation, result) (${perHour(series("firerunner_cache_requests_total"))})`,
        legend: "{{operation}} {{result}}",
      },
    ],
  },
  {
    ...{ kind: "timeseries", title: "Held by the relay", width: 6, height: 8, unit: "bytes" },
    description: "Of requests that are under way. At the bound (relay.heldInAll) guests are told to wait.",
    queries: [
      { expr: `sum by (instance) (${series("firerunner_relay_held_bytes")})`, legend: "{{instance}}" },
    ],
  },
  {
    ...{ kind: "timeseries", title: "Machines at the relay", width: 6, height: 8, unit: "none" },
    description: "Machines that may speak to it now.",
    queries: [{ expr: `sum by (instance) (${series("firerunner_relay_machines")})`, legend: "{{instance}}" }],
  },
];

export const gitLabAndWebhooks: DashboardSpec = {
  uid: "firerunner-gitlab",
  title: "FireRunner and GitLab",
  description: "Does GitLab answer, do its webhooks arrive, what ends soon, and what do guests reach?",
  from: "now-6h",
  variables: [instances],
  panels: [
    { row: "GitLab" },
    ...gitLab,
    { row: "Webhooks and jobs by tag" },
    ...webhooks,
    { row: "Guests" },
    ...guests,
  ],
};
