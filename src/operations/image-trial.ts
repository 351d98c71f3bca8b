/**
 * The trial of an image that runs containers: a machine of it on this computer runs one job in a container of the image's own helper
 * image, with us in GitLab's place. Nothing outside of this computer is asked, and nothing is left.
 */
import { chmod, mkdir, mkdtemp, rm } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { Clock } from "../base/clock.ts";
import { startDeadline, withDeadline } from "../base/deadline.ts";
import { newMachineId } from "../base/ids.ts";
import type { Log } from "../base/log.ts";
import { readBounded } from "../base/read-bounded.ts";
import { Secret } from "../base/secret.ts";
import { formatDuration, MIB_BYTES, MINUTE_MS } from "../base/units.ts";
import { RELAY_IN_GUEST } from "../domain/drivers.ts";
import type { BootImage } from "../domain/images.ts";
import { renderBootData } from "../guest/boot.ts";
import { ImageError } from "../image/errors.ts";
import { HELPER_NAME } from "../image/helper-store.ts";
import { VmConfig } from "../vm/config.ts";
import type { LocalVmDriver } from "../vm/driver.ts";
import { createQemuDriver } from "../vm/qemu/driver.ts";

/** An emulated machine on a busy computer takes minutes. */
const JOB_MS = 10 * MINUTE_MS;
const REMOVAL_MS = MINUTE_MS;
const LOG_MAX_BYTES = MIB_BYTES;
const CONSOLE_BYTES = 1_000;
const JOB_TOKEN = "trial-job";
const SIZE = { cpus: 2, memoryMib: 1_024, diskMib: 1_024 };

const JOB = {
  id: 1,
  token: JOB_TOKEN,
  allow_git_fetch: true,
  job_info: { id: 1, name: "trial", stage: "test", project_id: 1, project_name: "trial" },
  runner_info: { timeout: JOB_MS / 1000 },
  git_info: {
    repo_url: `http://${RELAY_IN_GUEST}/firerunner/trial.git`,
    ref: "main",
    sha: "0".repeat(40),
    refspecs: [],
  },
  image: { name: HELPER_NAME },
  variables: [
    { key: "GIT_STRATEGY", value: "none", public: true },
    { key: "CI_PROJECT_PATH", value: "firerunner/trial", public: true },
  ],
  steps: [{ name: "script", script: ["git --version"], timeout: JOB_MS / 1000, when: "on_success" }],
};

export interface ImageTrialOptions {
  readonly name: string;
  readonly image: BootImage;
  readonly clock: Clock;
  readonly log: Log;
}

/** Returns how long it took, from the machine's create to the job's end. Throws `image_trial_failed` with what was said, or a VmError. */
export async function tryContainerJob(options: ImageTrialOptions, signal: AbortSignal): Promise<number> {
  const { image, clock, log } = options;
  const stateDirectory = await mkdtemp(join(tmpdir(), "firerunner-trial-"));
  const driver = createQemuDriver({ stateDirectory, settings: VmConfig.parse({}), clock, log });
  const id = newMachineId();
  const gitlab = createTrialGitLab(id, clock);
  const deadline = startDeadline(clock, JOB_MS, signal);
  const ended = new Promise<"ended">((resolve) => driver.onExit(() => resolve("ended")));
  const late = new Promise<"late">((resolve) =>
    deadline.signal.addEventListener("abort", () => resolve("late")),
  );
  try {
    await listen(gitlab.server, driver.relaySocket(id));
    const startedAt = clock.now();
    await driver.create({ id, size: SIZE, image }, signal);
    const outcome = await Promise.race([gitlab.finished, ended, late]);
    signal.throwIfAborted();
    if (outcome === "success") return clock.now() - startedAt;
    throw await failure(options, { driver, id, outcome, log: gitlab.log() });
  } finally {
    deadline.clear();
    await withDeadline(clock, { limitMs: REMOVAL_MS }, (over) => driver.destroy(id, over));
    await driver.close();
    gitlab.server.closeAllConnections();
    gitlab.server.close();
    await rm(stateDirectory, { recursive: true, force: true });
  }
}

