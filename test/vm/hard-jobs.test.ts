/** What real jobs do to their machine, and what a company's network asks of it: four machines that boot at one time. */
import { createHash } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { stripVTControlCharacters } from "node:util";
import type { Job } from "@firerunner/gitlab-stand-in/model";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { JobDefinition } from "../../src/ci/definition.ts";
import type { Explanation } from "../../src/views/api.ts";
import { temporaryDirectory } from "../builders/temporary-directory.ts";
import type { Daemon } from "../harness/daemon.ts";
import { eventually } from "../harness/eventually.ts";
import { createInstallation, type Installation } from "../harness/installation.ts";
import { type CertificateAuthority, makeCertificateAuthority } from "../servers/certificates.ts";
import { type CompanyProxy, startCompanyProxy } from "../servers/company-proxy.ts";

const DONE_MS = 170_000;
const INSIDE = "inside.company.test";
const OTHER_PROXY = "http://proxy.company.test:3128";
const LARGE = Buffer.from("kept by LFS, not by Git\n".repeat(9_999));
const LARGE_DIGEST = createHash("sha256").update(LARGE).digest("hex");

/** By the way out that the machine has: nothing names the authority. */
const asksInside = [
  `curl -sS https://${INSIDE}/word`,
  `wget -qO- https://${INSIDE}/word`,
  `python3 -c 'import urllib.request as u; print(u.urlopen("https://${INSIDE}/word").read().decode())'`,
  `git ls-remote https://${INSIDE}/tool.git`,
  `echo 'deb [trusted=yes] https://${INSIDE}/apt ./' > /etc/apt/sources.list`,
  "apt-get update -o Acquire::Languages=none -o Acquire::GzipIndexes=false",
  "apt-cache policy company-tool",
  'openssl verify "$NODE_EXTRA_CA_CERTS"',
];

const shared = { variables: { GIT_STRATEGY: "none" }, timeoutSeconds: 600 };
const definitions = {
  fetching: {
    script: ["sha256sum large.bin", "cp large.bin out.bin", "cat plain.txt"],
    variables: { HTTP_PROXY: OTHER_PROXY, http_proxy: OTHER_PROXY, https_proxy: OTHER_PROXY },
    artifacts: { paths: ["out.bin"], exclude: [], untracked: false, when: "on_success" },
  },
  asking: { ...shared, script: asksInside },
  deaf: {
    ...shared,
    script: ["trap '' TERM", "echo deaf", "while true; do sleep 1; done"],
    timeoutSeconds: 12,
  },
  greedy: { ...shared, script: ["tail /dev/zero"] },
} satisfies Record<string, Partial<JobDefinition>>;

const cleanups: (() => Promise<unknown>)[] = [];

