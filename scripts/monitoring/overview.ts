import type { DashboardSpec, PanelSpec, Step } from "./panels.ts";
import { part, perHour, quantile, series, systemReasons } from "./series.ts";
import { instances } from "./variables.ts";

const badWhenDown: readonly Step[] = [
  { value: null, color: "red" },
  { value: 1, color: "green" },
];

const glance: readonly PanelSpec[] = [
  {
    ...{ kind: "stat", title: "Ready", width: 4, height: 4, unit: "none", steps: badWhenDown },
    description:
      "Could a job be claimed and its machine started now? Every FireRunner chosen above has to say yes.",
    words: { 0: "no", 1: "yes" },
    queries: [{ expr: `min(${series("firerunner_ready")})`, legend: "ready" }],
  },
  {
    ...{ kind: "stat", title: "GitLab", width: 4, height: 4, unit: "none", steps: badWhenDown },
    description: "Does GitLab answer? While it does not, no job is claimed, and results wait.",
    words: { 0: "away", 1: "answers" },
    queries: [{ expr: `min(${series("firerunner_gitlab_up")})`, legend: "GitLab" }],
  },
  {
    ...{ kind: "stat", title: "Running", width: 4, height: 4, unit: "none" },
    description: "Jobs whose machine has their payload.",
    queries: [{ expr: `sum(${series("firerunner_jobs", { state: "running" })})`, legend: "jobs" }],
  },
  {
    ...{ kind: "stat", title: "Waiting", width: 4, height: 4, unit: "none" },
    description: "Jobs that wait, in GitLab or here. Why is told below.",
    queries: [{ expr: `sum(${series("firerunner_jobs_waiting")})`, legend: "jobs" }],
  },
  {
    ...{ kind: "stat", title: "Oldest wait", width: 4, height: 4, unit: "s" },
    description:
      "Large while there is room: something does not start, which durations of starts do not show.",
    steps: [
      { value: null, color: "green" },
      { value: 300, color: "yellow" },
      { value: 900, color: "red" },
    ],
    queries: [{ expr: `max(${series("firerunner_oldest_waiting_job_seconds")})`, legend: "oldest" }],
  },
  {
    ...{
      kind: "stat",
      title: "Failed for no fault of their own, last hour",
      width: 4,
      height: 4,
      unit: "none",
    },
    description:
      "Jobs that failed by their machine, host, image fetch or runner. `firerunner why JOB` tells of each.",
    steps: [
      { value: null, color: "green" },
      { value: 1, color: "yellow" },
      { value: 3, color: "red" },
    ],
    decimals: 0,
    queries: [
      {
        expr: `sum(increase(${series("firerunner_job_failures_total", { reason: systemReasons })}[1h]))`,
        legend: "jobs",
      },
    ],
  },
];

const starting: readonly PanelSpec[] = [
  {
    ...{
      kind: "timeseries",
      title: "Jobs here, by state",
      width: 12,
      height: 8,
      unit: "none",
      stacked: true,
    },
    description: "Claimed jobs that have not ended. Many in `claimed` and `starting`: machines start late.",
    queries: [{ expr: `sum by (state) (${series("firerunner_jobs")})`, legend: "{{state}}" }],
  },
  {
    ...{ kind: "timeseries", title: "From claim to payload", width: 12, height: 8, unit: "s" },
    description: "How long claimed jobs take to start: half, 95 and 99 of 100 within this time.",
    queries: [0.5, 0.95, 0.99].map((share) => ({
      expr: quantile(share, "firerunner_job_start_duration_seconds"),
      legend: `p${share * 100}`,
    })),
  },
  {
    ...{ kind: "timeseries", title: "In GitLab's queue before the claim", width: 12, height: 8, unit: "s" },
    description: "Grows when there is too little room or GitLab is asked too late.",
    queries: [0.5, 0.95].map((share) => ({
      expr: quantile(share, "firerunner_job_queue_duration_seconds"),
      legend: `p${share * 100}`,
    })),
  },
  {
    ...{ kind: "timeseries", title: "Started later than 30 s after the claim", width: 12, height: 8 },
    ...{ unit: "percentunit", max: 1 },
    description:
      "The objective of FireRunnerJobStartBudgetBurn allows 1 %. Jobs that never got a machine are not in here, but in what fails.",
    queries: [
      {
        expr: `1 - sum(rate(${part("firerunner_job_start_duration_seconds", "bucket", { le: "30([.]0)?" })}[$__rate_interval])) / sum(rate(${part("firerunner_job_start_duration_seconds", "count")}[$__rate_interval]))`,
        legend: "late",
      },
    ],
  },
];

