import { setTimeout as sleep } from "node:timers/promises";
import { shellFeatures } from "@firerunner/gitlab-stand-in/test-clients";
import { Agent, type Dispatcher, request } from "undici";

const LOG = "it ran\n";

/**
 * The inside of a fake machine: asks the relay on the machine's socket for its boot data and its job, as the official runner does,
 * logs one line, works for `workMs` in silence, and ends the job well. Rejects when any answer is not the expected one, or when
 * `signal` ends the work.
 */
export async function playGuest(
  socketPath: string,
  {
    onJob,
    workMs,
    signal,
  }: {
    readonly onJob: (jobId: number, given: string) => void;
    readonly workMs: number;
    readonly signal: AbortSignal;
  },
): Promise<void> {
  const dispatcher = new Agent({ connect: { socketPath }, headersTimeout: 0, bodyTimeout: 0 });
  try {
    const boot = await call(dispatcher, "GET", "/firerunner/boot", 200);
    const token = /^token=(.*)$/m.exec(boot)?.[1] ?? "";
    const info = { name: "gitlab-runner", executor: "shell", shell: "bash", features: shellFeatures };
    const text = await send(dispatcher, "POST", "/api/v4/jobs/request", 201, { token, info });
    const { id, token: jobToken } = JSON.parse(text) as { id: number; token: string };
    onJob(id, boot + text);
    const put = (state: string) =>
      send(dispatcher, "PUT", `/api/v4/jobs/${id}`, 200, { token: jobToken, state });
    await put("running");
    const headers = {
      "JOB-TOKEN": jobToken,
      "Content-Range": `0-${LOG.length - 1}`,
      "Content-Type": "text/plain",
    };
    await call(dispatcher, "PATCH", `/api/v4/jobs/${id}/trace`, 202, headers, LOG);
    await sleep(workMs, undefined, { signal });
    await put("success");
  } finally {
    await dispatcher.close();
  }
}

function send(
  dispatcher: Dispatcher,
  method: Dispatcher.HttpMethod,
  path: string,
  status: number,
  body: object,
): Promise<string> {
  const headers = { "Content-Type": "application/json" };
  return call(dispatcher, method, path, status, headers, JSON.stringify(body));
}

async function call(
  dispatcher: Dispatcher,
  method: Dispatcher.HttpMethod,
  path: string,
  status: number,
  headers: Record<string, string> = {},
  body?: string,
): Promise<string> {
  const given = body === undefined ? {} : { body };
  const answer = await request(`http://relay${path}`, { method, dispatcher, headers, ...given });
  const text = await answer.body.text();
  if (answer.statusCode !== status) throw new Error(`${method} ${path}: ${answer.statusCode} ${text}`);
  return text;
}
