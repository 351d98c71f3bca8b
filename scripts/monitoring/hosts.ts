import type { DashboardSpec, PanelSpec } from "./panels.ts";
import { type MetricName, perHour, series } from "./series.ts";
import { hosts as hostVariable, instances } from "./variables.ts";

const ofHost = { host: "$host" } as const;

const states: readonly PanelSpec[] = [
  {
    ...{ kind: "table", title: "Answers and starts machines", width: 12, height: 7, unit: "none" },
    description: "`firerunner hosts` says why one does not, and what to do.",
    words: { 0: "no", 1: "yes" },
    queries: [{ expr: `min by (instance, host) (${series("firerunner_host_up", ofHost)})`, legend: "" }],
  },
  {
    ...{ kind: "table", title: "Drained", width: 12, height: 7, unit: "none" },
    description: "Somebody wants nothing new there: `firerunner hosts resume HOST` ends that.",
    words: { 0: "no", 1: "yes" },
    queries: [{ expr: `max by (instance, host) (${series("firerunner_host_drained", ofHost)})`, legend: "" }],
  },
];

const taken: readonly PanelSpec[] = (
  [
    ["vCPUs", "vcpus", "cores"],
    ["Memory", "memory_bytes", "bytes"],
    ["Disk", "disk_bytes", "bytes"],
    ["Machines", "machines", "none"],
  ] as const
).map(([title, resource, unit]) => ({
  ...{ kind: "timeseries", title: `${title}: taken and there`, width: 12, height: 8, unit },
  description: "Where both lines meet the host is full.",
  queries: [
    {
      expr: series(`firerunner_reserved_${resource}`, ofHost),
      legend: "{{host}} of {{instance}} taken",
    },
    {
      expr: series(`firerunner_capacity_${resource}`, ofHost),
      legend: "{{host}} of {{instance}} there",
    },
  ],
}));

const computer: readonly PanelSpec[] = [
  {
    ...{ kind: "timeseries", title: "Pressure", width: 12, height: 8, unit: "percentunit", max: 1 },
    description:
      "Share of time in which processes of the computer that FireRunner runs on waited for CPU, memory or disk. Hosts of a fleet do not tell.",
    queries: [
      {
        expr: `max by (instance, resource, kind) (rate(${series("firerunner_local_pressure_seconds_total")}[$__rate_interval]))`,
        legend: "{{instance}} {{resource}}: {{kind}}",
      },
    ],
  },
  {
    ...{ kind: "timeseries", title: "Memory of the computer", width: 12, height: 8, unit: "bytes" },
    description: "Of the computer that FireRunner runs on.",
    queries: [
      { expr: series("firerunner_local_memory_available_bytes"), legend: "{{instance}} available" },
      { expr: series("firerunner_local_memory_bytes"), legend: "{{instance}} in all" },
    ],
  },
  {
    ...{
      kind: "timeseries",
      title: "Killed for want of memory, an hour",
      width: 12,
      height: 8,
      unit: "none",
    },
    description: "By the computer's kernel (a machine may be among them), and by kernels within machines.",
    queries: [
      { expr: `sum(${perHour(series("firerunner_local_oom_kills_total"))})`, legend: "processes here" },
      {
        expr: `sum(${perHour(series("firerunner_guest_oom_kills_total"))})`,
        legend: "processes in machines",
      },
      {
        expr: `sum(${perHour(series("firerunner_machines_out_of_memory_total"))})`,
        legend: "machines concerned",
      },
    ],
  },
  {
    ...{ kind: "timeseries", title: "Volume of the state directory", width: 12, height: 8, unit: "bytes" },
    description: "What is free, and what caches take up and would give way.",
    queries: (
      [
        ["free", "firerunner_state_disk_free_bytes"],
        ["in all", "firerunner_state_disk_size_bytes"],
        ["images of jobs", "firerunner_image_cache_used_bytes"],
        ["images of jobs that give way", "firerunner_image_cache_evictable_bytes"],
        ["caches of jobs", "firerunner_cache_used_bytes"],
        ["caches of jobs that give way", "firerunner_cache_evictable_bytes"],
      ] as const satisfies readonly (readonly [string, MetricName])[]
    ).map(([legend, metric]) => ({
      expr: `sum by (instance) (${series(metric)})`,
      legend: `{{instance}} ${legend}`,
    })),
  },
];

