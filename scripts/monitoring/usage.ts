import type { DashboardSpec, PanelSpec, VariableSpec } from "./panels.ts";
import { quantile, series } from "./series.ts";
import { instances, pools } from "./variables.ts";

/** Nothing is shown in money until somebody has said what an hour costs. */
const prices: readonly VariableSpec[] = [
  { name: "vcpu_hour_price", label: "Price of a vCPU hour", text: "0" },
  { name: "gib_hour_price", label: "Price of a GiB hour", text: "0" },
];

const ofPool = { pool: "$pool" } as const;
const GIB_SECONDS_PER_HOUR = "1073741824 / 3600";

function vcpuHours(range: string): string {
  return `sum by (pool) (increase(${series("firerunner_machine_vcpu_seconds_total", ofPool)}[${range}])) / 3600`;
}

function gibHours(range: string): string {
  return `sum by (pool) (increase(${series("firerunner_machine_memory_byte_seconds_total", ofPool)}[${range}])) / ${GIB_SECONDS_PER_HOUR}`;
}

function cost(range: string): string {
  return `(${vcpuHours(range)} * $vcpu_hour_price + ${gibHours(range)} * $gib_hour_price) > 0`;
}

const inRange: readonly PanelSpec[] = [
  {
    ...{ kind: "bargauge", title: "vCPU hours", width: 8, height: 9, unit: "hours" },
    description: "Of machines while they were there, in the time range chosen, by pool.",
    queries: [{ expr: vcpuHours("$__range"), legend: "{{pool}}" }],
  },
  {
    ...{ kind: "bargauge", title: "GiB hours", width: 8, height: 9, unit: "gibHours" },
    description: "Memory of machines while they were there, in the time range chosen, by pool.",
    queries: [{ expr: gibHours("$__range"), legend: "{{pool}}" }],
  },
  {
    ...{ kind: "bargauge", title: "Cost", width: 8, height: 9, unit: "money" },
    description:
      "In the currency of the prices above; empty until a price is given. By what machines took up, whether their jobs used it or not.",
    queries: [{ expr: cost("$__range"), legend: "{{pool}}" }],
  },
  {
    ...{ kind: "bargauge", title: "Jobs", width: 8, height: 9, unit: "none", decimals: 0 },
    description: "That ended in the time range chosen, by pool.",
    queries: [
      {
        expr: `sum by (pool) (increase(${series("firerunner_jobs_total", ofPool)}[$__range]))`,
        legend: "{{pool}}",
      },
    ],
  },
  {
    ...{ kind: "bargauge", title: "Failed jobs", width: 8, height: 9, unit: "percentunit", max: 1 },
    description: "Share of the pool's jobs, whatever the failure is blamed on.",
    queries: [
      {
        expr: `sum by (pool) (increase(${series("firerunner_jobs_total", { ...ofPool, result: "failed" })}[$__range])) / sum by (pool) (increase(${series("firerunner_jobs_total", ofPool)}[$__range]))`,
        legend: "{{pool}}",
      },
    ],
  },
  {
    ...{ kind: "bargauge", title: "vCPUs in use, mean", width: 8, height: 9, unit: "cores" },
    description:
      "How many a pool has taken at one time, over the time range chosen: what it would cost to keep for it alone.",
    queries: [
      {
        expr: `sum by (pool) (rate(${series("firerunner_machine_vcpu_seconds_total", ofPool)}[$__range]))`,
        legend: "{{pool}}",
      },
    ],
  },
];

const overTime: readonly PanelSpec[] = [
  {
    ...{
      kind: "timeseries",
      title: "vCPU hours, each hour",
      width: 12,
      height: 8,
      unit: "hours",
      stacked: true,
    },
    description: "At each point those of the hour before it.",
    queries: [{ expr: vcpuHours("1h"), legend: "{{pool}}" }],
  },
  {
    ...{
      kind: "timeseries",
      title: "GiB hours, each hour",
      width: 12,
      height: 8,
      unit: "gibHours",
      stacked: true,
    },
    description: "At each point those of the hour before it.",
    queries: [{ expr: gibHours("1h"), legend: "{{pool}}" }],
  },
  {
    ...{ kind: "timeseries", title: "Cost, each hour", width: 12, height: 8, unit: "money", stacked: true },
    description: "At each point that of the hour before it; empty until a price is given.",
    queries: [{ expr: cost("1h"), legend: "{{pool}}" }],
  },
  {
    ...{ kind: "timeseries", title: "Duration of jobs", width: 12, height: 8, unit: "s" },
    description: "From the payload in the machine to the job's end: half, and 95 of 100, within this time.",
    queries: [0.5, 0.95].map((share) => ({
      expr: quantile(share, "firerunner_job_duration_seconds", { by: ["pool"], labels: ofPool }),
      legend: `{{pool}} p${share * 100}`,
    })),
  },
];

export const usage: DashboardSpec = {
  uid: "firerunner-usage",
  title: "FireRunner usage",
  description: "What each pool takes, in vCPU and GiB hours, and what that costs where a price is given.",
  from: "now-7d",
  variables: [instances, pools, ...prices],
  panels: [{ row: "In the time range chosen" }, ...inRange, { row: "Over time" }, ...overTime],
};
