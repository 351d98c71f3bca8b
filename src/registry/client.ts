/**
 * What a push needs of a registry (OCI distribution specification): which blobs it has, uploading them (upload.ts), and manifests.
 * session.ts sends the requests; holding.ts asks whether an image is still there.
 */
import type { Clock } from "../base/clock.ts";
import type { Credentials } from "./credentials.ts";
import { isThere, refusal } from "./errors.ts";
import {
  createSession,
  type RegistryRequest,
  type RegistrySession,
  type Transport,
  withRetries,
} from "./session.ts";
import { type Blob, uploadBlob } from "./upload.ts";

/** A JSON document of an image, as it is sent. */
export interface OciDocument {
  readonly mediaType: string;
  readonly digest: string;
  readonly body: Buffer;
}

export interface RegistryClient extends Manifests {
  /** One request, once: is this a registry, and does it let us in with a view to writing to these repositories? Throws RegistryError. */
  check(repositories: readonly string[]): Promise<void>;
  hasBlob(repository: string, digest: string): Promise<boolean>;
  /** Lets the repository have a blob that another one of this registry has. False when that cannot be. */
  mountBlob(repository: string, digest: string, from: string): Promise<boolean>;
  upload(repository: string, blob: Blob, onBytes: (sent: number) => void): Promise<void>;
  close(): Promise<void>;
}

interface Deps {
  readonly transport: Transport;
  readonly credentials: () => Promise<Credentials | undefined>;
  readonly clock: Clock;
  readonly signal?: AbortSignal | undefined;
  readonly chunkBytes?: number;
}

export function createRegistryClient(deps: Deps): RegistryClient {
  const session = createSession(deps);
  const { origin } = session;
  const send = (request: RegistryRequest) =>
    withRetries(deps, async () => {
      const answer = await session.send(request);
      if (answer.status === 429 || answer.status >= 500) throw refusal(answer, origin, request.doing);
      return answer;
    });

  async function check(repositories: readonly string[]): Promise<void> {
    const doing = "looking at the registry";
    const answer = await session.send({
      method: "GET",
      url: "/v2/",
      scopes: repositories.map(writing),
      doing,
    });
    if (answer.status !== 200) throw refusal(answer, origin, doing);
  }

  async function hasBlob(repository: string, digest: string): Promise<boolean> {
    const doing = `looking for ${digest.slice(0, 19)} in ${repository}`;
    const url = `/v2/${repository}/blobs/${digest}`;
    const answer = await send({ method: "HEAD", url, scopes: [writing(repository)], doing });
    // Some registries point to where the bytes are instead of giving them.
    return isThere(answer, origin, doing) || (answer.status >= 300 && answer.status < 400);
  }

  async function mountBlob(repository: string, digest: string, from: string): Promise<boolean> {
    const query = new URLSearchParams({ mount: digest, from });
    const answer = await send({
      method: "POST",
      url: `/v2/${repository}/blobs/uploads/?${query}`,
      scopes: [writing(repository), `repository:${from}:pull`],
      headers: { "content-length": "0" },
      doing: `taking ${digest.slice(0, 19)} over from ${from}`,
    });
    return answer.status === 201;
  }

  return {
    check,
    hasBlob,
    mountBlob,
    upload: (repository, blob, onBytes) =>
      uploadBlob({ ...deps, session }, { repository, scopes: [writing(repository)], blob, onBytes }),
    ...createManifests({ origin, send }),
    close: session.close,
  };
}

interface Manifests {
  /** The digest of what a tag or a digest stands for, if it is there. */
  manifestDigest(repository: string, reference: string): Promise<string | undefined>;
  putManifest(repository: string, reference: string, manifest: OciDocument): Promise<void>;
}

function createManifests({ origin, send }: Pick<RegistrySession, "origin" | "send">): Manifests {
  async function manifestDigest(repository: string, reference: string): Promise<string | undefined> {
    const doing = `looking for ${repository}:${reference}`;
    const answer = await send({
      method: "HEAD",
      url: `/v2/${repository}/manifests/${reference}`,
      scopes: [writing(repository)],
      headers: { accept: "application/vnd.oci.image.manifest.v1+json" },
      doing,
    });
    return isThere(answer, origin, doing) ? answer.header("docker-content-digest") : undefined;
  }

  async function putManifest(repository: string, reference: string, manifest: OciDocument): Promise<void> {
    const doing = `pushing ${repository}:${reference}`;
    const answer = await send({
      method: "PUT",
      url: `/v2/${repository}/manifests/${reference}`,
      scopes: [writing(repository)],
      headers: { "content-type": manifest.mediaType },
      body: () => manifest.body,
      doing,
    });
    if (answer.status !== 201) throw refusal(answer, origin, doing);
  }

  return { manifestDigest, putManifest };
}

/** The scope of a token for pushing. */
function writing(repository: string): string {
  return `repository:${repository}:pull,push`;
}