const itself: readonly PanelSpec[] = [
  {
    ...{ kind: "timeseries", title: "CPU of FireRunner", width: 8, height: 8, unit: "cores" },
    description: "Near one: it has as much to do as it can. Machines are processes of their own.",
    queries: [
      { expr: `rate(${series("process_cpu_seconds_total")}[$__rate_interval])`, legend: "{{instance}}" },
    ],
  },
  {
    ...{ kind: "timeseries", title: "Lateness of the event loop", width: 8, height: 8, unit: "s" },
    description: "Everything that FireRunner does waits so long at worst.",
    queries: [{ expr: series("firerunner_event_loop_lag_seconds"), legend: "{{instance}} {{statistic}}" }],
  },
  {
    ...{ kind: "timeseries", title: "Memory of FireRunner", width: 8, height: 8, unit: "bytes" },
    description: "Grows with the number of jobs and comes down with it; anything else is a leak.",
    queries: [
      { expr: series("process_resident_memory_bytes"), legend: "{{instance}} resident" },
      { expr: series("process_virtual_memory_bytes"), legend: "{{instance}} virtual" },
      { expr: series("firerunner_heap_used_bytes"), legend: "{{instance}} heap" },
      { expr: series("firerunner_heap_limit_bytes"), legend: "{{instance}} heap's limit" },
    ],
  },
  {
    ...{ kind: "timeseries", title: "File descriptors", width: 8, height: 8, unit: "percentunit", max: 1 },
    description: "Of those that FireRunner may open.",
    queries: [
      {
        expr: `${series("process_open_fds")} / ${series("process_max_fds")}`,
        legend: "{{instance}}",
      },
    ],
  },
  {
    ...{
      kind: "timeseries",
      title: "What goes wrong, and is tried again",
      width: 8,
      height: 8,
      unit: "none",
    },
    description:
      "Tasks that failed and wait to be tried again; an hour: changes of the store that failed, machines that nobody knew.",
    queries: [
      { expr: `sum(${series("firerunner_failing_tasks")})`, legend: "tasks" },
      { expr: `sum(${perHour(series("firerunner_store_write_errors_total"))})`, legend: "store, an hour" },
      {
        expr: `sum(${perHour(series("firerunner_orphan_machines_total"))})`,
        legend: "unknown machines, an hour",
      },
    ],
  },
  {
    ...{ kind: "table", title: "Which FireRunner runs", width: 8, height: 8, unit: "none" },
    description: "Version of each, and of its Node.",
    queries: [
      { expr: `max by (instance, version, node_version) (${series("firerunner_build_info")})`, legend: "" },
    ],
  },
  {
    ...{ kind: "stat", title: "Running for", width: 12, height: 4, unit: "s" },
    description: "A time that begins anew again and again: it is restarted.",
    queries: [{ expr: `time() - ${series("process_start_time_seconds")}`, legend: "{{instance}}" }],
  },
  {
    ...{ kind: "stat", title: "Draining", width: 12, height: 4, unit: "none" },
    description:
      "No new jobs are taken: somebody has drained it (`firerunner drain --undo` ends that), or it ends.",
    words: { 0: "no", 1: "yes" },
    queries: [{ expr: series("firerunner_draining"), legend: "{{instance}}" }],
  },
];

export const hosts: DashboardSpec = {
  uid: "firerunner-hosts",
  title: "FireRunner hosts",
  description: "What is taken on each host, how the computer of FireRunner is, and FireRunner itself.",
  from: "now-24h",
  variables: [instances, hostVariable],
  panels: [
    { row: "Hosts" },
    ...states,
    ...taken,
    { row: "The computer that FireRunner runs on" },
    ...computer,
    { row: "FireRunner itself" },
    ...itself,
  ],
};
