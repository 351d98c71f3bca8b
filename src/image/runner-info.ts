import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { ImageError } from "./errors.ts";

const JobRequest = z.looseObject({
  info: z.looseObject({ name: z.string(), version: z.string().optional(), features: z.looseObject({}) }),
});

export interface RunnerIdentity {
  readonly version: string;
  readonly info: Readonly<Record<string, unknown>>;
}

/**
 * Runs a runner once against a server on loopback and returns what it says of itself when it asks for a job. GitLab
 * decides by it which jobs this runner may get, so it must come from the very program that will run them.
 */
export async function captureRunnerInfo(
  runner: string,
  options: { deadlineMs?: number; signal?: AbortSignal | undefined } = {},
): Promise<RunnerIdentity> {
  const home = await mkdtemp(join(tmpdir(), "firerunner-runner-"));
  const requests = Promise.withResolvers<RunnerIdentity>();
  const server = createServer((request, response) => {
    void readJson(request).then((body) => {
      const parsed = JobRequest.safeParse(body);
      if (request.url?.endsWith("/jobs/request") && parsed.success) {
        const { info } = parsed.data;
        requests.resolve({ version: info.version ?? "unknown", info });
      }
      response.writeHead(204).end();
    });
  });
  try {
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    return await askOnce(runner, url, home, requests.promise, options);
  } finally {
    server.closeAllConnections();
    server.close();
    await rm(home, { recursive: true, force: true });
  }
}

async function askOnce(
  runner: string,
  url: string,
  home: string,
  identity: Promise<RunnerIdentity>,
  options: { deadlineMs?: number; signal?: AbortSignal | undefined },
): Promise<RunnerIdentity> {
  const args = [
    "run-single",
    "--url",
    url,
    "--executor",
    "shell",
    "--max-builds",
    "1",
    "--wait-timeout",
    "1",
  ];
  const child = spawn(runner, [...args, "--builds-dir", home, "--cache-dir", home], {
    cwd: home,
    env: {
      HOME: home,
      PATH: "/usr/local/bin:/usr/bin:/bin",
      LANG: "C.UTF-8",
      CI_SERVER_TOKEN: "glrt-image-build",
    },
    stdio: ["ignore", "pipe", "pipe"],
    ...(options.signal ? { signal: options.signal } : {}),
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (text: string) => {
      output = (output + text).slice(-2_048);
    });
  const timer = setTimeout(() => child.kill("SIGKILL"), options.deadlineMs ?? 20_000);
  const failure = new Promise<never>((_, reject) => {
    child.on("error", (cause) => reject(brokenRunner(runner, "could not be run", output, cause)));
    child.on("close", (code, signal) =>
      reject(brokenRunner(runner, `ended (${signal ?? code}) without asking for a job`, output)),
    );
  });
  try {
    return await Promise.race([identity, failure]);
  } finally {
    clearTimeout(timer);
    failure.catch(() => {});
    child.kill("SIGKILL");
  }
}

async function readJson(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  try {
    return JSON.parse(Buffer.concat(chunks).toString("utf8"));
  } catch {
    return undefined;
  }
}

function brokenRunner(runner: string, what: string, output: string, cause?: unknown): ImageError {
  const said = output.trim();
  return new ImageError(
    "image_runner_broken",
    `the runner ${runner} ${what}${said ? `; it said: ${said}` : ""}`,
    {
      ...(cause === undefined ? {} : { cause }),
      hint: "give a gitlab-runner program for this computer's architecture, or use --runner stand-in",
    },
  );
}
