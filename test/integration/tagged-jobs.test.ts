import { readdir } from "node:fs/promises";
import type { Job } from "@firerunner/gitlab-stand-in/model";
import { expect, test } from "vitest";
import { eventually } from "../harness/eventually.ts";
import {
  servedGroup,
  startTaggedInstallation,
  type TaggedInstallation,
} from "../harness/tagged-installation.ts";

const GIB = 1_024;

/** Five numbers of CPUs, each in four ways: plain, with a further tag (so that runners overlap), in capitals, and in another unit. */
const tagSets = [1, 2, 3, 4, 6].flatMap((cpus) => [
  { tags: [`firecracker-${cpus}cpu-1gb`], cpus, memoryMib: GIB },
  { tags: ["deploy", `firecracker-${cpus}cpu-1gb`], cpus, memoryMib: GIB },
  { tags: [`FireCracker-${cpus}CPU-1.5GB`], cpus, memoryMib: 1.5 * GIB },
  { tags: [`firecracker-${cpus}cpu-768mb`], cpus, memoryMib: 768 },
]);

/** Pending jobs all at once, in several projects, each of the sets equally often and none twice in a row. */
async function addJobs({ gitlab }: TaggedInstallation, count: number, sets: typeof tagSets): Promise<Job[]> {
  const paths = ["one", "two", "deeper/three"].map((name) => `${servedGroup}/${name}`);
  const projects = await Promise.all(paths.map((path) => gitlab.projects.add({ path })));
  const adding = Array.from({ length: count }, (_, index) =>
    gitlab.addJob(projects[index % projects.length]!, { tags: sets[index % sets.length]!.tags }),
  );
  return await Promise.all(adding);
}

const runnersMade = ({ gitlab }: TaggedInstallation) =>
  gitlab.requests.filter(
    ({ method, path, status }) => method === "POST" && path.endsWith("/user/runners") && status === 201,
  ).length;

async function expectAllWell(installation: TaggedInstallation, jobs: readonly Job[]): Promise<void> {
  const { gitlab, components, runs, guestProblems } = installation;
  await eventually(
    "all jobs have ended",
    () => jobs.every(({ finishedAt }) => finishedAt !== undefined),
    120_000,
  );

  const asked = (job: Job) => tagSets.find(({ tags }) => tags === job.definition.tags)!;
  const expected = jobs.map((job) => [job.id, asked(job).cpus, asked(job).memoryMib]);
  const ran = runs.map(({ jobId, size }) => [jobId, size.cpus, size.memoryMib]);
  expect(ran.toSorted(byId)).toEqual(expected.toSorted(byId));
  expect(jobs.filter(({ status }) => status !== "success")).toEqual([]);
  expect(guestProblems).toEqual([]);
  // No token of a runner, of the API or of hooks is in any machine; the job's own is.
  const tokens = [...new Set(jobs.map(({ runner }) => runner?.token ?? ""))];
  const secret = (given: string) =>
    /glpat-\w|whsec_\w/.test(given) || tokens.some((token) => given.includes(token));
  expect(runs.filter(({ given }) => secret(given))).toEqual([]);
  expect(runs.filter(({ given }) => !given.includes("glcbt-"))).toEqual([]);
  expect(components.tagged?.watcher.status()).toMatchObject({
    missedByHooks: 0,
    leftAlone: [],
    problems: [],
  });
  const unanswered = gitlab.hooks.deliveries.filter(({ statusCode }) => statusCode !== 200);
  expect(unanswered).toEqual([]);
}

function byId([a]: readonly (number | undefined)[], [b]: readonly (number | undefined)[]): number {
  return (a ?? 0) - (b ?? 0);
}

async function expectNothingLeft({
  gitlab,
  components,
  host,
  machineDirectory,
}: TaggedInstallation): Promise<void> {
  await eventually("no runner is left in GitLab", () => gitlab.runners.all().length === 0, 60_000);
  await eventually("no row of a runner is left", async () => (await components.store.runners()).length === 0);
  await eventually(
    "no machine is left",
    async () => (await components.store.machines({ live: true })).length === 0,
  );
  expect(host.ids()).toEqual([]);
  expect(await readdir(machineDirectory)).toEqual([]);
  expect(await components.store.jobs({ unfinished: true })).toEqual([]);
  await eventually("no pool is left", () => components.pools().size === 0);
  expect(gitlab.violations).toEqual([]);
}

