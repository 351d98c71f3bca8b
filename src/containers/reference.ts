/** Names of container images, filled up as docker does: `node` is `docker.io/library/node:latest`. */
import { ContainerError } from "./errors.ts";

export interface ImageReference {
  /** As names have it: `docker.io`, `registry.example.org:5000`. */
  readonly registry: string;
  readonly repository: string;
  readonly tag: string | undefined;
  /** `sha256:…`; then the tag counts for nothing. */
  readonly digest: string | undefined;
  /** In full, as podman stores it. */
  readonly name: string;
}

const DEFAULT_REGISTRY = "docker.io";
const namePart = "[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*";
const repositoryForm = new RegExp(`^${namePart}(?:/${namePart})*$`);
const tagForm = /^\w[\w.-]{0,127}$/;
const digestForm = /^sha256:[0-9a-f]{64}$/;
const hostForm = /^(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:]+\])(?::\d{1,5})?$/i;
/** As many as registries take. */
const NAME_CHARACTERS_MAX = 255;

/** Throws `container_bad_name`. */
export function parseImageName(text: string): ImageReference {
  const [beforeDigest = "", digest, ...more] = text.split("@");
  if (more.length > 0 || (digest !== undefined && !digestForm.test(digest)))
    throw bad(text, "has a digest that is none", "digests are sha256: and 64 of 0-9 and a-f");
  const { registry, rest } = registryIn(beforeDigest);
  const colon = rest.indexOf(":");
  const given = colon < 0 ? undefined : rest.slice(colon + 1);
  const path = colon < 0 ? rest : rest.slice(0, colon);
  const repository = registry === DEFAULT_REGISTRY && !path.includes("/") ? `library/${path}` : path;
  requireForms(text, { registry, repository, tag: given });
  if (digest !== undefined)
    return { registry, repository, tag: given, digest, name: `${registry}/${repository}@${digest}` };
  const tag = given ?? "latest";
  return { registry, repository, tag, digest, name: `${registry}/${repository}:${tag}` };
}

function requireForms(
  text: string,
  { registry, repository, tag }: Pick<ImageReference, "registry" | "repository" | "tag">,
): void {
  if (!hostForm.test(registry))
    throw bad(text, `has “${registry}” as its registry`, "give HOST or HOST:PORT");
  if (!repositoryForm.test(repository) || repository.length > NAME_CHARACTERS_MAX)
    throw bad(
      text,
      `has “${repository.replace(/^library\//, "")}” as its name`,
      "names are small letters, digits, and single . _ - or / between",
    );
  if (tag !== undefined && !tagForm.test(tag))
    throw bad(text, `has “${tag}” as its tag`, "tags are letters, digits, dots, dashes and underscores");
}

/** The first part is a registry where it looks like a host. */
function registryIn(text: string): { registry: string; rest: string } {
  const slash = text.indexOf("/");
  const first = text.slice(0, Math.max(0, slash));
  const isHost = /[.:A-Z]/.test(first) || first === "localhost";
  if (!isHost) return { registry: DEFAULT_REGISTRY, rest: text };
  const registry = first.toLowerCase();
  const isDocker = registry === "index.docker.io" || registry === "registry-1.docker.io";
  return { registry: isDocker ? DEFAULT_REGISTRY : registry, rest: text.slice(slash + 1) };
}

/** Where a registry answers. */
export function serverOf(registry: string): string {
  return registry === DEFAULT_REGISTRY ? "registry-1.docker.io" : registry;
}

function bad(text: string, problem: string, hint: string): ContainerError {
  return new ContainerError("container_bad_name", `“${text}” is no container image: it ${problem}`, { hint });
}
