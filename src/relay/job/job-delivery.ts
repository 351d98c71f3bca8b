import type { Clock } from "../../base/clock.ts";
import type { GitLabHttp } from "../../gitlab/http.ts";
import type { Job, JobStore, Machine, MachineStore } from "../../store/store.ts";
import { Refusal } from "../errors.ts";
import { type Exchange, readJsonObject, relayHostOf, reply } from "../gateway/exchange.ts";
import type { Guest, JobSession } from "../gateway/guest.ts";
import { isSecret, sessionOf } from "./job-session.ts";
import { type PayloadRewrite, rewritePayload } from "./payload.ts";
import { composeTraceHead } from "./trace.ts";

const LARGEST_AUTHORITIES_BYTES = 32 * 1024;
const MAX_BODY_BYTES = 64 * 1024;

export interface JobDeliveryOptions {
  readonly store: JobStore & MachineStore;
  readonly http: GitLabHttp;
  readonly clock: Clock;
  readonly redeliverAfterMs: number;
  /** Why machines of this image (its digest) keep no caches, in words for the log; undefined where they do. */
  readonly whyNoCaches: (image: string) => Promise<string | undefined>;
  /** Called when the guest has been given the job: its trace may begin. */
  readonly onDelivered: (guest: Guest, session: JobSession) => void;
}

interface Delivery {
  readonly payload: string;
  /** The machine's. */
  readonly image: string;
}

/**
 * `POST /jobs/request`: a machine gets the payload of its own job, once. Only when it is not certain that the payload arrived (the
 * connection died first, or this program did) and the job's token was never used, the same payload is served again.
 */
export function createJobDelivery(options: JobDeliveryOptions): (exchange: Exchange) => Promise<void> {
  const { store, http, clock, redeliverAfterMs } = options;

  async function requestJob(exchange: Exchange): Promise<void> {
    const { guest, request, response } = exchange;
    const { token } = await readJsonObject(exchange, MAX_BODY_BYTES);
    if (typeof token !== "string" || !isSecret(store.machineToken(guest.machineId), token)) {
      throw new Refusal(403, "403 Forbidden", { rule: "wrong-machine-token" });
    }
    const relayHost = relayHostOf(request);
    const delivery = await guest.exclusively(() => nextDelivery(guest));
    if (delivery === undefined) return reply(response, 204, {});
    const hasCaches = (await options.whyNoCaches(delivery.image)) === undefined;
    const payload = rewritePayload(delivery.payload, { ...wayOf(http, relayHost), hasCaches });
    exchange.hold(payload.length);
    deliver(exchange, payload, clock);
  }

  async function nextDelivery(guest: Guest): Promise<Delivery | undefined> {
    const machine = await store.machine(guest.machineId);
    if (machine?.jobId == null) return undefined;
    const job = await store.job(machine.jobId);
    if (job?.machineId !== machine.id) return undefined;
    const payload = await store.payload(job.id);
    if (payload === undefined) return undefined;
    if (job.state === "starting") return await handOver(guest, machine, job, payload);
    return job.state === "running" ? redelivery(guest, machine, job, payload) : undefined;
  }

  async function handOver(guest: Guest, machine: Machine, job: Job, payload: string) {
    // A guest that speaks proves that its process runs, also when the driver has not said so yet.
    if (machine.state === "creating") await store.markBooting(machine.id);
    await store.markReady(machine.id);
    const ready = (await store.machine(machine.id)) ?? machine;
    const whyNoCaches = await options.whyNoCaches(machine.image);
    const head = composeTraceHead(job, { machine: ready, payload, whyNoCaches, now: clock.now() });
    if (head !== "") await store.addTraceHead(job.id, head);
    if (!(await store.handOver(job.id, machine.id))) return undefined;
    return await begin(guest, machine, job.id, payload);
  }

  async function redelivery(guest: Guest, machine: Machine, job: Job, payload: string) {
    guest.session ??= sessionOf(job, payload);
    if (guest.session.isTokenSeen || !mayBeLost(guest)) return undefined;
    guest.log.write("info", "payload", { jobId: job.id }, "payload served again");
    return await begin(guest, machine, job.id, payload);
  }

  function mayBeLost({ delivery }: Guest): boolean {
    if (delivery === undefined) return true;
    return delivery.sentAt !== undefined && clock.now() - delivery.sentAt >= redeliverAfterMs;
  }

  async function begin(
    guest: Guest,
    { image }: Machine,
    jobId: number,
    payload: string,
  ): Promise<Delivery | undefined> {
    const job = await store.job(jobId);
    if (job === undefined) return undefined;
    guest.session ??= sessionOf(job, payload);
    guest.delivery = { sentAt: undefined };
    options.onDelivered(guest, guest.session);
    return { payload, image };
  }

  return requestJob;
}

/** Sends the payload, and notes whether it got as far as the connection. */
function deliver({ guest, response }: Exchange, payload: string, clock: Clock): void {
  response.once("finish", () => {
    guest.delivery = { sentAt: clock.now() };
  });
  response.once("close", () => {
    if (!response.writableFinished) guest.delivery = undefined;
  });
  // The guest may be gone before we could listen.
  if (response.destroyed) guest.delivery = undefined;
  reply(response, 201, { "content-type": "application/json" }, payload);
}

function wayOf(http: GitLabHttp, relayHost: string): Omit<PayloadRewrite, "hasCaches"> {
  const { origin, basePath } = http;
  return { origin, basePath, relayHost, authorities: handedOn(http.authorities()) };
}

/** Undefined when there are none, or more than a private network has: a copy of the system's whole bundle says nothing of GitLab. */
function handedOn(authorities: readonly string[]): string | undefined {
  const pem = authorities.join("\n");
  return pem === "" || pem.length > LARGEST_AUTHORITIES_BYTES ? undefined : pem;
}