test("200 jobs with 20 sets of tags at once: each runs once in its size, on 20 runners that are deleted when unused", {
  timeout: 240_000,
}, async () => {
  const capacity = { cpus: 64, memoryMib: 64 * GIB, machines: 30 };
  await using installation = await startTaggedInstallation({ capacity, runners: { keepUnused: "3s" } });

  const jobs = await addJobs(installation, 200, tagSets);
  await expectAllWell(installation, jobs);

  expect(tagSets).toHaveLength(20);
  expect(runnersMade(installation)).toBeLessThanOrEqual(20);
  expect(installation.mostTaken.cpus).toBeLessThanOrEqual(capacity.cpus);
  expect(installation.mostTaken.memoryMib).toBeLessThanOrEqual(capacity.memoryMib);
  expect(installation.mostTaken.machines).toBeLessThanOrEqual(capacity.machines);
  await expectNothingLeft(installation);
});

test("with one runner per job, 20 jobs get 20 runners, and each is deleted with its job", async () => {
  await using installation = await startTaggedInstallation({ runners: { perJob: true } });

  const sets = tagSets.filter(({ tags }) => !tags.includes("deploy"));
  const jobs = await addJobs(installation, 20, sets);
  await expectAllWell(installation, jobs);

  expect(runnersMade(installation)).toBe(20);
  expect(new Set(jobs.map(({ runner }) => runner?.id)).size).toBe(20);
  await expectNothingLeft(installation);
});

test("with one runner per job, no runner serves two, also where GitLab gives a job to one with more tags", async () => {
  await using installation = await startTaggedInstallation({ runners: { perJob: true } });

  const jobs = await addJobs(installation, 20, tagSets.slice(0, 2));
  await expectAllWell(installation, jobs);

  expect(new Set(jobs.map(({ runner }) => runner?.id)).size).toBe(20);
  await expectNothingLeft(installation);
});

test("jobs that cannot be served are failed with the reason in their own log, beside one that runs, and leave no runner", async () => {
  const webhook = { unservable: "fail", poll: { interval: "1s" } };
  await using installation = await startTaggedInstallation({ webhook, runners: { keepUnused: "1s" } });
  const { gitlab, components, runs } = installation;
  const project = await gitlab.projects.add({ path: `${servedGroup}/one` });
  const add = (tag: string) => gitlab.addJob(project, { tags: [tag] });
  const [huge, wrong, good] = [
    await add("firecracker-99cpu-1gb"),
    await add("firecracker-4gb"),
    await add("firecracker-1cpu-1gb"),
  ];

  const all = [huge, wrong, good];
  await eventually("all have ended", () => all.every(({ finishedAt }) => finishedAt !== undefined), 60_000);

  expect(good.status).toBe("success");
  expect(runs.map(({ jobId }) => jobId)).toEqual([good.id]);
  for (const job of [huge, wrong]) {
    expect(job).toMatchObject({ status: "failed", failureReason: "runner_system_failure" });
    await eventually(
      "its end is stored",
      async () => (await components.store.job(job.id))?.state === "finished",
    );
    expect(await components.store.job(job.id)).toMatchObject({ result: "failed", cause: "unservable" });
  }
  expect(huge.trace.text()).toContain(
    "the job failed: firecracker-99cpu-1gb cannot be served: webhook.sizes.maxCpus allows 16; give the job another tag",
  );
  expect(wrong.trace.text()).toContain("is not a size: write such as firecracker-2cpu-4gb");
  await expectNothingLeft(installation);
});

test("a canceled job's machine is gone as soon as a hook tells of it, however silent the guest", async () => {
  // Only the hook can tell: the guest says nothing, and GitLab is not asked in turn.
  await using installation = await startTaggedInstallation({ workMs: 3_600_000 });
  const { gitlab, host, components, runs } = installation;
  const project = await gitlab.projects.add({ path: `${servedGroup}/one` });
  const tags = ["firecracker-1cpu-1gb"];
  const [canceled, other] = [await gitlab.addJob(project, { tags }), await gitlab.addJob(project, { tags })];
  await eventually(
    "both work",
    () => runs.length === 2 && [canceled, other].every(({ trace }) => trace.sizeBytes > 0),
  );

  gitlab.jobs.cancel(canceled);

  await eventually("one machine is left", () => host.ids().length === 1);
  expect(await components.store.job(canceled.id)).toMatchObject({ state: "finished", result: "canceled" });
  expect(other.status).toBe("running");
  expect(gitlab.violations).toEqual([]);
});
