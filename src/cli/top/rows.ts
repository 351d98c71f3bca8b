/** What stands in the lists of `top`: jobs, machines, hosts and pools as rows that can be selected and filtered. Pure. */
import type { Column } from "../../base/table.ts";
import { oneLine } from "../../base/text.ts";
import { formatDuration } from "../../base/units.ts";
import type { HostStatus, JobView, MachineView, PoolStatus, Status } from "../../views/api.ts";
import type { WaitingView } from "../../views/webhook-api.ts";
import {
  askingWords,
  cellText,
  formatSize,
  hostStateText,
  jobTime,
  machineTime,
  stateText,
  takenCells,
} from "../messages.ts";

export const viewNames = ["jobs", "machines", "hosts", "pools"] as const;
export type ViewName = (typeof viewNames)[number];

/** What FireRunner has answered. */
interface Reading {
  readonly status: Status;
  readonly machines: readonly MachineView[];
  /** Epoch ms. */
  readonly at: number;
}

/** What is shown, as it was when it was read. */
export interface Snapshot {
  readonly status: Status;
  /** Epoch ms. */
  readonly at: number;
  readonly rows: Readonly<Record<ViewName, readonly Row[]>>;
}

/** What a row is about. */
export type Subject =
  | { readonly kind: "job"; readonly jobId: number; readonly machineId: string | null }
  | { readonly kind: "machine"; readonly machine: MachineView }
  | { readonly kind: "host"; readonly host: HostStatus }
  | { readonly kind: "pool"; readonly pool: PoolStatus };

export type Tone = "good" | "moving" | "bad" | "quiet";

export interface Row {
  /** The same for as long as it is in the list. */
  readonly key: string;
  /** In the order of the view's columns. */
  readonly cells: readonly string[];
  readonly tone: Tone;
  readonly subject: Subject;
}

export const columnsOf: Readonly<Record<ViewName, readonly Column[]>> = {
  jobs: [
    { title: "JOB" },
    { title: "STATE", cut: 9 },
    { title: "TIME" },
    { title: "POOL", cut: 12, spare: 2 },
    { title: "PROJECT", cut: 10, spare: 1 },
    { title: "NAME", cut: 10 },
    { title: "MACHINE", spare: 3 },
  ],
  machines: [
    { title: "MACHINE" },
    { title: "STATE" },
    { title: "TIME" },
    { title: "JOB" },
    { title: "POOL", cut: 12, spare: 1 },
    { title: "SIZE", spare: 2 },
    { title: "WHERE", cut: 12, spare: 3 },
  ],
  hosts: [
    { title: "HOST", cut: 12 },
    { title: "STATE" },
    { title: "MACHINES" },
    { title: "CPUS" },
    { title: "MEMORY" },
    { title: "DISK", spare: 1 },
    { title: "DRIVER", spare: 2 },
  ],
  pools: [
    { title: "POOL", cut: 12 },
    { title: "HEALTH" },
    { title: "RUNNING" },
    { title: "STARTING", spare: 1 },
    { title: "QUEUED" },
    { title: "SIZE", spare: 2 },
    { title: "GITLAB", cut: 10, spare: 3 },
  ],
};

/** Makes all rows, once for each reading: there may be thousands, and a screen is drawn at each key. */
export function snapshotOf({ status, machines, at }: Reading): Snapshot {
  const jobs = [
    ...status.unfinished.map((job) => jobRow(job, at)),
    ...(status.webhook?.waiting ?? []).map((job) => waitingRow(job, at)),
    ...status.recent.map((job) => jobRow(job, at)),
  ];
  const rows = {
    jobs,
    machines: machines.map((machine) => machineRow(machine, at)),
    hosts: status.hosts.map(hostRow),
    pools: status.pools.map(poolRow),
  };
  return { status, at, rows };
}

/** Those with the words in any cell, however they are spelled. */
export function filtered(rows: readonly Row[], filter: string): readonly Row[] {
  const words = filter.trim().toLowerCase();
  return words === "" ? rows : rows.filter(({ cells }) => cells.join(" ").toLowerCase().includes(words));
}

function jobRow(job: JobView, at: number): Row {
  const { id, machineId, pool, project, name } = job;
  const cells = [String(id), stateText(job), jobTime(job, at), pool, project, name, machineId ?? "-"];
  return {
    key: `job ${id}`,
    cells: cells.map((cell) => cellText(cell)),
    tone: jobTone(job),
    subject: { kind: "job", jobId: id, machineId },
  };
}

function jobTone({ state, result }: JobView): Tone {
  if (state === "finished") return result === "failed" ? "bad" : "quiet";
  if (state === "running") return "good";
  return state === "failing" ? "bad" : "moving";
}

function waitingRow({ id, createdAt, pool, project, name }: WaitingView, at: number): Row {
  const time = formatDuration(Math.max(0, at - createdAt));
  const cells = [String(id), "waiting", time, pool, project, name, "-"];
  return {
    key: `job ${id}`,
    cells: cells.map((cell) => cellText(cell)),
    tone: "moving",
    subject: { kind: "job", jobId: id, machineId: null },
  };
}

function machineRow(machine: MachineView, at: number): Row {
  const { id, state, jobId, pool, size, driver, host } = machine;
  const where = driver === host ? driver : `${driver}@${host}`;
  const cells = [
    id,
    state,
    machineTime(machine, at),
    jobId === null ? "-" : String(jobId),
    pool,
    formatSize(size),
    where,
  ];
  const tone = state === "busy" ? "good" : state === "stopping" ? "quiet" : "moving";
  return { key: id, cells: cells.map((cell) => cellText(cell)), tone, subject: { kind: "machine", machine } };
}

function hostRow(host: HostStatus): Row {
  const { drained, problem } = host;
  const cells = [host.host, hostStateText(host), ...takenCells(host), host.driver];
  const tone = problem !== null ? "bad" : drained ? "moving" : "good";
  return { key: host.key, cells: cells.map(oneLine), tone, subject: { kind: "host", host } };
}

function poolRow(pool: Status["pools"][number]): Row {
  const { name, ok, running, limit, starting, queued, size, tokenNote } = pool;
  const cells = [
    name,
    ok ? "ready" : "not ready",
    `${running}/${limit}`,
    String(starting),
    String(queued),
    formatSize(size),
    askingWords(pool),
  ];
  const tone = ok ? (tokenNote ? "moving" : "good") : "bad";
  return { key: name, cells: cells.map((cell) => cellText(cell)), tone, subject: { kind: "pool", pool } };
}
