/**
 * The relay, reduced to what it does to the store and to GitLab: the real one is HTTP over sockets, which no manual clock can
 * drive. What it decides, and in which order it makes things durable, is the same.
 */
import type { Clock } from "../../src/base/clock.ts";
import { Secret } from "../../src/base/secret.ts";
import type { GuestEnd } from "../../src/domain/events.ts";
import type { JobResult } from "../../src/domain/states.ts";
import type { RunnerApi } from "../../src/gitlab/runner-api.ts";
import type { GuestEndpoint } from "../../src/scheduler/ports.ts";
import type { Job, Store } from "../../src/store/store.ts";

/** What the guest sees: no connection, "later", GitLab's 403, or an answer. */
export type RelayAnswer =
  | { readonly kind: "later" }
  | { readonly kind: "over" }
  | { readonly kind: "nothing" }
  | { readonly kind: "job"; readonly jobId: number }
  | { readonly kind: "accepted"; readonly status: string | undefined };

export interface SimRelay extends GuestEndpoint {
  /** Who comes from elsewhere proves who he is. Throws where the real one would refuse the connection. */
  admit(machineId: string, secret: string | undefined, isAgain: boolean): Promise<void>;
  listening(): string[];
  requestJob(machineId: string): Promise<RelayAnswer>;
  appendTrace(machineId: string, startBytes: number, bytes: Buffer): Promise<RelayAnswer>;
  finish(machineId: string, state: "success" | "failed"): Promise<RelayAnswer>;
}

interface Guest {
  heardAt: number | undefined;
  statusAt: number | undefined;
  hasToken: boolean;
  readonly isElsewhere: boolean;
  end: GuestEnd | undefined;
}

const aGuest = { heardAt: undefined, statusAt: undefined, hasToken: false, end: undefined };

export function createSimRelay(deps: {
  readonly store: Store;
  readonly api: RunnerApi;
  readonly clock: Clock;
  readonly head: (machineId: string) => string;
}): SimRelay {
  const { store, api, clock } = deps;
  const guests = new Map<string, Guest>();

  function hear(machineId: string): Guest {
    const guest = guests.get(machineId);
    if (!guest) throw new Error("connection refused");
    guest.heardAt = clock.now();
    return guest;
  }

  async function admit(machineId: string, secret: string | undefined, isAgain: boolean): Promise<void> {
    const guest = guests.get(machineId);
    if (!guest) throw new Error("connection refused");
    if (!guest.isElsewhere) return;
    if (secret === undefined || !(await store.checkLink(machineId, secret))) throw new Error("not admitted");
    if (!isAgain) return;
    guest.end = "restarted";
    await store.note("machine:ended", { machineId }, { end: "restarted" });
    throw new Error("its disk was used before");
  }

  async function jobOf(machineId: string): Promise<Job | undefined> {
    const jobId = (await store.machine(machineId))?.jobId ?? undefined;
    const job = jobId === undefined ? undefined : await store.job(jobId);
    return job?.machineId === machineId ? job : undefined;
  }

  async function requestJob(machineId: string): Promise<RelayAnswer> {
    const guest = hear(machineId);
    await store.markHeard(machineId);
    const job = await jobOf(machineId);
    if (job?.state === "running")
      return guest.hasToken ? { kind: "nothing" } : { kind: "job", jobId: job.id };
    if (job?.state !== "starting") return { kind: "nothing" };
    if ((await store.machine(machineId))?.state === "creating") await store.markBooting(machineId);
    await store.markReady(machineId);
    if (!job.traceHead.includes(deps.head(machineId))) await store.addTraceHead(job.id, deps.head(machineId));
    if (!(await store.handOver(job.id, machineId))) return { kind: "nothing" };
    return { kind: "job", jobId: job.id };
  }

  async function finishJob(jobId: number, status: string | undefined, otherwise: JobResult): Promise<void> {
    const isResult = status === "success" || status === "failed" || status === "canceled";
    await store.finishJob(jobId, isResult ? status : otherwise);
  }

  async function appendTrace(machineId: string, startBytes: number, bytes: Buffer): Promise<RelayAnswer> {
    const guest = hear(machineId);
    const job = await jobOf(machineId);
    if (job?.state === "failing") return { kind: "later" };
    if (job?.state !== "running") return { kind: "over" };
    guest.hasToken = true;
    const jobToken = new Secret(JSON.parse((await store.payload(job.id)) ?? "{}").token);
    const head = Buffer.from(job.traceHead);
    const whole = startBytes === 0 ? Buffer.concat([head, bytes]) : bytes;
    let fromBytes = startBytes === 0 ? 0 : head.length + startBytes;
    const endBytes = fromBytes + whole.length;
    for (let tries = 0; tries < 3; tries++) {
      const rest = whole.subarray(whole.length - (endBytes - fromBytes));
      const answer = await api.appendTrace({ jobId: job.id, jobToken, startBytes: fromBytes, bytes: rest });
      if (answer.kind === "unavailable") return { kind: "later" };
      guest.statusAt = clock.now();
      if (answer.kind === "elsewhere" && answer.sizeBytes > fromBytes && answer.sizeBytes <= endBytes) {
        fromBytes = answer.sizeBytes;
        continue;
      }
      if (answer.kind === "accepted") {
        await store.setTraceSize(job.id, answer.sizeBytes);
        return { kind: "accepted", status: answer.status };
      }
      if (answer.kind === "over") await finishJob(job.id, answer.status, "unknown");
      return answer.kind === "over" ? { kind: "over" } : { kind: "later" };
    }
    return { kind: "later" };
  }

  async function finish(machineId: string, state: "success" | "failed"): Promise<RelayAnswer> {
    const guest = hear(machineId);
    const job = await jobOf(machineId);
    if (job?.state === "failing") return { kind: "later" };
    if (job?.state !== "running") return { kind: "over" };
    guest.hasToken = true;
    const jobToken = new Secret(JSON.parse((await store.payload(job.id)) ?? "{}").token);
    const reason = state === "failed" ? { failureReason: "script_failure" } : {};
    const answer = await api.updateJob({ jobId: job.id, jobToken, state, ...reason });
    if (answer.kind === "unavailable" || answer.kind === "again") return { kind: "later" };
    guest.statusAt = clock.now();
    await finishJob(job.id, answer.status, answer.kind === "over" ? "unknown" : state);
    return answer.kind === "over" ? { kind: "over" } : { kind: "accepted", status: answer.status };
  }

  return {
    open: async (machineId, socketPath) => {
      const isElsewhere = socketPath === undefined;
      if (!guests.has(machineId)) guests.set(machineId, { ...aGuest, isElsewhere });
    },
    close: async (machineId) => {
      guests.delete(machineId);
    },
    async link(machineId) {
      const secret = await store.issueLink(machineId);
      if (!secret) throw new Error("the machine is not to be made any more");
      return { address: "relay:443", serverName: "relay", ca: "", secret };
    },
    endOf: (machineId) => guests.get(machineId)?.end,
    lastHeardAt: (machineId) => guests.get(machineId)?.heardAt,
    lastStatusAt: (machineId) => guests.get(machineId)?.statusAt,
    // The simulated runner hears at its next request, as one does whose machine cannot hurry it.
    tellCanceling: () => {},
    admit,
    listening: () => [...guests.keys()],
    requestJob,
    appendTrace,
    finish,
  };
}
