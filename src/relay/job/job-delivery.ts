import type { Clock } from "../../base/clock.ts";
import type { GitLabHttp } from "../../gitlab/http.ts";
import type { Job, JobStore, Machine, MachineStore } from "../../store/store.ts";
import { Refusal } from "../errors.ts";
import { type Exchange, readJsonObject, relayHostOf, reply } from "../gateway/exchange.ts";
import type { Guest, JobSession } from "../gateway/guest.ts";
import type { PulledImages } from "../mirror/registry-mirror.ts";
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
  readonly inContainers: (machine: Machine) => Promise<boolean>;
  readonly pulledImages: PulledImages;
  /** Why machines of this image (its digest) keep no caches, in words for the log; undefined where they do. */
  readonly whyNoCaches: (image: string) => Promise<string | undefined>;
  /** Under which span the job may hang its own, as TRACEPARENT says it; undefined where it is not to know. */
  readonly traceparentOf: (job: Job) => Promise<string | undefined>;
  /** Called when the guest has been given the job: its trace may begin. */
  readonly onDelivered: (guest: Guest, session: JobSession) => void;
}

interface Delivery {
  readonly job: Job;
  readonly inContainers: boolean;
  /** In containers, and its machine has all their images. */
  readonly hasImages: boolean;
  /** Undefined where caches are kept. */
  readonly whyNoCaches: string | undefined;
  readonly traceparent: string | undefined;
  readonly payload: string;
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
    const payload = rewritePayload(delivery.payload, { ...wayOf(http, relayHost), ...rewriteOf(delivery) });
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
    if (job.state !== "starting" && job.state !== "running") return undefined;
    const traceparent = await options.traceparentOf(job);
    const given = { job, payload, traceparent, ...(await outfitOf(options, machine)) };
    if (job.state === "running") return await redelivery(guest, given);
    return await handOver(guest, machine, given);
  }

  async function handOver(guest: Guest, machine: Machine, given: Delivery): Promise<Delivery | undefined> {
    const { job } = given;
    // A guest that speaks proves that its process runs, also when the driver has not said so yet.
    if (machine.state === "creating") await store.markBooting(machine.id);
    await store.markReady(machine.id);
    const ready = (await store.machine(machine.id)) ?? machine;
    const head = composeTraceHead({ ...given, machine: ready, now: clock.now() });
    if (head !== "") await store.addTraceHead(job.id, head);
    if (!(await store.handOver(job.id, machine.id))) return undefined;
    return await begin(guest, given);
  }

  async function redelivery(guest: Guest, given: Delivery): Promise<Delivery | undefined> {
    const { job, payload } = given;
    guest.session ??= sessionOf(job, payload);
    if (guest.session.isTokenSeen || !mayBeLost(guest)) return undefined;
    guest.log.write("info", "payload", { jobId: job.id }, "payload served again");
    return await begin(guest, given);
  }

  function mayBeLost({ delivery }: Guest): boolean {
    if (delivery === undefined) return true;
    return delivery.sentAt !== undefined && clock.now() - delivery.sentAt >= redeliverAfterMs;
  }

  async function begin(guest: Guest, given: Delivery): Promise<Delivery | undefined> {
    const { payload } = given;
    const job = await store.job(given.job.id);
    if (job === undefined) return undefined;
    guest.session ??= sessionOf(job, payload);
    guest.delivery = { sentAt: undefined };
    options.onDelivered(guest, guest.session);
    return { ...given, job };
  }

  return requestJob;
}

async function outfitOf(
  { inContainers, pulledImages, whyNoCaches }: JobDeliveryOptions,
  machine: Machine,
): Promise<Pick<Delivery, "inContainers" | "hasImages" | "whyNoCaches">> {
  const isInContainers = await inContainers(machine);
  return {
    inContainers: isInContainers,
    hasImages: isInContainers && (await pulledImages(machine)).length === 0,
    whyNoCaches: await whyNoCaches(machine.image),
  };
}

function rewriteOf({ hasImages, whyNoCaches, traceparent }: Delivery) {
  return { hasImages, traceparent, withoutCaches: whyNoCaches !== undefined };
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

function wayOf(http: GitLabHttp, relayHost: string): PayloadRewrite {
  const { origin, basePath } = http;
  return { origin, basePath, relayHost, authorities: handedOn(http.authorities()) };
}

/** Undefined when there are none, or more than a private network has: a copy of the system's whole bundle says nothing of GitLab. */
function handedOn(authorities: readonly string[]): string | undefined {
  const pem = authorities.join("\n");
  return pem === "" || pem.length > LARGEST_AUTHORITIES_BYTES ? undefined : pem;
}
