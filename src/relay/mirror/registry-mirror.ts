/**
 * A read-only registry for what a job pulls itself, after OCI's distribution specification: the images of every registry that its pool lets it
 * reach, from the cache of this computer where the registry lets the job have them. Which registry is meant is said by `?ns=HOST`, as containerd
 * says it of mirrors, or by the first part of the name, as podman's mirrors have it (`/v2/HOST/NAME/…`, with `HOST__PORT` for `HOST:PORT`);
 * without either it is Docker Hub, which docker's mirrors stand for. A machine that pulls the images of its job gets these in any case.
 */
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { Secret } from "../../base/secret.ts";
import type { Pool } from "../../domain/pool.ts";
import type { JobStore, Machine, MachineStore } from "../../store/store.ts";
import type { Dialer } from "../egress/egress-dialer.ts";
import type { EgressGate } from "../egress/egress-gate.ts";
import { Refusal } from "../errors.ts";
import { type Exchange, relayHostOf, reply } from "../gateway/exchange.ts";
import type { Guest } from "../gateway/guest.ts";
import type { Route } from "../gateway/routes.ts";
import { basicCredentials } from "../job/gitlab-calls.ts";
import { currentSession } from "../job/job-session.ts";
import type {
  GuestWays,
  MirrorAnswer,
  MirrorJob,
  MirrorRequest,
  PulledImage,
  RegistryMirror,
} from "./port.ts";

interface MirrorOptions {
  readonly store: JobStore & MachineStore;
  /** Undefined where no images are kept. */
  readonly mirror: RegistryMirror | undefined;
  readonly pools: () => ReadonlyMap<string, Pick<Pool, "containers" | "runnerSettings">>;
  readonly pulledImages: PulledImages;
  readonly gate: EgressGate;
  readonly dialer: Dialer;
}

/** Images that the job of a machine names and that its machine pulls; none where they are on its disks. */
export type PulledImages = (machine: Machine) => Promise<readonly PulledImage[]>;

type MirrorRoute = Extract<Route, { readonly kind: `registry-${string}` }>;

const apiVersion = { "docker-distribution-api-version": "registry/2.0" };
/** Clients ask for tokens so often at most. */
const TOKEN_SECONDS = 3_600;
/** A login of nobody's. */
const ANYONE = "anyone";

export type ServeMirror = (exchange: Exchange, route: MirrorRoute) => Promise<void>;

export function createMirrorRoutes(options: MirrorOptions): ServeMirror {
  const { mirror } = options;

  async function give(exchange: Exchange, route: Extract<MirrorRoute, { readonly reference: string }>) {
    if (mirror === undefined) throw new Refusal(404, "no images are kept here");
    const isBlob = route.kind === "registry-blob";
    const request = await requestOf(options, exchange, route);
    const answer = await (isBlob ? mirror.blob(request) : mirror.manifest(request));
    await send(exchange, answer, isBlob);
  }

  return async (exchange, route) => {
    switch (route.kind) {
      case "registry-check":
        return check(exchange);
      case "registry-token":
        return giveToken(exchange);
      case "registry-other":
        throw readOnly(exchange);
      default:
        return await give(exchange, route).catch((error: unknown) => {
          throw withChallenge(error, exchange);
        });
    }
  };
}

async function requestOf(
  options: MirrorOptions,
  exchange: Exchange,
  { name, reference }: { readonly name: string; readonly reference: string },
): Promise<MirrorRequest> {
  const { guest, request, signal } = exchange;
  const ns = new URLSearchParams(exchange.query).get("ns") ?? undefined;
  return {
    image: imageNamed(name, ns),
    reference,
    isHead: request.method === "HEAD",
    from: Number(/^bytes=(\d{1,15})-\d*$/.exec(request.headers.range ?? "")?.[1] ?? 0),
    accept: request.headers.accept,
    login: loginIn(request.headers.authorization),
    job: await jobOf(options, guest),
    ways: waysOf(options, guest),
    hold: exchange.hold,
    signal,
  };
}

/** `HOST/NAME` of what is asked for. */
export function imageNamed(name: string, ns: string | undefined): string {
  if (ns !== undefined) return `${ns.toLowerCase()}/${name}`;
  const [first = "", ...rest] = name.split("/");
  const [, host = first, port] = /^(.+)__(\d{1,5})$/.exec(first) ?? [];
  const isHost = rest.length > 0 && (port !== undefined || first.includes("."));
  if (!isHost) return `docker.io/${name}`;
  return [port === undefined ? host : `${host}:${port}`, ...rest].join("/");
}

