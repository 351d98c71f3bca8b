/** Whether registries still have what hosts are told to pull. Asked as a host asks: without a login. */
import { describeError } from "../../base/errors.ts";
import type { Holding, PublishedImage } from "../../lifecycle/boot-image.ts";
import { isLocalRegistry } from "./reference.ts";
import { createSession } from "./session.ts";
import { createTransport } from "./transport.ts";

const LIMIT_MS = 10_000;
const manifestTypes = [
  "application/vnd.oci.image.manifest.v1+json",
  "application/vnd.oci.image.index.v1+json",
  "application/vnd.docker.distribution.manifest.v2+json",
  "application/vnd.docker.distribution.manifest.list.v2+json",
].join(", ");

/** Of the two images the one with the worse answer. Throws only when `signal` aborts. */
export async function askRegistry(published: PublishedImage, signal: AbortSignal): Promise<Holding> {
  const { kernel, root, registry } = published;
  const answers = await Promise.all([kernel, root].map((image) => ask(image, registry, signal)));
  signal.throwIfAborted();
  const worst = (["gone", "locked", "unknown"] as const).find((state) =>
    answers.some((answer) => answer.state === state),
  );
  return answers.find(({ state }) => state === worst) ?? { state: "there", words: "the registry has it" };
}

async function ask(image: string, registryHere: string | undefined, parent: AbortSignal): Promise<Holding> {
  const [, host = "", repository = "", reference = "latest"] =
    /^([^/]+)\/([^@]+?)(?:[@:]((?:sha256:)?[\w.-]+))?$/.exec(image) ?? [];
  // A host's own registry, which is another one than this computer's.
  const registry = isLocalRegistry(host) ? registryHere : host;
  if (registry === undefined)
    return unknown(`${image} is in a registry of the host's own, which cannot be asked from here`);
  const signal = AbortSignal.any([parent, AbortSignal.timeout(LIMIT_MS)]);
  const session = createSession({
    transport: createTransport({ registry }),
    credentials: async () => undefined,
    signal,
  });
  try {
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
    await session.close();
  }
}

function judge(image: string, registry: string, status: number): Holding {
  // Some registries point to where it is.
  if (status >= 200 && status < 400) return { state: "there", words: `${registry} has ${image}` };
  if (status === 404)
    return { state: "gone", words: `the registry ${registry} does not have ${image} any more` };
  if (status === 401 || status === 403) return locked(image, registry);
  return unknown(`the registry ${registry} answers ${status} when it is asked for ${image}`);
}

function locked(image: string, registry: string): Holding {
  return {
    state: "locked",
    words: `the registry ${registry} gives ${image} to nobody without a login, and hosts have none`,
  };
}

function unknown(why: string): Holding {
  return { state: "unknown", words: why };
}