/** A server with a certificate of the company's own; answers with the port. */
async function startInside(authority: CertificateAuthority): Promise<number> {
  const pages: Record<string, string> = {
    "/word": "a word from inside\n",
    "/tool.git/info/refs": `${"1".repeat(40)}\trefs/heads/main\n`,
    "/tool.git/HEAD": "ref: refs/heads/main\n",
    "/apt/Packages": "Package: company-tool\nVersion: 4.2\nArchitecture: all\nFilename: ./t.deb\nSize: 1\n\n",
  };
  const server = createServer(await authority.issue(INSIDE), (request, response) => {
    const page = pages[URL.parse(request.url ?? "", "https://inside")?.pathname ?? ""];
    response.writeHead(page === undefined ? 404 : 200).end(page);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  cleanups.push(async () => void server.close());
  return (server.address() as AddressInfo).port;
}

async function startCompany(): Promise<{ readonly proxy: CompanyProxy; readonly caFile: string }> {
  const authority = await makeCertificateAuthority();
  cleanups.push(async () => await authority[Symbol.asyncDispose]());
  const files = await temporaryDirectory();
  cleanups.push(async () => await files[Symbol.asyncDispose]());
  const caFile = join(files.path, "ca.pem");
  await writeFile(caFile, authority.ca);
  const proxy = await startCompanyProxy({ routes: { [`${INSIDE}:443`]: await startInside(authority) } });
  cleanups.push(async () => await proxy[Symbol.asyncDispose]());
  return { proxy, caFile };
}

describe("jobs that ask much of their machine", () => {
  let installation: Installation;
  let daemon: Daemon;
  let proxy: CompanyProxy;
  const jobs = new Map<keyof typeof definitions, Job>();

  beforeAll(async () => {
    const company = await startCompany();
    proxy = company.proxy;
    installation = await createInstallation({
      pool: { egress: [`${INSIDE}:443`] },
      settings: {
        proxy: { url: proxy.url },
        guests: { caFile: company.caFile },
        // Before the runner has given the script up, which takes it 5 s.
        scheduler: { timeoutGrace: "1s" },
      },
    });
    cleanups.push(() => installation.close());
    daemon = await installation.start();
    cleanups.push(() => daemon.stop());
    const files = {
      ".gitattributes": "*.bin filter=lfs diff=lfs merge=lfs -text\n",
      "large.bin": `version https://git-lfs.github.com/spec/v1\noid sha256:${LARGE_DIGEST}\nsize ${LARGE.length}\n`,
      "plain.txt": "kept by Git\n",
    };
    const { gitlab } = installation;
    const project = await gitlab.projects.add({ repository: { files }, largeFiles: [LARGE] });
    for (const [name, definition] of Object.entries(definitions))
      jobs.set(name as keyof typeof definitions, await gitlab.addJob(project, { name, ...definition }));
  });

  afterAll(async () => {
    for (const cleanUp of cleanups.splice(0).reverse()) await cleanUp();
  });

  /** The job when it has ended so, its log without colours, and what `why` says. */
  async function ended(name: keyof typeof definitions, status: "success" | "failed") {
    const job = jobs.get(name);
    if (!job) throw new Error(`there is no job ${name}`);
    await installation.gitlab.waitForJob(job, status, DONE_MS);
    const why = await daemon.get<{ explanation: Explanation }>(`/v1/jobs/${job.id}`);
    return { job, log: stripVTControlCharacters(job.trace.text()), why: why.explanation };
  }

  test("a script that is deaf to being told to end is ended at its time limit, and told what to do", async () => {
    const { job, log, why } = await ended("deaf", "failed");

    expect(job.failureReason).toBe("job_execution_timeout");
    expect(log).toMatch(
      /the job failed: the job's time limit of 12\.0 s is over[\s\S]*Give the job more time/,
    );
    expect(log).not.toContain("memory");
    expect(why.advice[0]).toContain("Give the job more time");
  });

  test("a script that wants more memory than there is is ended, and told what to do", async () => {
    const { job, log } = await ended("greedy", "failed");
    // Read off the console before the machine is destroyed, which is after GitLab has the result.
    const why = await eventually("why tells of the memory", async () => {
      const { explanation } = await daemon.get<{ explanation: Explanation }>(`/v1/jobs/${job.id}`);
      return explanation.cause?.includes("had no memory left") ? explanation : undefined;
    });

    expect(job).toMatchObject({ failureReason: "script_failure", exitCode: 137 });
    expect(log).toMatch(/Killed +tail/);
    expect(log).toMatch(/FireRunner: the machine had no memory left, and its kernel ended a process/);
    expect(why.advice[0]).toContain("more memory");
  });

  test("Git's and LFS's files come, and artifacts go, past proxies of the job's own that it cannot reach", async () => {
    const { job, log } = await ended("fetching", "success");

    expect(log).toContain(`${LARGE_DIGEST}  large.bin`);
    expect(log).toContain("\nkept by Git\n");
    expect(job.artifacts).toHaveLength(1);
    expect(log).toMatch(/FireRunner: the job sets HTTP_PROXY \(proxy\.company\.test:3128\)/);
  });

  test("curl, wget, Python, Git, apt and what Node reads trust the company's authority", async () => {
    const { log } = await ended("asking", "success");

    expect(log.match(/^a word from inside$/gm)).toHaveLength(3);
    expect(log).toContain("\trefs/heads/main\n");
    expect(log).toContain("Candidate: 4.2\n");
    expect(log).toContain("firerunner.crt: OK\n");
    expect(new Set(proxy.asked)).toEqual(new Set([`CONNECT ${INSIDE}:443`]));
    expect(installation.gitlab.violations).toEqual([]);
  });
});