async function jobOf({ store, pools, pulledImages }: MirrorOptions, guest: Guest): Promise<MirrorJob> {
  const session = await currentSession(store, guest);
  const payload = session && (await store.payload(session.jobId));
  if (payload === undefined) throw new Refusal(404, "this machine has no job");
  const machine = await store.machine(guest.machineId);
  const pool = pools().get(machine?.pool ?? "");
  // What cannot be known any more, since its pool or image is gone, opens nothing; what the pool's egress opens stays open.
  const pulled = machine === undefined ? [] : await pulledImages(machine).catch(() => []);
  const environment = pool?.runnerSettings?.environment ?? [];
  return { machine: guest, payload, environment, allow: pool?.containers.allow ?? [], pulled };
}

function waysOf({ gate, dialer }: MirrorOptions, guest: Guest): GuestWays {
  return {
    permit: async (target) => (await gate.permit(guest, target)).destination,
    permitBehind: (target) => gate.permitBehind(guest, target),
    reach: (destination, by) => gate.audited(guest, destination, () => by(dialer)),
  };
}

async function send({ request, response }: Exchange, answer: MirrorAnswer, isBlob: boolean): Promise<void> {
  const { digest, mediaType, bytes, from, body } = answer;
  const isPart = from > 0 && bytes !== undefined;
  response.writeHead(isPart ? 206 : 200, {
    ...apiVersion,
    "content-type": mediaType,
    "docker-content-digest": digest,
    ...(bytes === undefined ? {} : { "content-length": bytes - from }),
    ...(isPart ? { "content-range": `bytes ${from}-${bytes - 1}/${bytes}` } : {}),
    ...(isBlob && bytes !== undefined ? { "accept-ranges": "bytes" } : {}),
  });
  if (body === undefined || request.method === "HEAD" || body instanceof Uint8Array) {
    response.end(body);
    return;
  }
  // A break on either side breaks the other: a cut blob must not look whole.
  await pipeline(Readable.from(body, { objectMode: false }), response).catch(() => {});
}

/** Clients learn here how to log in. Who has no login gets a token for nobody. */
function check({ request, response }: Exchange): void {
  const isKnown = request.headers.authorization !== undefined;
  const headers = {
    ...apiVersion,
    "content-type": "application/json",
    ...(isKnown ? {} : { "www-authenticate": challengeOf(request) }),
  };
  const told = { errors: [{ code: "UNAUTHORIZED", message: "ask for a token; it needs no login" }] };
  reply(response, isKnown ? 200 : 401, headers, JSON.stringify(isKnown ? {} : told));
}

function challengeOf(request: Exchange["request"]): string {
  return `Bearer realm="http://${relayHostOf(request)}/firerunner/registry-token",service="firerunner"`;
}

/** It holds what the client has just sent, and is read by us alone: nothing is kept for it. */
function giveToken({ request, response }: Exchange): void {
  const [username = "", password = ""] = basicCredentials(request.headers.authorization) ?? [];
  const token = username === "" ? ANYONE : Buffer.from(`${username}:${password}`).toString("base64url");
  const body = { token, access_token: token, expires_in: TOKEN_SECONDS };
  reply(
    response,
    200,
    { "content-type": "application/json", "cache-control": "no-store" },
    JSON.stringify(body),
  );
}

/** Throws Refusal 401 for a token that is none of ours. */
export function loginIn(authorization: string | undefined): MirrorRequest["login"] {
  if (authorization === undefined || authorization === `Bearer ${ANYONE}`) return undefined;
  const token = /^Bearer ([\w-]+)$/i.exec(authorization)?.[1];
  const [username, password] =
    (token === undefined
      ? basicCredentials(authorization)
      : basicCredentials(`Basic ${Buffer.from(token, "base64url").toString("base64")}`)) ?? [];
  if (username === undefined || password === undefined)
    throw new Refusal(401, "that is no login of this mirror's: ask for a token, as it says");
  return username === "" ? undefined : { username, password: new Secret(password) };
}

function withChallenge(error: unknown, { request }: Exchange): unknown {
  if (!(error instanceof Refusal) || error.status !== 401) return error;
  const headers = { ...error.headers, "www-authenticate": challengeOf(request) };
  return new Refusal(401, error.message, { headers, cause: error });
}

function readOnly({ request: { method } }: Exchange): Refusal {
  return method === "GET" || method === "HEAD"
    ? new Refusal(
        404,
        "this mirror gives manifests and blobs, by names that registries have, and nothing else",
      )
    : new Refusal(405, "this mirror is read-only: push to the registry itself", {
        headers: { allow: "GET, HEAD" },
      });
}
