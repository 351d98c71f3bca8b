import type { Clock } from "../../src/base/clock.ts";
import type {
  JobAnswer,
  JobUpdate,
  RemoteJobStatus,
  RunnerApi,
  TraceStatus,
} from "../../src/gitlab/runner-api.ts";
import { aPayload } from "../builders/payload.ts";
import type { Random } from "./random.ts";

type Status = "pending" | "running" | "canceling" | "success" | "failed" | "canceled";

export interface SimJob {
  readonly id: number;
  readonly token: string;
  status: Status;
  failureReason: string | undefined;
  trace: Buffer;
  cancelRequested: boolean;
  /** Times of the updates, for the rate limit. */
  readonly updates: number[];
}

/** GitLab's side, strict: it notes what a correct client would never do. */
export interface SimGitLab {
  readonly api: RunnerApi;
  readonly jobs: ReadonlyMap<number, SimJob>;
  readonly violations: string[];
  /** Ids of jobs in the order of the answers that gave them away. */
  readonly given: number[];
  add(): SimJob;
  cancel(id: number, gracefully: boolean): void;
  /** Answers nothing until the time (epoch ms). */
  goDown(untilAt: number): void;
}

const LONGEST_POLL_MS = 5_000;
/** `runner_jobs_endpoints_api_limit`: updates of one job in a minute. */
const UPDATES_PER_MINUTE = 200;

export function createSimGitLab(clock: Clock, random: Random, isFaulty: () => boolean): SimGitLab {
  const jobs = new Map<number, SimJob>();
  const violations: string[] = [];
  const given: number[] = [];
  let downUntil = 0;
  let news = 0;

  const isOver = (job: SimJob) => job.status !== "running" && job.status !== "canceling";
  const down = { kind: "unavailable", waitMs: 0, problem: "GitLab does not answer" } as const;

  /** Latency, outages, errors, and answers that are lost after the request was served. */
  async function exchange<Answer>(serve: () => Answer | Promise<Answer>): Promise<Answer | typeof down> {
    await clock.sleep(random.between(1, isFaulty() && random.chance(0.02) ? 4_000 : 30));
    if (clock.now() < downUntil || (isFaulty() && random.chance(0.03))) return down;
    const answer = await serve();
    await clock.sleep(random.between(1, 10));
    return isFaulty() && random.chance(0.03) ? down : answer;
  }

  function authorized(jobId: number, token: string): SimJob | undefined {
    const job = jobs.get(jobId);
    if (job && job.token === token && job.status !== "pending") return job;
    violations.push(`job ${jobId} was addressed with a wrong token or before it was claimed`);
    return undefined;
  }

  async function requestJob(lastUpdate: string | undefined): Promise<JobAnswer> {
    await clock.sleep(random.between(1, 20));
    if (clock.now() < downUntil)
      return { kind: "wait", waitMs: 0, problem: "GitLab does not answer", fatal: false };
    const until = clock.now() + LONGEST_POLL_MS;
    while (lastUpdate === String(news) && clock.now() < until) await clock.sleep(100);
    if (lastUpdate === String(news)) return { kind: "none" };
    const job = [...jobs.values()].find(({ status }) => status === "pending");
    if (!job) return { kind: "none", lastUpdate: String(news) };
    job.status = "running";
    given.push(job.id);
    await clock.sleep(random.between(1, 10));
    const payload = aPayload({ id: job.id, token: job.token });
    return { kind: "job", payload, raw: JSON.stringify(payload) };
  }

  function update({ jobId, jobToken, state, failureReason }: JobUpdate): RemoteJobStatus {
    const job = authorized(jobId, jobToken.reveal());
    if (!job) return { kind: "over", status: undefined };
    noteRate(job);
    if (isOver(job)) return { kind: "over", status: job.status };
    if (state === "running") return { kind: "accepted", status: job.status };
    if (isFaulty() && random.chance(0.05)) return { kind: "again", waitMs: 1_000 };
    job.status = job.status === "canceling" ? "canceled" : state;
    job.failureReason = failureReason;
    return { kind: "accepted", status: job.status };
  }

  function noteRate(job: SimJob): void {
    job.updates.push(clock.now());
    const lastMinute = job.updates.filter((at) => at > clock.now() - 60_000).length;
    if (lastMinute > UPDATES_PER_MINUTE)
      violations.push(`job ${job.id} was updated ${lastMinute} times in a minute`);
  }

  function append(append: Parameters<RunnerApi["appendTrace"]>[0]): TraceStatus {
    const job = authorized(append.jobId, append.jobToken.reveal());
    if (!job || isOver(job)) return { kind: "over", status: job?.status };
    const endBytes = append.startBytes + append.bytes.length;
    const isRepeated = endBytes === job.trace.length;
    if (append.startBytes !== job.trace.length && !isRepeated)
      return { kind: "elsewhere", sizeBytes: job.trace.length };
    if (!isRepeated) job.trace = Buffer.concat([job.trace, append.bytes]);
    return { kind: "accepted", sizeBytes: endBytes, status: job.status, intervalMs: undefined };
  }

  return {
    jobs,
    violations,
    given,
    api: {
      verify: async () => ({ id: 1, tokenExpiresAt: null }),
      resetToken: () => Promise.reject(new Error("nobody asks for another token here")),
      requestJob: ({ lastUpdate }) => requestJob(lastUpdate),
      updateJob: (each) => exchange(() => update(each)),
      appendTrace: (each) => exchange(() => append(each)),
    },
    add() {
      const id = 1_000 + jobs.size;
      const job: SimJob = {
        id,
        token: `glcbt-${id}-token`,
        status: "pending",
        failureReason: undefined,
        trace: Buffer.alloc(0),
        cancelRequested: false,
        updates: [],
      };
      jobs.set(id, job);
      news++;
      return job;
    },
    cancel(id, gracefully) {
      const job = jobs.get(id);
      if (job?.status !== "running") return;
      job.cancelRequested = true;
      job.status = gracefully ? "canceling" : "canceled";
    },
    goDown: (untilAt) => {
      downUntil = untilAt;
    },
  };
}
