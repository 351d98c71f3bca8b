import { createHash } from "node:crypto";
import { crc32 } from "node:zlib";
import { Agent, request } from "undici";

/** What a call gave: status, headers in lower case, body as text. */
export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly text: string;
  json(): Record<string, unknown>;
}

/** The features of an official runner with the shell executor. */
export const shellFeatures = {
  variables: true,
  artifacts: true,
  cache: true,
  shared: true,
  upload_multiple_artifacts: true,
  upload_raw_artifacts: true,
  refspecs: true,
  masking: true,
  raw_variables: true,
  artifacts_exclude: true,
  multi_build_steps: true,
  trace_reset: true,
  trace_checksum: true,
  trace_size: true,
  cancelable: true,
  return_exit_code: true,
};

/** A runner by hand: each method is one request of the protocol. For tests and benches. */
export interface RunnerDouble {
  verify(token: string): Promise<Answer>;
  requestJob(
    token: string,
    more?: { lastUpdate?: string; features?: Record<string, boolean> },
  ): Promise<Answer>;
  /** Claims a job or throws. */
  claim(token: string): Promise<{ id: number; token: string; payload: Record<string, unknown> }>;
  update(jobId: number, token: string, state: string, more?: Record<string, unknown>): Promise<Answer>;
  appendTrace(jobId: number, token: string, startBytes: number, text: string): Promise<Answer>;
  upload(
    jobId: number,
    token: string,
    filename: string,
    content: string | Buffer,
    query?: string,
  ): Promise<Answer>;
  download(jobId: number, token: string, query?: string): Promise<Answer>;
  /** Any request. */
  call(
    method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE",
    path: string,
    more?: { headers?: Record<string, string>; body?: string | Buffer },
  ): Promise<Answer>;
  close(): Promise<void>;
}

export function createRunnerDouble(url: string): RunnerDouble {
  const dispatcher = new Agent({ bodyTimeout: 0, headersTimeout: 0 });
  const systemId = `s_${createHash("sha256").update(url).digest("hex").slice(0, 12)}`;

  const call: RunnerDouble["call"] = async (method, path, more = {}) => {
    const response = await request(new URL(path, url), { method, dispatcher, ...more });
    const text = await response.body.text();
    return { status: response.statusCode, headers: response.headers, text, json: () => JSON.parse(text) };
  };

  function send(method: "POST" | "PUT", path: string, body: object): Promise<Answer> {
    const headers = { "Content-Type": "application/json", Accept: "application/json" };
    return call(method, path, { headers, body: JSON.stringify(body) });
  }

  const requestJob: RunnerDouble["requestJob"] = (token, { lastUpdate, features = shellFeatures } = {}) =>
    send("POST", "/api/v4/jobs/request", {
      token,
      system_id: systemId,
      info: { name: "gitlab-runner", version: "18.9.0", executor: "shell", shell: "bash", features },
      ...(lastUpdate === undefined ? {} : { last_update: lastUpdate }),
    });

  return {
    call,
    requestJob,
    verify: (token) => send("POST", "/api/v4/runners/verify", { token, system_id: systemId }),
    async claim(token) {
      const answer = await requestJob(token);
      if (answer.status !== 201) throw new Error(`expected a job, got ${answer.status} ${answer.text}`);
      const payload = answer.json();
      return { id: payload["id"] as number, token: payload["token"] as string, payload };
    },
    update: (jobId, token, state, more = {}) =>
      send("PUT", `/api/v4/jobs/${jobId}`, { token, state, ...more }),
    appendTrace: (jobId, token, startBytes, text) =>
      call("PATCH", `/api/v4/jobs/${jobId}/trace`, {
        headers: {
          "JOB-TOKEN": token,
          "Content-Type": "text/plain",
          "Content-Range": `${startBytes}-${startBytes + Buffer.byteLength(text) - 1}`,
        },
        body: text,
      }),
    upload(jobId, token, filename, content, query = "artifact_format=zip&artifact_type=archive") {
      const form = multipart(filename, content);
      const headers = { "JOB-TOKEN": token, "Content-Type": form.contentType };
      return call("POST", `/api/v4/jobs/${jobId}/artifacts?${query}`, { headers, body: form.body });
    },
    download: (jobId, token, query = "") =>
      call("GET", `/api/v4/jobs/${jobId}/artifacts${query}`, { headers: { "JOB-TOKEN": token } }),
    close: () => dispatcher.destroy(),
  };
}

function multipart(filename: string, content: string | Buffer): { contentType: string; body: Buffer } {
  const boundary = "0123456789abcdef";
  const head = [
    `--${boundary}`,
    `Content-Disposition: form-data; name="file"; filename="${filename}"`,
    "Content-Type: application/octet-stream",
    "\r\n",
  ].join("\r\n");
  return {
    contentType: `multipart/form-data; boundary=${boundary}`,
    body: Buffer.concat([Buffer.from(head), Buffer.from(content), Buffer.from(`\r\n--${boundary}--\r\n`)]),
  };
}

/** The `checksum` and `output` of a final update for this log. */
export function traceSummary(log: string): Record<string, unknown> {
  const checksum = `crc32:${crc32(log).toString(16).padStart(8, "0")}`;
  return { checksum, output: { checksum, bytesize: Buffer.byteLength(log) } };
}

/** A user of the REST API by hand. For tests. */
export interface RestDouble {
  /** `path` is what comes after `/api/v4`. */
  get(path: string): Promise<Answer>;
  post(path: string, body?: object): Promise<Answer>;
  put(path: string, body: object): Promise<Answer>;
  delete(path: string, body?: object): Promise<Answer>;
  close(): Promise<void>;
}

export function createRestDouble(url: string, token?: string): RestDouble {
  const client = createRunnerDouble(url);

  function send(method: "POST" | "PUT" | "GET" | "DELETE", path: string, body?: object): Promise<Answer> {
    const headers: Record<string, string> = token === undefined ? {} : { "PRIVATE-TOKEN": token };
    if (body === undefined) return client.call(method, `/api/v4${path}`, { headers });
    headers["Content-Type"] = "application/json";
    return client.call(method, `/api/v4${path}`, { headers, body: JSON.stringify(body) });
  }

  return {
    get: (path) => send("GET", path),
    post: (path, body) => send("POST", path, body),
    put: (path, body) => send("PUT", path, body),
    delete: (path, body) => send("DELETE", path, body),
    close: client.close,
  };
}
