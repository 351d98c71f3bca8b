/** Machines, pools and hosts: what is there, what is taken, which host is full. */
import { occupyingMachineStates } from "../../../domain/states.ts";
import { driver, host, type MetricSection, oneOf, pool } from "./row.ts";

const machineState = oneOf(...occupyingMachineStates);
const machinePhase = oneOf("images", "create", "boot", "ready", "hand_over", "cleanup");

const phaseBuckets = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

export const machines = {
  title: "Machines and hosts",
  question: "Which host is full or away, and do machines start and go?",
  rows: {
    firerunner_machines: {
      type: "gauge",
      help: "Machines that are not gone, by driver and state.",
      labels: { driver, state: machineState },
    },
    firerunner_machine_operations_total: {
      type: "counter",
      help: "Machines that drivers were asked to make or to remove, by how that ended.",
      labels: { driver, operation: oneOf("create", "destroy"), result: oneOf("success", "failure") },
    },
    firerunner_machine_phase_duration_seconds: {
      type: "histogram",
      help: "The phases of machines whose jobs have ended: images (of the job, fetched), create (until the hypervisor runs, images included), boot (until the guest speaks), ready (until its runner asks), hand_over, cleanup.",
      labels: { driver, phase: machinePhase },
      buckets: phaseBuckets,
    },
    firerunner_machines_out_of_memory_total: {
      type: "counter",
      help: "Machines in which the guest's own kernel killed processes of a failed script for want of memory.",
      labels: {},
    },
    firerunner_guest_oom_kills_total: {
      type: "counter",
      help: "Processes that guests' kernels killed for want of memory, as guests tell of failed scripts.",
      labels: {},
    },
    firerunner_orphan_machines_total: {
      type: "counter",
      help: "Machines that a host ran and FireRunner did not know; they are destroyed.",
      labels: {},
    },
    firerunner_failing_tasks: {
      type: "gauge",
      help: "What failed and will be tried again: machines to be made or removed, reports, looks at hosts.",
      labels: {},
    },
    firerunner_machine_vcpu_seconds_total: {
      type: "counter",
      help: "Virtual CPUs of machines times the seconds that they were there, by pool: an hour of two CPUs is 7200.",
      labels: { pool },
    },
    firerunner_machine_memory_byte_seconds_total: {
      type: "counter",
      help: "Memory of machines times the seconds that they were there, by pool.",
      labels: { pool },
    },
    firerunner_pool_ready: {
      type: "gauge",
      help: "Whether a job of the pool could be claimed and its machine started now, 1 or 0. Pools of the configuration.",
      labels: { pool },
    },
    firerunner_host_up: {
      type: "gauge",
      help: "Whether the host answers and new machines are started there, 1 or 0; draining aside.",
      labels: { host },
    },
    firerunner_host_drained: {
      type: "gauge",
      help: "Whether somebody wants nothing new on the host, 1 or 0.",
      labels: { host },
    },
    firerunner_capacity_vcpus: {
      type: "gauge",
      help: "Virtual CPUs that the host has for machines, overcommitment included; missing while it is not known.",
      labels: { host },
    },
    firerunner_capacity_memory_bytes: {
      type: "gauge",
      help: "Memory that the host has for machines; missing while it is not known.",
      labels: { host },
    },
    firerunner_capacity_disk_bytes: {
      type: "gauge",
      help: "Disk that the host has for machines; missing where disk is no limit.",
      labels: { host },
    },
    firerunner_capacity_machines: {
      type: "gauge",
      help: "Machines that the host may run at one time; missing while it is not known.",
      labels: { host },
    },
    firerunner_reserved_vcpus: {
      type: "gauge",
      help: "Virtual CPUs that machines have.",
      labels: { host },
    },
    firerunner_reserved_memory_bytes: {
      type: "gauge",
      help: "Memory that machines have.",
      labels: { host },
    },
    firerunner_reserved_disk_bytes: {
      type: "gauge",
      help: "Disks that machines have, each counted whole.",
      labels: { host },
    },
    firerunner_reserved_machines: {
      type: "gauge",
      help: "Machines that are there.",
      labels: { host },
    },
  },
} as const satisfies MetricSection;
