import { join } from "node:path";
import type { Job, Project } from "@firerunner/gitlab-stand-in/model";
import { Agent, request } from "undici";
import { expect, test } from "vitest";
import { dashboards } from "../../scripts/docs-dashboards.ts";
import { withValues } from "../../scripts/monitoring/panels.ts";
import { metricTable } from "../../src/telemetry/metrics/table.ts";
import { eventually } from "../harness/eventually.ts";
import { type Monitoring, startMonitoring } from "../harness/monitoring.ts";
import {
  servedGroup,
  startTaggedInstallation,
  type TaggedInstallation,
} from "../harness/tagged-installation.ts";
import { complaintsAbout, type Prometheus } from "../servers/prometheus.ts";

const DAY_MS = 86_400_000;
/** Jobs of one CPU end at once, those of two when somebody ends their machine. */
const short = ["firecracker-1cpu-1gb"];
const long = ["firecracker-2cpu-1gb"];

/** What troubles of this run may bring besides, and those of the computer that it runs on, whose times are pulled together as well. */
const besides = [
  ...[
    "FireRunnerNotReady",
    "FireRunnerGitLabErrors",
    "FireRunnerTasksFailing",
    "FireRunnerMachineCreationFailing",
  ],
  ...["FireRunnerHostPressure", "FireRunnerDiskFilling", "FireRunnerEventLoopLag"],
];

function start({ metrics }: Monitoring): Promise<TaggedInstallation> {
  return startTaggedInstallation({
    metrics,
    capacity: { cpus: 4, memoryMib: 65_536, machines: 30, diskMib: 1_048_576 },
    workMs: ({ cpus }) => (cpus === 1 ? 20 : 3_600_000),
    tokenExpiresAt: new Date(Date.now() + 5 * DAY_MS).toISOString().slice(0, 10),
  });
}

async function endShortJobs({ gitlab }: TaggedInstallation, project: Project): Promise<void> {
  const jobs = [await gitlab.addJob(project, { tags: short }), await gitlab.addJob(project, { tags: short })];
  await eventually("short jobs have ended", () => jobs.every(({ finishedAt }) => finishedAt !== undefined));
}

/** What promtool has against the page as it is now; empty when nothing. */
async function complaints(url: string, { ca, token }: Monitoring["client"]): Promise<string> {
  const dispatcher = new Agent({ connect: { ca } });
  const page = await request(url, { dispatcher, headers: { authorization: `Bearer ${token}` } });
  expect(page.statusCode).toBe(200);
  const text = await page.body.text();
  await dispatcher.close();
  return await complaintsAbout(text);
}

/** A guest's request that its job's token is not good for. */
async function breakRule({ components, machineDirectory }: TaggedInstallation): Promise<void> {
  const [machine] = await components.store.machines({ live: true });
  const socketPath = join(machineDirectory, machine?.id ?? "", "relay.sock");
  const dispatcher = new Agent({ connect: { socketPath } });
  const answer = await request("http://relay/api/v4/jobs/1/trace", {
    method: "PATCH",
    dispatcher,
    headers: { "JOB-TOKEN": "of another job" },
    body: "x",
  });
  expect(answer.statusCode).toBe(403);
  await answer.body.dump();
  await dispatcher.close();
}

/** One after the other, each while its job runs. */
async function killMachines({ components, host }: TaggedInstallation, jobs: readonly Job[]): Promise<void> {
  for (const job of jobs) {
    await eventually("the job runs", () => job.trace.sizeBytes > 0);
    host.end((await components.store.job(job.id))?.machineId ?? "", "killed");
  }
}

async function expectEveryMetric(prometheus: Prometheus): Promise<void> {
  let missing: readonly string[] = [];
  await eventually("Prometheus has every metric of the table", async () => {
    const names = new Set((await prometheus.names()).map((name) => name.replace(/_(bucket|sum|count)$/, "")));
    missing = Object.keys(metricTable).filter((name) => !names.has(name));
    return missing.length === 0;
  }).catch((error) => expect(missing, error).toEqual([]));
}

