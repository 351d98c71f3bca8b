import { type Answer, createRunnerDouble } from "./runner-double.ts";

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
