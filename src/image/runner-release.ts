/**
 * The official gitlab-runner. Its program is taken for what it is by one chain: the fingerprint of GitLab's key comes with this
 * program, the key signs the release's list of digests, the list names the digest of the program. All of it is kept beside the
 * program and gone through again at every use, so that a copy that was changed after its download is not taken either.
 */
import { access, chmod, constants, readFile, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import type { Clock } from "../base/clock.ts";
import { hashFile, writeFileDurably } from "../base/durable-file.ts";
import { describeError, systemCode } from "../base/errors.ts";
import type { ProxyRoutes } from "../base/proxy/routes.ts";
import { makeDirectory } from "../base/trusted-file.ts";
import { formatBytes, MIB_BYTES } from "../base/units.ts";
import { download, downloadSmall } from "./download.ts";
import { ImageError } from "./errors.ts";
import type { OnProgress } from "./progress.ts";
import { requireSignature } from "./release-signature.ts";
import release from "./runner-release.json" with { type: "json" };

export interface RunnerRelease {
  readonly version: string;
  /** Holds `<version>/release.sha256`, its signature beside it, and `<version>/binaries/`. */
  readonly mirror: string;
  readonly keyUrl: string;
  readonly keyFingerprint: string;
  /** Digests by architecture, where they are known. */
  readonly sha256: Readonly<Record<string, string | undefined>>;
}

export const RUNNER_RELEASE: RunnerRelease = release;

export interface ReleaseOptions {
  readonly architecture: string;
  /** Where downloads are kept between builds. */
  readonly directory: string;
  readonly mirror?: string | undefined;
  /** GitLab's public key; without it the key is downloaded. */
  readonly keyFile?: string | undefined;
  /** May a mirror speak HTTP without TLS, beyond this computer? */
  readonly plainHttp?: boolean;
  /** Through which proxies downloads come; by default through none. */
  readonly proxies?: ProxyRoutes | undefined;
  readonly release?: RunnerRelease;
  readonly clock: Clock;
  readonly signal?: AbortSignal | undefined;
}

export interface OfficialRunner {
  readonly path: string;
  readonly sha256: string;
}

const PROGRESS_STEP = 0.01;
const LIST_MAX_BYTES = MIB_BYTES;
const SIGNATURE_MAX_BYTES = 64 * 1024;
const KEY_MAX_BYTES = 256 * 1024;
/** The program has some 100 MB. */
const PROGRAM_MAX_BYTES = 512 * MIB_BYTES;

/**
 * The pinned gitlab-runner: the one here when all that proves it is here too, else downloaded. Throws ImageError: `image_download_…`,
 * `image_signature_wrong`, `image_key_…`.
 */
export async function officialRunner(
  options: ReleaseOptions,
  onProgress: OnProgress,
): Promise<OfficialRunner> {
  const say = (line: string) => onProgress({ phase: "runner", line });
  const cached = await cachedRunner(options, say);
  return cached ?? (await downloadRunner(options, onProgress));
}

/** Is anything of it here that could be used without the network? Says nothing of whether it is right. */
export async function isDownloaded(options: ReleaseOptions): Promise<boolean> {
  const { program, list } = placesOf(options);
  return (await isThere(list)) && (await isThere(program));
}

/** What is here already, with its whole proof. Undefined when something is missing, or is not what it was. */
async function cachedRunner(
  options: ReleaseOptions,
  say: (line: string) => void,
): Promise<OfficialRunner | undefined> {
  const { release: { version, keyFingerprint: fingerprint } = RUNNER_RELEASE, signal } = options;
  const places = placesOf(options);
  const found = await hashIfThere(places.program, signal);
  const [list, signature] = await Promise.all([places.list, places.signature].map(readIfThere));
  if (found === undefined || list === undefined || signature === undefined) return undefined;
  const key =
    options.keyFile === undefined ? await readIfThere(places.key) : await readKeyFile(options.keyFile);
  if (key === undefined) return undefined;
  const names = { list: places.list, key: options.keyFile ?? places.key };
  try {
    await requireSignature({ names, list, signature, key, fingerprint, signal });
    const sha256 = digestOf(list.toString("utf8"), options, places.list);
    if (found === sha256) return { path: places.program, sha256 };
    say(
      `The gitlab-runner ${version} in ${places.program} is not what was downloaded: it is downloaded anew`,
    );
    await rm(places.program, { force: true });
  } catch (error) {
    signal?.throwIfAborted();
    if (!(error instanceof ImageError) || error.code === "image_tools_missing") throw error;
    say(`What is here of gitlab-runner ${version} cannot be used (${error.message}): it is downloaded anew`);
  }
  return undefined;
}

async function downloadRunner(options: ReleaseOptions, onProgress: OnProgress): Promise<OfficialRunner> {
  const { clock, signal, plainHttp = false, proxies } = options;
  const { version } = options.release ?? RUNNER_RELEASE;
  const places = placesOf(options);
  const base = `${mirrorOf(options)}/${version}`;
  onProgress({ phase: "runner", line: `Downloading gitlab-runner ${version} from ${base}` });
  await makeDirectory(options.directory, 0o755);
  const list = await downloadList(`${base}/release.sha256`, options);
  const sha256 = digestOf(list, options, `${base}/release.sha256`);
  if ((await hashIfThere(places.program, signal)) !== sha256) {
    let shown = 0;
    const onBytes = (done: number, total: number | undefined) => {
      if (total === undefined || done / total < shown + PROGRESS_STEP) return;
      shown = done / total;
      const line = `gitlab-runner: ${formatBytes(done)} of ${formatBytes(total)}`;
      onProgress({ phase: "runner", fraction: shown, line });
    };
    const url = `${base}/binaries/${fileOf(options)}`;
    const maxBytes = PROGRAM_MAX_BYTES;
    const rules = { plainHttp, proxies, maxBytes };
    await download({ url, target: places.program, sha256, ...rules, clock, onBytes, signal });
  }
  await chmod(places.program, 0o755);
  return { path: places.program, sha256 };
}

/** The release's list of digests, with its signature checked; both are kept, and the key that was good for it. */
async function downloadList(url: string, options: ReleaseOptions): Promise<string> {
  const { plainHttp = false, proxies, signal } = options;
  const places = placesOf(options);
  const get = (from: string, maxBytes: number) =>
    downloadSmall({ url: from, maxBytes, plainHttp, proxies, signal });
  const list = await get(url, LIST_MAX_BYTES);
  const signature = await get(`${url}.asc`, SIGNATURE_MAX_BYTES);
  const { keyFingerprint: fingerprint } = options.release ?? RUNNER_RELEASE;
  const check = (key: Uint8Array, name: string) =>
    requireSignature({ names: { list: url, key: name }, list, signature, key, fingerprint, signal });
  if (options.keyFile !== undefined) {
    await check(await readKeyFile(options.keyFile), options.keyFile);
  } else {
    const key = await downloadKey(options);
    await check(key.bytes, key.url);
    await writeFileDurably(places.key, key.bytes);
  }
  await writeFileDurably(places.list, list);
  await writeFileDurably(places.signature, signature);
  return list.toString("utf8");
}

/** A mirror may have the key beside its releases: by its fingerprint it is as good from there as from GitLab. */
async function downloadKey(options: ReleaseOptions): Promise<{ bytes: Buffer; url: string }> {
  const { release: { keyUrl } = RUNNER_RELEASE, plainHttp = false, signal } = options;
  const rules = { maxBytes: KEY_MAX_BYTES, proxies: options.proxies, signal };
  if (options.mirror !== undefined) {
    const url = `${mirrorOf(options)}/${basename(keyUrl)}`;
    try {
      return { bytes: await downloadSmall({ url, plainHttp, ...rules }), url };
    } catch (error) {
      if (!(error instanceof ImageError) || error.code !== "image_download_failed") throw error;
    }
  }
  try {
    return { bytes: await downloadSmall({ url: keyUrl, plainHttp: false, ...rules }), url: keyUrl };
  } catch (cause) {
    if (!(cause instanceof ImageError) || cause.code !== "image_download_failed") throw cause;
    throw new ImageError(
      "image_download_failed",
      "GitLab's key, which signs the runner, could not be downloaded",
      {
        cause,
        retryable: cause.retryable,
        hint: `name a file that holds it with --runner-key FILE or images.runnerKeyFile, or put it on the mirror as ${basename(keyUrl)}`,
      },
    );
  }
}

async function readKeyFile(path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (cause) {
    throw new ImageError(
      "image_key_wrong",
      `the key file ${path} cannot be read (${systemCode(cause) ?? describeError(cause)})`,
      {
        cause,
        hint: "name a file with GitLab's public key that this user may read",
      },
    );
  }
}

/** The digest that the list, and where it holds one the pin, name for the program. Throws `image_download_wrong`. */
function digestOf(list: string, options: ReleaseOptions, name: string): string {
  const pinned = (options.release ?? RUNNER_RELEASE).sha256[options.architecture];
  const file = fileOf(options);
  const digest = digestInList(list, file);
  if (digest !== undefined && (pinned === undefined || pinned === digest)) return digest;
  throw new ImageError("image_download_wrong", `${name} does not name the expected ${file}`, {
    hint: "check the mirror: it must serve the unchanged release",
  });
}

/** `release.sha256` is what sha256sum prints: a digest, and a path that may start with `./` or `*`. */
export function digestInList(list: string, file: string): string | undefined {
  for (const line of list.split("\n")) {
    const [, digest, path] = /^([0-9a-f]{64})\s+\*?(\S+)$/.exec(line.trim()) ?? [];
    if (path?.split("/").at(-1) === file) return digest;
  }
  return undefined;
}

function mirrorOf({ mirror, release: { mirror: own } = RUNNER_RELEASE }: ReleaseOptions): string {
  return (mirror ?? own).replace(/\/+$/, "");
}

function fileOf({ architecture }: ReleaseOptions): string {
  return `gitlab-runner-linux-${architecture}`;
}

function placesOf({ directory, architecture, release: { version } = RUNNER_RELEASE }: ReleaseOptions) {
  const list = join(directory, `gitlab-runner-${version}.release.sha256`);
  const program = join(directory, `gitlab-runner-${version}-${architecture}`);
  return { program, list, signature: `${list}.asc`, key: join(directory, "gitlab-runner-key.gpg") };
}

async function readIfThere(path: string): Promise<Buffer | undefined> {
  return await readFile(path).catch(() => undefined);
}

async function isThere(path: string): Promise<boolean> {
  return await access(path, constants.R_OK).then(
    () => true,
    () => false,
  );
}

async function hashIfThere(path: string, signal?: AbortSignal): Promise<string | undefined> {
  try {
    return (await hashFile(path, signal)).sha256;
  } catch {
    signal?.throwIfAborted();
    return undefined;
  }
}
