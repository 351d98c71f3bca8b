import { createHash } from "node:crypto";
import type { ServerResponse } from "node:http";
import type { RunnerRelease } from "../../src/image/runner-release.ts";
import { startHttpServer, type TestServer } from "./http-server.ts";
import type { SigningKey } from "./signing-key.ts";

const TEST_VERSION = "v18.0.0-test";
const PROGRAM = "gitlab-runner-linux-amd64";

/** A mirror of the official runner's releases, as GitLab's: change what it serves, then ask. */
export interface RunnerMirror {
  readonly server: TestServer;
  readonly url: string;
  /** What is trusted for it, in place of GitLab's own. */
  readonly release: RunnerRelease;
  /** By path below the mirror's root. Undefined is 404; a function answers itself. */
  readonly files: Map<string, Buffer | string | ((response: ServerResponse) => void)>;
  /** Paths asked for, in order. */
  asked(): string[];
  [Symbol.asyncDispose](): Promise<void>;
}

export const paths = {
  list: `/${TEST_VERSION}/release.sha256`,
  signature: `/${TEST_VERSION}/release.sha256.asc`,
  program: `/${TEST_VERSION}/binaries/${PROGRAM}`,
  key: "/test-key.pub.gpg",
} as const;

/** A list of digests as the release has it, with the program in it. */
export function listOf(program: Buffer): string {
  const digest = createHash("sha256").update(program).digest("hex");
  return `${"1".repeat(64)} *binaries/gitlab-runner-linux-arm64\n${digest} *binaries/${PROGRAM}\n`;
}

export async function startRunnerMirror(program: Buffer, key: SigningKey): Promise<RunnerMirror> {
  const list = listOf(program);
  const files: RunnerMirror["files"] = new Map();
  files.set(paths.list, list);
  files.set(paths.signature, key.sign(list));
  files.set(paths.program, program);
  files.set(paths.key, key.publicKey);
  const server = await startHttpServer((request, response) => {
    const file = files.get(request.path);
    if (file === undefined) response.writeHead(404).end();
    else if (typeof file === "function") file(response);
    else response.writeHead(200, { "content-length": Buffer.byteLength(file) }).end(file);
  });
  return {
    server,
    url: server.url,
    release: {
      version: TEST_VERSION,
      mirror: server.url,
      keyUrl: `${server.url}${paths.key}`,
      keyFingerprint: key.fingerprint,
      sha256: {},
    },
    files,
    asked: () => server.seen.map(({ path }) => path),
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}
