import { createCipheriv } from "node:crypto";
import { systemClock } from "../../src/base/clock.ts";
import { directRoutes } from "../../src/base/proxy/routes.ts";
import { Secret } from "../../src/base/secret.ts";
import { MIB_BYTES } from "../../src/base/units.ts";
import { type ImageProgress, type JobImages, openJobImages } from "../../src/containers/job-images.ts";
import type { PullPolicy } from "../../src/containers/resolve.ts";
import type { Credentials } from "../../src/registry/credentials.ts";
import { imageOf, tarOf } from "../builders/layer.ts";
import { temporaryDirectory } from "../builders/temporary-directory.ts";
import { type ImageRegistry, startImageRegistry } from "../servers/image-registry.ts";

/** Caches of job images and the registries that they are filled from. */
export interface JobImagesFixture extends AsyncDisposable {
  /** What goes when the fixture is disposed of; it can be filled and disposed of again for the next test. */
  readonly open: AsyncDisposable[];
  /** How long was slept: pauses take no time, and the clock goes on by them. */
  readonly sleeps: number[];
  /** A registry, and an empty cache in a directory of its own. */
  start(login?: {
    username: string;
    password: string;
  }): Promise<{ readonly registry: ImageRegistry; readonly images: JobImages; readonly directory: string }>;
  /** A cache in a directory that is there. */
  opened(directory: string, sizeBytes?: number): Promise<JobImages>;
}

/** Dispose of it in afterEach. */
export function aJobImagesFixture(): JobImagesFixture {
  const open: AsyncDisposable[] = [];
  const sleeps: number[] = [];
  const clock = {
    now: () => systemClock.now() + sleeps.reduce((sum, ms) => sum + ms, 0),
    sleep: async (ms: number) => void sleeps.push(ms),
  };

  async function start(login?: { username: string; password: string }) {
    sleeps.length = 0;
    const directory = await temporaryDirectory();
    const registry = await startImageRegistry(login ? { login } : {});
    open.push(directory, registry);
    const images = await opened(directory.path);
    return { registry, images, directory: directory.path };
  }

  async function opened(directory: string, sizeBytes = 1_000 * MIB_BYTES): Promise<JobImages> {
    const options = {
      directory,
      sizeBytes,
      minFreeBytes: 0,
      registries: new Map(),
      proxies: directRoutes,
      clock,
    };
    const images = await openJobImages(options);
    let isOpen = true;
    const close = async () => {
      if (isOpen) await images.close();
      isOpen = false;
    };
    open.push({ [Symbol.asyncDispose]: close });
    return { ...images, close };
  }

  return {
    ...{ open, sleeps, start, opened },
    async [Symbol.asyncDispose]() {
      for (const each of open.splice(0).reverse()) await each[Symbol.asyncDispose]();
    },
  };
}

const random = (bytes: number, seed: number) =>
  createCipheriv("aes-128-ctr", Buffer.alloc(16, seed), Buffer.alloc(16)).update(Buffer.alloc(bytes));
export const layer = (name: string, bytes = 50_000) =>
  tarOf([{ path: name, content: random(bytes, name.length) }]);
export const simple = imageOf([layer("a"), layer("bb")]);

interface Asking {
  readonly policy?: PullPolicy;
  readonly login?: Credentials;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: ImageProgress) => void;
  readonly patienceMs?: number;
}

/** The one image of that name. */
export async function prepare(images: JobImages, name: string, asking: Asking = {}) {
  const {
    policy = "always",
    login,
    signal = AbortSignal.timeout(60_000),
    patienceMs = 60_000,
    onProgress,
  } = asking;
  const credentials = () => login;
  const given = { signal, patienceMs, credentials, ...(onProgress ? { onProgress } : {}) };
  const [image] = await images.prepare([{ name, policy, isTrusted: true }], given);
  if (image === undefined) throw new Error("nothing was prepared");
  return image;
}

export const password = (text: string): Credentials => ({
  kind: "password",
  username: "me",
  password: new Secret(text),
});
