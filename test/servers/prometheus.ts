/** Debian's Prometheus and Alertmanager on ports of loopback, each with a directory of its own, and what a test asks of them. */

import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { request } from "undici";
import { stringify } from "yaml";
import { freePort } from "../../src/demo/workspace.ts";
import { eventually } from "../harness/eventually.ts";

/** One series of an answer: its labels and its value now. */
interface Sample {
  readonly metric: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface Prometheus extends AsyncDisposable {
  readonly url: string;
  /** An instant query. Throws on an expression that Prometheus does not take. */
  query(expr: string): Promise<Sample[]>;
  /** Every name of a metric that it has seen. */
  names(): Promise<string[]>;
  /** Names of the alerts that fire now. */
  firing(): Promise<string[]>;
}

export interface PrometheusSettings {
  readonly config: object;
  /** Files beside the configuration, by name. */
  readonly files?: Readonly<Record<string, string>>;
}

export async function startPrometheus({ config, files = {} }: PrometheusSettings): Promise<Prometheus> {
  const server = await startProgram("prometheus", config, files, (directory, port) => [
    `--config.file=${join(directory, "config.yml")}`,
    `--storage.tsdb.path=${join(directory, "data")}`,
    `--web.listen-address=127.0.0.1:${port}`,
    "--log.level=warn",
  ]);

  async function ask<T>(path: string): Promise<T> {
    const answer = await request(`${server.url}/api/v1/${path}`);
    const { status, data, error } = (await answer.body.json()) as { status: string; data: T; error: string };
    if (status !== "success") throw new Error(`${path}: ${error}`);
    return data;
  }

  return {
    ...server,
    async query(expr) {
      type Found = { metric: Record<string, string>; value: [number, string] };
      const answer = await ask<{ resultType: string; result: Found[] | [number, string] }>(
        `query?query=${encodeURIComponent(expr)}`,
      );
      if (answer.resultType === "scalar") {
        return [{ metric: {}, value: Number((answer.result as [number, string])[1]) }];
      }
      return (answer.result as Found[]).map(({ metric, value }) => ({ metric, value: Number(value[1]) }));
    },
    names: () => ask<string[]>("label/__name__/values"),
    async firing() {
      const { alerts } = await ask<{ alerts: { labels: { alertname: string }; state: string }[] }>("alerts");
      return alerts.filter(({ state }) => state === "firing").map(({ labels }) => labels.alertname);
    },
  };
}

/** What promtool, Prometheus' own tool, has against a page of metrics; empty when nothing. */
export async function complaintsAbout(page: string): Promise<string> {
  const tool = spawn("promtool", ["check", "metrics"], { stdio: ["pipe", "pipe", "pipe"] });
  tool.stdin.end(page);
  const [out, err] = await Promise.all([text(tool.stdout), text(tool.stderr)]);
  return out + err;
}

interface Alertmanager extends AsyncDisposable {
  readonly url: string;
  /** Names of alerts that are kept back while a larger one is told. */
  inhibited(): Promise<string[]>;
}

export async function startAlertmanager(config: object): Promise<Alertmanager> {
  const server = await startProgram("prometheus-alertmanager", config, {}, (directory, port) => [
    `--config.file=${join(directory, "config.yml")}`,
    `--storage.path=${join(directory, "data")}`,
    `--web.listen-address=127.0.0.1:${port}`,
    // No cluster.
    "--cluster.listen-address=",
    "--log.level=warn",
  ]);
  return {
    ...server,
    async inhibited() {
      const answer = await request(`${server.url}/api/v2/alerts?active=false&silenced=false&inhibited=true`);
      const alerts = (await answer.body.json()) as { labels: { alertname: string } }[];
      return alerts.map(({ labels }) => labels.alertname);
    },
  };
}

async function startProgram(
  program: string,
  config: object,
  files: Readonly<Record<string, string>>,
  argsOf: (directory: string, port: number) => string[],
): Promise<{ readonly url: string } & AsyncDisposable> {
  const directory = await mkdtemp(join(tmpdir(), `fr-${program}-`));
  await writeFile(join(directory, "config.yml"), stringify(config));
  for (const [name, content] of Object.entries(files)) await writeFile(join(directory, name), content);
  const port = await freePort();
  const child = spawn(program, argsOf(directory, port), { stdio: ["ignore", "ignore", "pipe"] });
  let said = "";
  child.stderr.setEncoding("utf8").on("data", (words: string) => {
    said = (said + words).slice(-4_096);
  });
  const ended = new Promise<void>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", () => resolve());
  });
  const url = `http://127.0.0.1:${port}`;
  const end = async () => {
    child.kill("SIGKILL");
    await ended;
    await rm(directory, { recursive: true, force: true });
  };
  try {
    await Promise.race([isReady(program, url, child, () => said), ended.then(() => isGone(program, said))]);
  } catch (error) {
    await end();
    throw error;
  }
  return { url, [Symbol.asyncDispose]: end };
}

async function isReady(program: string, url: string, child: ChildProcess, said: () => string): Promise<void> {
  await eventually(`${program} is ready`, async () => {
    if (child.exitCode !== null) isGone(program, said());
    const status = await request(`${url}/-/ready`).then(
      async ({ statusCode, body }) => {
        await body.dump();
        return statusCode;
      },
      () => 0,
    );
    return status === 200;
  });
}

function isGone(program: string, said: string): never {
  throw new Error(`${program} ended: ${said}`);
}
