/** What a push needs of a registry (OCI distribution specification). */

import type { Clock } from "../../base/clock.ts";
import type { Credentials } from "./credential-helper.ts";
import { isThere, refusal } from "./failure.ts";
import { createManifests, type Manifests, writing } from "./manifests.ts";
import { withRetries } from "./retry.ts";
import { createSession, type RegistryRequest } from "./session.ts";
import type { Transport } from "./transport.ts";
import { uploadBlob } from "./upload.ts";
import type { Blob } from "./upload-calls.ts";

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