interface Failed {
  readonly driver: LocalVmDriver;
  readonly id: string;
  readonly outcome: string;
  /** The job's. */
  readonly log: string;
}

async function failure(
  { name }: ImageTrialOptions,
  { driver, id, outcome, log }: Failed,
): Promise<ImageError> {
  const console = await driver.console(id, CONSOLE_BYTES);
  const what =
    outcome === "late"
      ? `ran no job within ${formatDuration(JOB_MS)}`
      : outcome === "ended"
        ? "ended before its job had"
        : "ran a job in a container that failed";
  const said = [log, console].map(lastLine).filter(Boolean).join("; ");
  return new ImageError(
    "image_trial_failed",
    `a machine of the image ${name} ${what}${said && `: ${said}`}`,
    {
      hint: "build it again: firerunner image build containers --force; if that does not help, the words are its own",
    },
  );
}

function lastLine(text: string): string {
  const lines = text.replace(/\p{Cc}\[[\d;]*[A-Za-z]/gu, "").split(/[\r\n]+/);
  const line = lines.map((each) => each.replace(/[^\x20-\x7e]/g, "?").trim()).filter(Boolean);
  return line.at(-1)?.slice(0, 300) ?? "";
}

async function listen(server: Server, path: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  await new Promise<void>((resolve, reject) => server.once("error", reject).listen(path, resolve));
  // Machines run as users of their own; the directory keeps everybody else out.
  await chmod(path, 0o666);
}

/** GitLab's and the relay's side of the one job; a guest's words are bounded, and taken for data. */
function createTrialGitLab(machineId: string, clock: Clock) {
  const finished = Promise.withResolvers<string>();
  let log = "";
  let isHandedOut = false;

  const routes: Readonly<Record<string, (body: string) => { status: number; body?: string; type?: string }>> =
    {
      "GET /firerunner/boot": () => ({ status: 200, body: bootData(machineId, clock) }),
      "POST /api/v4/jobs/request": () => {
        if (isHandedOut) return { status: 204 };
        isHandedOut = true;
        return { status: 201, body: JSON.stringify(JOB) };
      },
      "PATCH /api/v4/jobs/1/trace": (body) => {
        log = (log + body).slice(-LOG_MAX_BYTES);
        return { status: 202 };
      },
      "PUT /api/v4/jobs/1": (body) => {
        const state = /"state":\s*"(\w+)"/.exec(body)?.[1] ?? "";
        if (state === "success" || state === "failed") finished.resolve(state);
        return { status: 200 };
      },
    };

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { bytes } = await readBounded(request, LOG_MAX_BYTES);
    const path = (request.url ?? "").split("?")[0];
    // It is held: this job is never canceled.
    if (path === "/firerunner/cancel") return;
    const { status, body } = routes[`${request.method} ${path}`]?.(bytes.toString("utf8")) ?? { status: 404 };
    const headers = {
      "content-type": "application/json",
      "job-status": "running",
      "x-gitlab-trace-update-interval": "3",
    };
    response.writeHead(status, { ...headers, "content-length": Buffer.byteLength(body ?? "") }).end(body);
  }

  const server = createServer(
    { maxHeaderSize: 16_384 },
    (request, response) => void answer(request, response),
  );
  return { server, finished: finished.promise, log: () => log };
}

function bootData(machineId: string, clock: Clock): string {
  return renderBootData({
    machineId,
    token: new Secret("trial-machine"),
    nowMs: clock.now(),
    executor: "docker",
    containers: { imageDisks: 0, defaultImage: HELPER_NAME, privileged: false, socket: false },
    logLimitKib: LOG_MAX_BYTES / 1024,
  });
}
