/**
 * Whether registries still have what hosts are told to pull. Asked without a login, as a host asks, and on the way that a push from here
 * takes: through the same proxy, with the same authorities, with or without TLS.
 */
import { systemClock } from "../base/clock.ts";
import { startDeadline } from "../base/deadline.ts";
import { describeError } from "../base/errors.ts";
import type { ProxyRoutes } from "../base/proxy/routes.ts";
import type { AskRegistry, ImagePresence, PushedBy } from "../domain/images.ts";
import { isLocalRegistry } from "./reference.ts";
import { createSession, createTransport, type RegistrySession } from "./session.ts";

const LIMIT_MS = 10_000;
const manifestTypes = [
  "application/vnd.oci.image.manifest.v1+json",
  "application/vnd.oci.image.index.v1+json",
  "application/vnd.docker.distribution.manifest.v2+json",
  "application/vnd.docker.distribution.manifest.list.v2+json",
].join(", ");

/** Answers, of the two images, for the one with the worse answer. */
export function registryAsker({ proxies }: { readonly proxies?: ProxyRoutes | undefined }): AskRegistry {
  return async ({ kernel, root, registry, pushed, cloudInit }, signal) => {
    const own = { registryHere: registry, proxies, ...pushed };
    // A root of other people lies where its maker has put it.
    const ofRoot = cloudInit ? { registryHere: registry, proxies } : own;
    const answers = await Promise.all([ask(kernel, own, signal), ask(root, ofRoot, signal)]);
    signal.throwIfAborted();
    const worst = (["gone", "locked", "unknown"] as const).find((state) =>
      answers.some((answer) => answer.state === state),
    );
    return answers.find(({ state }) => state === worst) ?? { state: "there", words: "the registry has it" };
  };
}

interface Way extends PushedBy {
  /** What this computer calls a registry that is local to hosts. */
  readonly registryHere: string | undefined;
  readonly proxies: ProxyRoutes | undefined;
}

async function ask(
  image: string,
  { registryHere, ...way }: Way,
  parent: AbortSignal,
): Promise<ImagePresence> {
  const [, host = "", repository = "", reference = "latest"] =
    /^([^/]+)\/([^@]+?)(?:[@:]((?:sha256:)?[\w.-]+))?$/.exec(image) ?? [];
  // A host's own registry, which is another one than this computer's.
  const registry = isLocalRegistry(host) ? registryHere : host;
  if (registry === undefined)
    return unknown(`${image} is in a registry of the host's own, which cannot be asked from here`);
  const limit = startDeadline(systemClock, LIMIT_MS, parent);
  let session: RegistrySession | undefined;
  try {
    const transport = createTransport({ registry, ...way });
    session = createSession({ transport, credentials: async () => undefined, signal: limit.signal });
    const { status } = await session.send({
      method: "HEAD",
      url: `/v2/${repository}/manifests/${reference}`,
      scopes: [`repository:${repository}:pull`],
      headers: { accept: manifestTypes },
      doing: `looking for ${image}`,
    });
    return judge(image, registry, status);
  } catch (error) {
    const isLocked = (error as { code?: unknown }).code === "registry_unauthorized";
    return isLocked ? locked(image, registry) : unknown(describeError(error));
  } finally {
    limit.clear();
    await session?.close();
  }
}

function judge(image: string, registry: string, status: number): ImagePresence {
  // Some registries point to where it is.
  if (status >= 200 && status < 400) return { state: "there", words: `${registry} has ${image}` };
  if (status === 404)
    return { state: "gone", words: `the registry ${registry} does not have ${image} any more` };
  if (status === 401 || status === 403) return locked(image, registry);
  return unknown(`the registry ${registry} answers ${status} when it is asked for ${image}`);
}

function locked(image: string, registry: string): ImagePresence {
  return {
    state: "locked",
    words: `the registry ${registry} gives ${image} to nobody without a login, and hosts have none`,
  };
}

function unknown(why: string): ImagePresence {
  return { state: "unknown", words: why };
}
