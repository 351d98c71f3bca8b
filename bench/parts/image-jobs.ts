/** What the figures of jobs in images have in common: GitLab's own runner by path, images of machines with it, and one for the job. */
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer, type ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { run } from "../../src/base/process.ts";
import { Secret } from "../../src/base/secret.ts";
import { type BootData, renderBootData } from "../../src/guest/boot.ts";
import { createImageStore, type ResolvedImage } from "../../src/image/store.ts";
import { busyboxLayer, diskOf } from "../../test/builders/busybox.ts";
import { imageOf, type TestImage } from "../../test/builders/layer.ts";
import { testImageDirectory } from "../../test/harness/image.ts";
import { HAND_MACHINE_ID } from "../../test/vm/boot-by-hand.ts";
import { buildTestImage } from "../../test/vm/build-image.ts";
import type { BenchContext } from "../core/figure.ts";
import { createStage } from "./stage.ts";

export const needsRunner = { variable: "FIRERUNNER_GITLAB_RUNNER", what: "gitlab-runner 18.8 or newer" };
const REPOSITORY = "start.git";
export const JOB_IMAGE = "docker.io/bench/image:1";
/** A request is the first sign that leaves at once. */
export const speak = "busybox wget -q -O- http://10.0.2.100/group/start.git/first";

interface ImageJobs {
  /** For what a figure makes besides. */
  readonly directory: string;
  /** The job's image: busybox, and files of this computer. */
  readonly content: TestImage;
  readonly disk: string;
}

/** Built at the first use. */
export async function machineImage(
  context: BenchContext,
  variant: "containers" | "docker",
): Promise<ResolvedImage> {
  context.progress(`the machine's image ${variant}`);
  const name = `${variant}-by-path`;
  await buildTestImage(variant, { runner: process.env[needsRunner.variable] ?? "", name });
  return await createImageStore({ directory: testImageDirectory() }).resolve(name);
}

export async function makeJobImage(context: BenchContext): Promise<ImageJobs> {
  const directory = await mkdtemp(join(tmpdir(), "fr-bench-"));
  context.defer(() => rm(directory, { recursive: true, force: true }));
  context.progress("the job's image");
  const archive = join(directory, "archive");
  await run("tar", ["-C", "/", "-cf", archive, "usr/include", "usr/lib/python3"]);
  await makeRepository(directory);
  const layers = [await readFile(archive), await busyboxLayer(["sh", "true"])];
  const content = imageOf(layers, { settings: { Env: ["PATH=/bin"] } });
  return { directory, content, disk: await diskOf(content, JOB_IMAGE, directory) };
}

/** One commit, as files that a plain web server can give. */
async function makeRepository(directory: string): Promise<void> {
  const work = join(directory, "work");
  const own = ["-C", work, "-c", "user.name=bench", "-c", "user.email=bench@example.com"];
  await run("git", ["init", "-q", "-b", "main", work]);
  await run("git", [...own, "commit", "-q", "--allow-empty", "-m", "Start"]);
  await run("git", ["clone", "-q", "--bare", work, join(directory, REPOSITORY)]);
  await run("git", ["-C", join(directory, REPOSITORY), "update-server-info"]);
}

/** A file of the repository; whether there is one. */
function giveFile(directory: string, path: string, response: ServerResponse): boolean {
  const inside = /^\/group\/start\.git\/((?:info|objects|HEAD)[\w/.-]*)/.exec(path)?.[1];
  if (inside === undefined) return false;
  const file = join(directory, REPOSITORY, inside);
  if (!existsSync(file)) response.writeHead(404).end();
  else response.writeHead(200, { "content-type": "text/plain" }).end(readFileSync(file));
  return true;
}

interface Play extends Pick<ImageJobs, "directory" | "content"> {
  readonly socket: string;
  /** In the image of the machine's disk, in the shell, or there with Docker at hand and a registry of that image behind it. */
  readonly how: "disk" | "shell" | "docker";
  readonly script: readonly string[];
}

/** The relay's part for one job. */
export async function playRelay({ socket, how, script, directory, content }: Play) {
  const containers = { imageDisks: 1, defaultImage: JOB_IMAGE, privileged: true };
  const boot: BootData = {
    ...{ machineId: HAND_MACHINE_ID, token: new Secret("bare"), nowMs: Date.now(), logLimitKib: 4_096 },
    ...(how === "disk" ? { executor: "docker", containers } : { executor: "shell" }),
    ...(how === "docker" ? { engine: "docker" } : {}),
  };
  const payload = {
    ...{ id: 7, token: "glcbt-bench", runner_info: { timeout: 3_600 } },
    git_info: {
      ...{ repo_url: "http://10.0.2.100/group/start.git", ref: "main", depth: 0 },
      refspecs: ["+refs/heads/main:refs/remotes/origin/main"],
      sha: (await run("git", ["-C", join(directory, REPOSITORY), "rev-parse", "main"])).trim(),
    },
    variables: [{ key: "CI_PROJECT_PATH", value: "group/start" }],
    steps: [{ name: "script", script, when: "on_success" }],
    ...(how === "disk" ? { image: { name: JOB_IMAGE } } : {}),
  };
  const rest = (path: string, response: ServerResponse) =>
    giveFile(directory, path, response) || giveContent(content, path, response);
  const stage = createStage(renderBootData(boot), JSON.stringify(payload), rest);
  const server = createServer(stage.serve);
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  return {
    ...stage,
    [Symbol.dispose]() {
      server.closeAllConnections();
      server.close();
    },
  };
}

/** A registry of one image; whether that was asked. */
function giveContent(content: TestImage, path: string, response: ServerResponse): boolean {
  if (!path.startsWith("/v2/")) return false;
  const asked = path.replace(/\?.*/s, "").split("/").at(-1);
  const { manifest, config, layers } = content;
  const documents = [manifest, config].map(({ digest, body }) => ({ digest, blob: body }));
  const found = [...documents, ...layers].find(({ digest }) => digest === asked);
  const given = found ?? (path.includes("/manifests/") ? documents[0] : undefined);
  if (path === "/v2/" || given === undefined) response.writeHead(path === "/v2/" ? 200 : 404).end();
  else {
    const isManifest = given.digest === manifest.digest;
    const type = isManifest ? "application/vnd.oci.image.manifest.v1+json" : "application/octet-stream";
    response.writeHead(200, {
      ...{ "content-type": type, "docker-content-digest": given.digest },
      "content-length": given.blob.length,
    });
    response.end(given.blob);
  }
  return true;
}
