/** The promises of FireRunner that can be told from the outcome of a simulation. */

import type { SimJob } from "./sim-gitlab.ts";
import { outputOf } from "./sim-guest.ts";
import type { EndedWorld } from "./sim-world.ts";
import type { World } from "./world.ts";

/** What was broken, in words; empty when nothing was. */
export async function brokenPromises(world: EndedWorld): Promise<string[]> {
  const broken = [...world.gitlab.violations, ...world.site.violations];
  for (const job of world.gitlab.jobs.values()) broken.push(...(await ofJob(world, job)));
  broken.push(...onePayloadPerMachine(world), ...(await leftovers(world)));
  return broken;
}

async function ofJob(world: World, job: SimJob): Promise<string[]> {
  const { store, lostClaims } = world;
  if (lostClaims.has(job.id) || job.status === "pending") return [];
  const row = await store.job(job.id);
  const name = `job ${job.id}`;
  if (!row)
    return [job.cancelRequested ? "" : `${name} was given away and is not in the store`].filter(Boolean);
  const broken: string[] = [];
  if (row.state !== "finished") broken.push(`${name} is ${row.state} in the store`);
  if (row.result !== job.status)
    broken.push(`${name} is ${job.status} in GitLab and ${row.result} in the store`);
  if ((await store.payload(job.id)) !== undefined) broken.push(`${name}: its payload was not erased`);
  broken.push(...untruths(world, job), ...badTrace(world, job));
  return broken.concat(await badAttempts(world, job));
}

function untruths({ truths }: World, job: SimJob): string[] {
  const truth = truths.get(job.id);
  const name = `job ${job.id}`;
  if (job.status === "success" && truth !== "success") return [`${name} succeeded, but its script did not`];
  if (job.status === "canceled" && !job.cancelRequested) return [`${name} was canceled by nobody`];
  if (job.status === "failed" && job.failureReason === "script_failure" && truth !== "failed")
    return [`${name} failed by its script, which did not`];
  return [];
}

function badTrace({ truths }: World, job: SimJob): string[] {
  const trace = job.trace.toString();
  const count = (text: string) => trace.split(text).length - 1;
  const broken: string[] = [];
  if (count("FireRunner: the job failed") > 1)
    broken.push(`job ${job.id}: its trace tells of the failure twice`);
  for (let chunk = 0; chunk < 10; chunk++)
    if (count(outputOf(job.id, chunk)) > 1)
      broken.push(`job ${job.id}: line ${chunk} of its trace is doubled`);
  if (job.status === "success" && truths.get(job.id) === "success" && count(outputOf(job.id, 0)) !== 1)
    broken.push(`job ${job.id}: its trace is not whole`);
  return broken;
}

/**
 * At most three machines that were there, each an attempt; none given up to which nothing was done; and no job is failed that never ran
 * and has attempts left: faults end, so that some host could have served it.
 */
async function badAttempts({ store, harmed }: World, job: SimJob): Promise<string[]> {
  const events = await store.events({ jobId: job.id });
  const starts = events.flatMap((event) => (event.kind === "job:starting" ? [event.detail] : []));
  const broken: string[] = [];
  const machines = starts.map(({ machineId }) => machineId);
  const there = new Set(
    events.flatMap(({ kind, machineId }) => (signsOfLife.has(kind) && machineId ? [machineId] : [])),
  );
  const before = (index: number) => machines.slice(0, index).filter((id) => there.has(id)).length;
  const isSound = starts.every(({ attempt }, index) => attempt === before(index) + 1 && attempt <= 3);
  if (!isSound || new Set(machines).size !== machines.length)
    broken.push(`job ${job.id}: attempts and machines do not match: ${JSON.stringify(starts)}`);
  const isLost = job.status === "failed" && job.failureReason === "runner_system_failure";
  const hasRun = events.some(({ kind }) => kind === "job:running");
  if (isLost && !hasRun && before(machines.length) < 3)
    broken.push(`job ${job.id} failed after ${before(machines.length)} machines that were there`);
  const needless = (isLost ? machines : machines.slice(0, -1)).filter((id) => !harmed.has(id));
  if (needless.length > 0)
    broken.push(`job ${job.id}: ${needless.join(", ")} was given up though nothing happened to it`);
  return broken;
}

const signsOfLife: ReadonlySet<string> = new Set(["machine:booting", "machine:heard", "machine:ready"]);

function onePayloadPerMachine({ payloads }: World): string[] {
  const broken: string[] = [];
  for (const key of ["machineId", "jobId"] as const) {
    const other = key === "machineId" ? "jobId" : "machineId";
    for (const value of new Set(payloads.map((each) => each[key]))) {
      const others = new Set(payloads.filter((each) => each[key] === value).map((each) => each[other]));
      if (others.size > 1)
        broken.push(`${key} ${value} had more than one ${other}: ${[...others].join(", ")}`);
    }
  }
  return broken;
}

async function leftovers({ store, site, life }: EndedWorld): Promise<string[]> {
  const machines = await store.machines({ live: true });
  const left = [
    ...machines.map(({ id, state }) => `machine ${id} is still ${state}`),
    ...site.leftovers().map((machine) => `${machine} is still at its host`),
    ...(life()?.relay.listening() ?? []).map((id) => `the relay still listens for ${id}`),
  ];
  return left;
}
