import type { OciDocument } from "../oci/documents.ts";
import { isThere, refusal } from "./failure.ts";
import type { RegistrySession } from "./session.ts";

export interface Manifests {
  /** The digest of what a tag or a digest stands for, if it is there. */
  manifestDigest(repository: string, reference: string): Promise<string | undefined>;
  putManifest(repository: string, reference: string, manifest: OciDocument): Promise<void>;
}

export function createManifests({ origin, send }: Pick<RegistrySession, "origin" | "send">): Manifests {
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
export function writing(repository: string): string {
  return `repository:${repository}:pull,push`;
}
