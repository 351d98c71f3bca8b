/** FireRunner itself, and the computer it runs on. */
import { type MetricSection, ofProcess, oneOf } from "./row.ts";

const pressureResource = oneOf("cpu", "memory", "io");
const pressureKind = oneOf("some", "full");
/** As Node calls them, over the last 15 seconds. */
const lagStatistic = oneOf("mean", "p99", "max");

export const firerunner = {
  title: "FireRunner itself",
  question: "Is FireRunner well, and does it keep up?",
  rows: {
    firerunner_build_info: {
      type: "gauge",
      help: "Always 1; which FireRunner and which Node run.",
      labels: {
        version: ofProcess(),
        node_version: ofProcess(),
      },
    },
    firerunner_ready: {
      type: "gauge",
      help: "Whether a job could be claimed and its machine started now, 1 or 0, as /readyz says.",
      labels: {},
    },
    firerunner_draining: {
      type: "gauge",
      help: "Whether no new jobs are taken because somebody wants it so, or FireRunner ends, 1 or 0.",
      labels: {},
    },
    firerunner_store_write_errors_total: {
      type: "counter",
      help: "Changes of the store that failed: disk full, database busy or damaged.",
      labels: {},
    },
    firerunner_state_disk_free_bytes: {
      type: "gauge",
      help: "What FireRunner may still write on the volume of its state directory, before caches give way.",
      labels: {},
    },
    firerunner_state_disk_size_bytes: {
      type: "gauge",
      help: "Size of the volume of the state directory.",
      labels: {},
    },
    firerunner_event_loop_lag_seconds: {
      type: "gauge",
      help: "By how much Node's event loop was late, over the last 15 seconds.",
      labels: { statistic: lagStatistic },
    },
    firerunner_heap_used_bytes: {
      type: "gauge",
      help: "Memory that JavaScript objects of FireRunner take up.",
      labels: {},
    },
    firerunner_heap_limit_bytes: {
      type: "gauge",
      help: "Up to where that memory may grow; beyond it Node ends the process.",
      labels: {},
    },
    process_cpu_seconds_total: {
      type: "counter",
      mirrored: true,
      help: "Time on CPUs, in user and system mode; machines are processes of their own.",
      labels: {},
    },
    process_resident_memory_bytes: { type: "gauge", help: "Resident memory.", labels: {} },
    process_virtual_memory_bytes: { type: "gauge", help: "Virtual memory.", labels: {} },
    process_open_fds: { type: "gauge", help: "Open file descriptors.", labels: {} },
    process_max_fds: { type: "gauge", help: "The most file descriptors that may be open.", labels: {} },
    process_start_time_seconds: {
      type: "gauge",
      help: "When the process began, in seconds since 1970.",
      labels: {},
    },
  },
} as const satisfies MetricSection;

export const computer = {
  title: "This computer",
  question: "Is the computer on which FireRunner runs short of CPU, memory or disk?",
  rows: {
    firerunner_local_pressure_seconds_total: {
      type: "counter",
      mirrored: true,
      help: "For how long tasks of this computer waited for a resource: some of them, or all at once (full). The kernel's pressure stall information; missing where the kernel gives none, and for hosts of other drivers, which do not tell.",
      labels: { resource: pressureResource, kind: pressureKind },
    },
    firerunner_local_memory_bytes: { type: "gauge", help: "Memory of this computer.", labels: {} },
    firerunner_local_memory_available_bytes: {
      type: "gauge",
      help: "Memory of this computer that could be given to processes without swapping.",
      labels: {},
    },
    firerunner_local_oom_kills_total: {
      type: "counter",
      mirrored: true,
      help: "Processes that this computer's kernel killed for want of memory, since it booted; machines are processes.",
      labels: {},
    },
  },
} as const satisfies MetricSection;