const waiting: readonly PanelSpec[] = [
  {
    ...{ kind: "timeseries", title: "What jobs wait for", width: 12, height: 8, unit: "none", stacked: true },
    description:
      "`capacity`: more room. `asked` for long: GitLab gives the job to no runner of ours. `refused`: GitLab's answers are errors. `images`: the registry. `boot`: the hosts.",
    queries: [{ expr: `sum by (cause) (${series("firerunner_jobs_waiting")})`, legend: "{{cause}}" }],
  },
  {
    ...{ kind: "timeseries", title: "Oldest waiting job", width: 6, height: 8, unit: "s" },
    description: "Comes down when the job starts, or is canceled.",
    queries: [
      {
        expr: `max by (instance) (${series("firerunner_oldest_waiting_job_seconds")})`,
        legend: "{{instance}}",
      },
    ],
  },
  {
    ...{
      kind: "timeseries",
      title: "Jobs that cannot be served",
      width: 6,
      height: 8,
      unit: "none",
      stacked: true,
    },
    description: "They will never start as they are: `firerunner status` names each with its reason.",
    queries: [{ expr: `sum by (cause) (${series("firerunner_jobs_unservable")})`, legend: "{{cause}}" }],
  },
];

const failing: readonly PanelSpec[] = [
  {
    ...{ kind: "timeseries", title: "Jobs ended, an hour", width: 8, height: 8, unit: "none", stacked: true },
    description: "By result, as GitLab has it.",
    queries: [
      { expr: `sum by (result) (${perHour(series("firerunner_jobs_total"))})`, legend: "{{result}}" },
    ],
  },
  {
    ...{
      kind: "timeseries",
      title: "Failures by what is to blame, an hour",
      width: 8,
      height: 8,
      unit: "none",
    },
    description: "`script` is the jobs' own. What the others mean is in docs/gitlab.md.",
    stacked: true,
    queries: [
      { expr: `sum by (reason) (${perHour(series("firerunner_job_failures_total"))})`, legend: "{{reason}}" },
    ],
  },
  {
    ...{ kind: "timeseries", title: "Tried again, an hour", width: 8, height: 8, unit: "none" },
    description: "Machines lost before they had their job, and reports of failures that GitLab did not take.",
    queries: [
      { expr: `sum(${perHour(series("firerunner_job_retries_total"))})`, legend: "another machine" },
      { expr: `sum(${perHour(series("firerunner_job_report_failures_total"))})`, legend: "report not taken" },
    ],
  },
];

const room: readonly PanelSpec[] = [
  ...(["vcpus", "memory_bytes", "disk_bytes", "machines"] as const).map(
    (resource): PanelSpec => ({
      ...{ kind: "bargauge", width: 6, height: 7, unit: "percentunit", max: 1 },
      title: `${{ vcpus: "vCPUs", memory_bytes: "Memory", disk_bytes: "Disk", machines: "Machines" }[resource]} taken`,
      description: "By host, of what it has for machines.",
      steps: [
        { value: null, color: "green" },
        { value: 0.75, color: "yellow" },
        { value: 0.9, color: "red" },
      ],
      queries: [
        {
          expr: `${series(`firerunner_reserved_${resource}`)} / ${series(`firerunner_capacity_${resource}`)}`,
          legend: "{{host}} of {{instance}}",
        },
      ],
    }),
  ),
  {
    ...{ kind: "timeseries", title: "Machines, by state", width: 8, height: 8, unit: "none", stacked: true },
    description:
      "All that are not gone. Many in `stopping`: hosts remove them slowly, and they take up room until then.",
    queries: [{ expr: `sum by (state) (${series("firerunner_machines")})`, legend: "{{state}}" }],
  },
  {
    ...{ kind: "timeseries", title: "Phases of machines, p95", width: 8, height: 8, unit: "s" },
    description: "Where a late start spends its time.",
    queries: [
      {
        expr: quantile(0.95, "firerunner_machine_phase_duration_seconds", { by: ["phase"] }),
        legend: "{{phase}}",
      },
    ],
  },
  {
    ...{
      kind: "timeseries",
      title: "Machines not made or not removed, an hour",
      width: 8,
      height: 8,
      unit: "none",
    },
    description: "By driver. `firerunner hosts` has the hosts' own words.",
    queries: [
      {
        expr: `sum by (driver, operation) (${perHour(series("firerunner_machine_operations_total", { result: "failure" }))})`,
        legend: "{{driver}}: {{operation}}",
      },
    ],
  },
  {
    ...{ kind: "table", title: "Pools that can start jobs", width: 24, height: 6, unit: "none" },
    description: "Pools of the configuration; `firerunner status` says what one lacks.",
    words: { 0: "no", 1: "yes" },
    queries: [{ expr: `min by (instance, pool) (${series("firerunner_pool_ready")})`, legend: "" }],
  },
];

export const overview: DashboardSpec = {
  uid: "firerunner-overview",
  title: "FireRunner",
  description: "Are jobs starting, what waits and why, what fails and why, which host is full?",
  from: "now-6h",
  variables: [instances],
  panels: [
    ...glance,
    { row: "Are jobs starting?" },
    ...starting,
    { row: "What waits, and why?" },
    ...waiting,
    { row: "What fails, and why?" },
    ...failing,
    { row: "Which host is full?" },
    ...room,
  ],
};
