/**
 * Who serves images to guests: the keeper of images, which reads registries in the guest's name and by its way. The relay knows who asks, and what
 * its pool lets it reach; of images and registries it knows nothing.
 */
import type { Secret } from "../../base/secret.ts";
import type { Dialer } from "../egress/egress-dialer.ts";
import type { Destination, Target } from "../egress/egress-policy.ts";

/** All throw Refusal: 401 or 403 where the registry gives it to nobody, or not to this login; 404; 502 and 503 where it cannot be had. */
export interface RegistryMirror {
  /** A manifest or an index. */
  manifest(request: MirrorRequest): Promise<MirrorAnswer>;
  blob(request: MirrorRequest): Promise<MirrorAnswer>;
}

export interface MirrorRequest {
  /** With its registry, as names have it: `docker.io/library/node`. Not checked. */
  readonly image: string;
  /** A tag, or `sha256:` and 64 digits; for blobs always the latter. */
  readonly reference: string;
  /** Nothing but the head is wanted. */
  readonly isHead: boolean;
  /** Of a blob: the first byte that is wanted. */
  readonly from: number;
  /** Which documents the client takes, as it says it. */
  readonly accept: string | undefined;
  /** What the client sent. */
  readonly login: { readonly username: string; readonly password: Secret } | undefined;
  readonly job: MirrorJob;
  readonly ways: GuestWays;
  /** Counts bytes that are kept in memory for the request. Throws Refusal 503 when there is no room for them. */
  hold(bytes: number): void;
  readonly signal: AbortSignal;
}

export interface MirrorJob {
  /** The same for all requests of one machine: what is known of it is forgotten with it. */
  readonly machine: object;
  /** As GitLab sent it. */
  readonly payload: string;
  /** What its pool gives every job, as `NAME=VALUE`. */
  readonly environment: readonly string[];
  /** Images that its pool may have with FireRunner's own login. */
  readonly allow: readonly string[];
  /** Images that its machine pulls since the job names them: these it gets whatever its pool's egress is. */
  readonly pulled: readonly PulledImage[];
}

export interface PulledImage {
  /** In full: `docker.io/library/node:24`. */
  readonly name: string;
  /** The operator has named it: it may be had with FireRunner's own login, and from any address. */
  readonly isTrusted: boolean;
}

export interface MirrorAnswer {
  readonly digest: string;
  readonly mediaType: string;
  /** Of the whole. Undefined where the registry does not say. */
  readonly bytes: number | undefined;
  /** The first byte of the body. */
  readonly from: number;
  /** Undefined when only the head was wanted. */
  readonly body: Uint8Array | AsyncIterable<Uint8Array> | undefined;
}

/** One guest's ways to other servers, by the rules of its pool. */
export interface GuestWays {
  /** To a registry that it names. Throws EgressRefusal 403. */
  permit(target: Target): Promise<Destination>;
  /** To where such a registry sends its clients on: its token service, and where it keeps its blobs. Throws EgressRefusal 403. */
  permitBehind(target: Target): Promise<Destination>;
  /** Goes there, and writes it down. Throws EgressRefusal. */
  reach<T>(destination: Destination, by: (dialer: Dialer) => Promise<T>): Promise<T>;
}
