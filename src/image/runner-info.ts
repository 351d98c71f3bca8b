/**
 * What a runner says of itself. It is a program of others, so it is asked in a place where it can do nothing but answer: as nobody,
 * without rights, in namespaces of its own with an empty network, a root directory with the system's programs alone, and limits on
 * what it takes. What it says is bounded, and taken for data.
 */

import { type ChildProcess, spawn } from "node:child_process";
import { createReadStream } from "node:fs";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { after, systemClock } from "../base/clock.ts";
import { parseJson } from "../base/json.ts";
import { readBounded } from "../base/read-bounded.ts";
import { ImageError } from "./errors.ts";

/** It is sent to GitLab with every request for a job. */
const INFO_MAX_BYTES = 64 * 1024;
const REQUEST_MAX_BYTES = 256 * 1024;
const DEADLINE_MS = 60_000;
const LAST_WORDS = 2_048;

const JobRequest = z.looseObject({
  info: z.looseObject({
    name: z.string(),
    version: z
      .string()
      .regex(/^[\x20-\x7e]{1,100}$/)
      .optional(),
    features: z.looseObject({}),
  }),
});

export interface RunnerIdentity {
  readonly version: string;
  readonly info: Readonly<Record<string, unknown>>;
}

interface AskOptions {
  /** As which it is asked: a runner can do other things in containers than in a shell. */
  readonly executor?: "shell" | "docker";
  readonly deadlineMs?: number;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Runs a runner once against a server that answers nothing, and returns what it says of itself when it asks for a job. GitLab decides
 * by it which jobs this runner may get, so it must come from the very program that will run them. Throws `image_runner_broken`, and
 * `image_build_failed` where this computer gives no such place.
 */
export async function captureRunnerInfo(runner: string, options: AskOptions = {}): Promise<RunnerIdentity> {
  // For this user alone: nobody but what we start reaches the socket in it.
  const directory = await mkdtemp(join(tmpdir(), "firerunner-runner-"));
  const requests = Promise.withResolvers<RunnerIdentity>();
  const server = createServer({ maxHeaderSize: 16_384 }, (request, response) => {
    void readJson(request).then((body) => {
      const identity = request.url?.endsWith("/jobs/request") ? identityIn(body) : undefined;
      if (identity) requests.resolve(identity);
      response.writeHead(204).end();
    });
  });
  try {
    const socket = join(directory, "socket");
    const room = join(directory, "room");
    await mkdir(room);
    await listen(server, socket);
    return await askOnce(runner, room, socket, requests.promise, options);
  } finally {
    server.closeAllConnections();
    server.close();
    await rm(directory, { recursive: true, force: true });
  }
}

async function listen(server: Server, path: string): Promise<void> {
  await new Promise<void>((resolve, reject) => server.once("error", reject).listen(path, resolve));
}

function identityIn(body: unknown): RunnerIdentity | undefined {
  const parsed = JobRequest.safeParse(body);
  if (!parsed.success || JSON.stringify(parsed.data.info).length > INFO_MAX_BYTES) return undefined;
  const { info } = parsed.data;
  return { version: info.version ?? "unknown", info };
}

async function askOnce(
  runner: string,
  room: string,
  socket: string,
  identity: Promise<RunnerIdentity>,
  options: AskOptions,
): Promise<RunnerIdentity> {
  const child = startConfined(runner, room, socket, options);
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream?.setEncoding("utf8").on("data", (text: string) => {
      output = (output + text).slice(-LAST_WORDS);
    });
  let isLate = false;
  const stopTimer = after(systemClock, options.deadlineMs ?? DEADLINE_MS, () => {
    isLate = true;
    child.kill("SIGKILL");
  });
  const closed = new Promise<void>((resolve) => child.once("close", () => resolve()));
  const failure = new Promise<never>((_, reject) => {
    child.on("error", (cause) => reject(brokenRunner(runner, "could not be run", output, cause)));
    child.on("close", (code, signal) => {
      const end = isLate
        ? "did not ask for a job in time"
        : `ended (${signal ?? code}) without asking for a job`;
      reject(noPlace(output) ?? brokenRunner(runner, end, output));
    });
  });
  try {
    return await Promise.race([identity, failure]);
  } finally {
    stopTimer();
    failure.catch(() => {});
    child.kill("SIGKILL");
    await Promise.race([closed, failure.catch(() => {})]);
  }
}

/** unshare ends with us, and what is in the namespaces with unshare. */
function startConfined(
  runner: string,
  room: string,
  socket: string,
  { executor = "shell", signal }: AskOptions,
): ChildProcess {
  const namespaces = ["--net", "--mount", "--propagation", "private", "--pid", "--ipc", "--uts", "--fork"];
  // Without root a user of the ranges in /etc/subuid stands for nobody, so that the runner is not this user either.
  const users = process.getuid?.() === 0 ? [] : ["--user", "--map-root-user", "--map-auto"];
  const asked = [
    "--url",
    "http://127.0.0.1",
    "--executor",
    executor,
    "--max-builds",
    "1",
    "--wait-timeout",
    "1",
  ];
  // It is asked for an image's name, and looks for no engine before it has a job.
  const containers = executor === "docker" ? ["--docker-image", "none"] : [];
  const directories = ["--builds-dir", "/home", "--cache-dir", "/home"];
  const makeRoom = ["sh", join(import.meta.dirname, "runner-room.sh"), room, runner];
  const child = spawn(
    "setpriv",
    [
      ...["--pdeathsig", "KILL", "unshare", ...users, ...namespaces, "--kill-child", ...makeRoom],
      ...["run-single", ...asked, ...containers, ...directories],
    ],
    {
      cwd: "/",
      env: {
        PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        FIRERUNNER_SOCKET: socket,
      },
      stdio: ["pipe", "pipe", "pipe"],
      ...(signal ? { signal } : {}),
    },
  );
  // A place that could not be made reads nothing: its own words say why.
  child.stdin?.on("error", () => {});
  if (child.stdin) createReadStream(join(import.meta.dirname, "runner-room.pl")).pipe(child.stdin);
  return child;
}

async function readJson(request: IncomingMessage): Promise<unknown> {
  const { bytes, cut } = await readBounded(request, REQUEST_MAX_BYTES);
  return cut === undefined ? parseJson(bytes.toString("utf8")) : undefined;
}

/** Words of unshare, mount and the like, which come before the runner's own. */
function noPlace(output: string): ImageError | undefined {
  const line = output
    .split("\n")
    .find((each) => /^(unshare|newuidmap|newgidmap|setpriv|mount|perl|loopback): /.test(each));
  if (line === undefined) return undefined;
  return new ImageError(
    "image_build_failed",
    `no place could be made in which to ask the runner what it can do: ${line.replace(/[^\x20-\x7e]/g, "?")}`,
    {
      hint: "that needs namespaces: build as root, or install uidmap and util-linux 2.38 or newer, and give this user ranges in /etc/subuid and /etc/subgid",
    },
  );
}

function brokenRunner(runner: string, what: string, output: string, cause?: unknown): ImageError {
  const said = output
    .replace(/[^\x20-\x7e\n]/g, "?")
    .replace(/\s*\n\s*/g, " ")
    .trim();
  return new ImageError(
    "image_runner_broken",
    `the runner ${runner} ${what}${said ? `; it said: ${said}` : ""}`,
    {
      ...(cause === undefined ? {} : { cause }),
      hint: "give a gitlab-runner program for this computer's architecture, or use --runner stand-in",
    },
  );
}