/** What Grafana would draw. */
async function expectEveryPanelFull(prometheus: Prometheus): Promise<void> {
  const expressions = dashboards.flatMap(({ panels }) =>
    panels.flatMap((panel) => ("row" in panel ? [] : panel.queries.map(({ expr }) => expr))),
  );
  const isEmpty = async (expr: string) => {
    const samples = await prometheus.query(withValues(expr, { interval: "1m", range: "1m" }));
    return samples.every(({ value }) => !Number.isFinite(value));
  };
  let left: readonly string[] = expressions;
  await eventually("every panel has data", async () => {
    const empty = await Promise.all(left.map(isEmpty));
    left = left.filter((_, index) => empty[index]);
    return left.length === 0;
  }).catch((error) => expect(left, error).toEqual([]));
}

test("troubles of a running FireRunner reach a webhook as alerts, and so do their ends", {
  timeout: 240_000,
}, async () => {
  await using monitoring = await startMonitoring();
  const { prometheus, client, hears } = monitoring;
  await using running = new AsyncDisposableStack();
  const installation = running.use(await start(monitoring));
  const { gitlab, components, metricsUrl = "" } = installation;
  const project = await gitlab.projects.add({ path: `${servedGroup}/one` });
  await endShortJobs(installation, project);

  // A host that is full, jobs that wait for room, and one that no host could hold.
  const jobs: Job[] = [];
  for (let index = 0; index < 6; index++) jobs.push(await gitlab.addJob(project, { tags: long }));
  await gitlab.addJob(project, { tags: ["firecracker-9999cpu-1gb"] });
  const full = await hears("firing", "FireRunnerCapacitySaturated");
  expect(full.labels).toMatchObject({ severity: "ticket", host: "fake", resource: "vcpus" });
  for (const name of ["UnservableJobs", "TokenExpires", "CertificateExpires"])
    await hears("firing", `FireRunner${name}`);
  expect(await complaints(metricsUrl, client)).toBe("");
  await breakRule(installation);

  await killMachines(installation, jobs);
  const killed = await hears("firing", "FireRunnerSystemFailureRate");
  expect(killed.annotations["summary"]).toMatch(/^\d[\d.]*% of jobs fail for no fault of their own/);
  await hears("resolved", "FireRunnerCapacitySaturated");
  await endShortJobs(installation, project);

  // GitLab has switched the hook off.
  await eventually("no delivery is under way", () => gitlab.hooks.underWay() === 0);
  const [hook] = gitlab.hooks.all();
  Object.assign(hook ?? {}, { failures: 40 });
  components.tagged?.hookHealth.wake();
  await hears("firing", "FireRunnerHookDisabled");
  Object.assign(hook ?? {}, { failures: 0 });

  await gitlab.down();
  await hears("firing", "FireRunnerGitLabDown");
  await eventually("what follows from that is not told besides", async () =>
    (await monitoring.inhibited()).includes("FireRunnerNotReady"),
  );
  await gitlab.up();
  await hears("resolved", "FireRunnerGitLabDown");
  components.tagged?.hookHealth.wake();
  await hears("resolved", "FireRunnerHookDisabled");
  await hears("resolved", "FireRunnerSystemFailureRate");

  await expectEveryMetric(prometheus);
  await expectEveryPanelFull(prometheus);

  await running.disposeAsync();
  await hears("firing", "FireRunnerDown");
  await using _again = await start(monitoring);
  await hears("resolved", "FireRunnerDown");

  const told = monitoring.told();
  const expected = [
    ...["CapacitySaturated", "UnservableJobs", "TokenExpires", "CertificateExpires", "SystemFailureRate"],
    ...["HookDisabled", "GitLabDown", "Down"],
  ].map((name) => `FireRunner${name}`);
  const names = new Set(told.map(({ labels }) => labels["alertname"] ?? ""));
  expect([...names].filter((name) => !besides.includes(name)).toSorted()).toEqual(expected.toSorted());
  for (const { labels, annotations, receiver } of told) {
    expect(receiver, labels["alertname"]).toBe(labels["severity"] === "page" ? "pager" : "team");
    expect(JSON.stringify(annotations)).not.toMatch(/<no value>|<error|NaN|\+Inf/);
  }
});
