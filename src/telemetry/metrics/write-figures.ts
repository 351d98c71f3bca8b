/** Writes what was read of the running program as gauges: one function for each source, since each may fail by itself. */
import { MIB_BYTES, SECOND_MS } from "../../base/units.ts";
import type { Capacity } from "../../domain/size.ts";
import { liveRunnerStates, occupyingMachineStates, unfinishedJobStates } from "../../domain/states.ts";
import type { Figures } from "../../views/figures.ts";
import type { Snapshot } from "./instruments.ts";
import { poolLabel } from "./label-values.ts";
import type { CacheFigures, MetricsReads, WebhookFigures } from "./ports.ts";
import { unservableCauses, waitingCauses } from "./table/jobs.ts";

export function writeFigures({ set }: Snapshot, figures: Figures, now: number): void {
  set("firerunner_ready", bit(figures.isReady));
  set("firerunner_draining", bit(figures.isDraining));
  set("firerunner_gitlab_up", bit(figures.gitLabAnswers));
  for (const state of unfinishedJobStates) set("firerunner_jobs", figures.jobs.get(state) ?? 0, { state });
  for (const cause of waitingCauses)
    set("firerunner_jobs_waiting", figures.waiting.get(cause) ?? 0, { cause });
  for (const cause of unservableCauses)
    set("firerunner_jobs_unservable", figures.unservable.get(cause) ?? 0, { cause });
  const since = figures.oldestWaitingSince ?? now;
  set("firerunner_oldest_waiting_job_seconds", Math.max(0, now - since) / SECOND_MS);
  set("firerunner_failing_tasks", figures.failingTasks);
  for (const { pool, isReady } of figures.pools)
    set("firerunner_pool_ready", bit(isReady), { pool: poolLabel(pool) });
  for (const each of figures.hosts) writeHost(set, each);
}

function writeHost(
  set: Snapshot["set"],
  { key, isUp, isDrained, taken, capacity }: Figures["hosts"][number],
): void {
  const host = { host: key };
  set("firerunner_host_up", bit(isUp), host);
  set("firerunner_host_drained", bit(isDrained), host);
  set("firerunner_reserved_vcpus", taken.cpus, host);
  set("firerunner_reserved_memory_bytes", taken.memoryMib * MIB_BYTES, host);
  set("firerunner_reserved_disk_bytes", taken.diskMib * MIB_BYTES, host);
  set("firerunner_reserved_machines", taken.machines, host);
  if (capacity === undefined) return;
  set("firerunner_capacity_vcpus", capacity.cpus, host);
  set("firerunner_capacity_memory_bytes", capacity.memoryMib * MIB_BYTES, host);
  set("firerunner_capacity_disk_bytes", bytesOf(capacity.diskMib), host);
  set("firerunner_capacity_machines", capacity.machines, host);
}

export function writeMachines(
  { set }: Snapshot,
  machines: Awaited<ReturnType<MetricsReads["machines"]>>,
  drivers: Iterable<string>,
): void {
  const byDriver = Map.groupBy(machines, ({ driver }) => driver);
  for (const driver of new Set([...drivers, ...byDriver.keys()])) {
    const byState = Map.groupBy(byDriver.get(driver) ?? [], ({ state }) => state);
    for (const state of occupyingMachineStates)
      set("firerunner_machines", byState.get(state)?.length ?? 0, { driver, state });
  }
}

export function writeWebhooks({ set, counted }: Snapshot, figures: WebhookFigures): void {
  const { budget, tokenExpiresAt, deliveries, lastDeliveryAt, missed, brokenHooks, projects } = figures;
  set("firerunner_gitlab_rate_limit", budget?.limit);
  set("firerunner_gitlab_rate_limit_remaining", budget?.remaining);
  set("firerunner_api_token_expiry_timestamp_seconds", secondsOf(tokenExpiresAt));
  for (const [outcome, count] of Object.entries(deliveries))
    counted("firerunner_webhook_deliveries_total", count, { outcome });
  set("firerunner_webhook_last_delivery_timestamp_seconds", secondsOf(lastDeliveryAt));
  counted("firerunner_webhook_missed_total", missed);
  set("firerunner_hook_disabled", brokenHooks);
  set("firerunner_projects_watched", projects.watched);
  set("firerunner_projects_due", projects.due);
  const runners = Map.groupBy(figures.runners, ({ state }) => state);
  for (const state of liveRunnerStates)
    set("firerunner_gitlab_runners", runners.get(state)?.length ?? 0, { state });
}

export function writeCaches({ set }: Snapshot, { images, jobs }: CacheFigures): void {
  set("firerunner_image_cache_used_bytes", images?.usedBytes);
  set("firerunner_image_cache_evictable_bytes", images?.evictableBytes);
  set("firerunner_cache_used_bytes", jobs?.usedBytes);
  set("firerunner_cache_evictable_bytes", jobs?.evictableBytes);
}

export function writeCertificates(
  { set }: Snapshot,
  certificates: ReturnType<MetricsReads["certificates"]>,
): void {
  for (const [listener, endsAt] of Object.entries(certificates))
    set("firerunner_tls_expiry_timestamp_seconds", secondsOf(endsAt), { listener });
}

/** Under the names of GitLab's own runner, which has one number for all its machines and knows its jobs by its sections. */
export function writeCompatible({ set }: Snapshot, figures: Figures, version: string): void {
  const known = figures.hosts.flatMap(({ capacity }) => capacity ?? []);
  set(
    "gitlab_runner_concurrent",
    sum(known, ({ machines }) => machines),
  );
  set("gitlab_runner_version_info", 1, { name: "firerunner", version });
  for (const state of unfinishedJobStates)
    for (const [pool, count] of figures.jobsByPool.get(state) ?? [])
      set("gitlab_runner_jobs", count, { runner: poolLabel(pool), state });
}

function sum(capacities: readonly Capacity[], of: (capacity: Capacity) => number): number {
  return capacities.reduce((total, each) => total + of(each), 0);
}

function bit(isSo: boolean): number {
  return isSo ? 1 : 0;
}

function bytesOf(mib: number | undefined): number | undefined {
  return mib === undefined ? undefined : mib * MIB_BYTES;
}

function secondsOf(ms: number | undefined): number | undefined {
  return ms === undefined ? undefined : ms / SECOND_MS;
}
