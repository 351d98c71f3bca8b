import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

export const REGISTRY_USER = "pusher";
export const REGISTRY_PASSWORD = "open-sesame";
/** The registry takes bcrypt only, of which Node has none: this is the password above. */
const PASSWORD_LINE = "pusher:$2y$05$.EFi8CALJebEkJAIAOcHAeK59deSO2XHr2mZvru5eYCKGY.JExz9i";

export interface RegistryOptions {
  readonly tls?: { readonly key: string; readonly cert: string };
  /** Lets in nobody but REGISTRY_USER. */
  readonly login?: boolean;
}

export interface TestRegistry {
  readonly port: number;
  readonly pid: number;
  /** What it has done, without what it refused: `PUT /v2/name/manifests/tag 201`, oldest first. */
  readonly requests: string[];
  [Symbol.asyncDispose](): Promise<void>;
}

/** Debian's docker-registry on a port of loopback, its storage in a directory of its own. */
export async function startDockerRegistry({ tls, login }: RegistryOptions = {}): Promise<TestRegistry> {
  const directory = await mkdtemp(join(tmpdir(), "fr-registry-"));
  const place = (name: string, text: string) =>
    writeFile(join(directory, name), text).then(() => join(directory, name));
  const http: Record<string, unknown> = { addr: "127.0.0.1:0", secret: "the same for all of one test" };
  if (tls)
    http["tls"] = { certificate: await place("cert.pem", tls.cert), key: await place("key.pem", tls.key) };
  const config = {
    version: "0.1",
    log: { level: "info", formatter: "json", accesslog: { disabled: true } },
    storage: { filesystem: { rootdirectory: join(directory, "storage") } },
    http,
    ...(login ? { auth: { htpasswd: { realm: "test", path: await place("htpasswd", PASSWORD_LINE) } } } : {}),
  };
  const requests: string[] = [];
  const child = spawn("docker-registry", ["serve", await place("config.yml", JSON.stringify(config))], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  const port = await portOf(child, requests);
  return {
    port,
    pid: child.pid ?? 0,
    requests,
    async [Symbol.asyncDispose]() {
      const ended = new Promise((resolve) => child.once("close", resolve));
      child.kill("SIGKILL");
      await ended;
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** It tells its port, and later every answer, in its log. */
function portOf(child: ChildProcess, requests: string[]): Promise<number> {
  return new Promise((resolve, reject) => {
    const said: string[] = [];
    child.once("error", reject);
    child.once("close", () => reject(new Error(`docker-registry ended: ${said.slice(-5).join("\n")}`)));
    createInterface({ input: child.stderr! }).on("line", (line) => {
      said.push(line);
      const entry = parse(line);
      const listening = /listening on 127\.0\.0\.1:(\d+)/.exec(String(entry["msg"]))?.[1];
      if (listening) resolve(Number(listening));
      if (entry["msg"] === "response completed")
        requests.push(
          `${entry["http.request.method"]} ${entry["http.request.uri"]} ${entry["http.response.status"]}`,
        );
    });
  });
}

function parse(line: string): Record<string, unknown> {
  try {
    return JSON.parse(line) as Record<string, unknown>;
  } catch {
    return {};
  }
}
