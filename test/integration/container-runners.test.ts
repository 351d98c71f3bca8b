import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Job, Project } from "@firerunner/gitlab-stand-in/model";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "../../src/base/clock.ts";
import type { Secret } from "../../src/base/secret.ts";
import { CacheConfig } from "../../src/cache/config.ts";
import { openLocalStorage } from "../../src/cache/local-storage.ts";
import { CACHE_BUCKET } from "../../src/cache/request.ts";
import type { CacheDefinition, JobDefinition } from "../../src/ci/definition.ts";
import { type ContainersBootData, renderBootData } from "../../src/guest/boot.ts";
import { createImageStore, type ResolvedImage } from "../../src/image/store.ts";
import { busyboxLayer, diskOf } from "../builders/busybox.ts";
import { imageOf, tarOf } from "../builders/layer.ts";
import { usualContainers } from "../builders/pool.ts";
import { createBareRoom } from "../harness/bare-room.ts";
import { testImageDirectory } from "../harness/image.ts";
import { buildTestImage } from "../vm/build-image.ts";
import { type BenchMachine, createRelayBench, type RelayBench } from "./relay-bench.ts";

/**
 * Jobs in containers with GitLab's own runner, which has to be had by hand (FIRERUNNER_GITLAB_RUNNER, the path of its program, of 18.8 or
 * newer): the image's init, engine and runner and our relay as in a machine, but natively, in namespaces of this computer. As root.
 */
const runner = process.env["FIRERUNNER_GITLAB_RUNNER"];
const BUILD_MS = 500_000;
const RUN_MS = 120_000;
const APPLETS = ["cat", "env", "grep", "httpd", "id", "ls", "mkdir", "sh", "sleep", "touch", "true", "wget"];
const NAME = "registry.example.com:5000/tools";

let directory: string;
let image: ResolvedImage;
let disks: string[];
let bench: RelayBench;
let project: Project;
/** What the next machine is told besides. */
let told: { containers?: Partial<ContainersBootData>; preBuild?: string } = {};

/** Busybox alone, without bash and git; what its containers have without another word differs. */
async function busyboxDisk(name: string, settings: Record<string, unknown>): Promise<string> {
  const passwd = { path: "etc/passwd", content: "root:x:0:0::/:/bin/sh\napp:x:1000:1000::/:/bin/sh\n" };
  const layers = [await busyboxLayer(APPLETS), tarOf([passwd])];
  const image = imageOf(layers, { settings: { Env: ["PATH=/bin"], ...settings } });
  return await diskOf(image, `${NAME}/${name}:1`, directory);
}

describe.skipIf(runner === undefined)("GitLab's own runner on podman with disks", { timeout: RUN_MS }, () => {
  beforeAll(async () => {
    await buildTestImage("containers", { runner: runner ?? "", name: "by-path" });
    image = await createImageStore({ directory: testImageDirectory() }).resolve("by-path");
    directory = await mkdtemp(join(tmpdir(), "fr-by-path-"));
    disks = [
      await busyboxDisk("busybox", {}),
      await busyboxDisk("web", { ExposedPorts: { "8080/tcp": {} } }),
      await busyboxDisk("app", { User: "app", Entrypoint: ["/bin/env", "FROM=entrypoint"] }),
      await busyboxDisk("stubborn", { Entrypoint: ["/bin/true"] }),
    ];
    const sizes = { sizeBytes: 1e9, projectSizeBytes: 1e9, minFreeBytes: 0 };
    const at = { directory: join(directory, "caches"), site: "gitlab", clock: systemClock };
    const storage = await openLocalStorage({ ...at, ...sizes });
    const cache = { storage, settings: CacheConfig.parse({}), isKnownTo: async () => true };
    const containers = { ...usualContainers, enabled: true };
    bench = await createRelayBench({
      pool: { containers },
      relay: {
        cache,
        bootData: async (machineId) =>
          renderBootData({
            ...{ machineId, token: bench.store.machineToken(machineId) as Secret },
            ...{ nowMs: Date.now(), executor: "docker", cacheBucket: CACHE_BUCKET, logLimitKib: 4_096 },
            containers: {
              ...{ imageDisks: disks.length, defaultImage: `${NAME}/busybox:1`, privileged: true },
              ...told.containers,
            },
            runnerSettings: {
              environment: ["POOL=of the pool", `TOOLS=${NAME}`],
              preGetSources: "echo before sources",
              preBuild: told.preBuild ?? "echo before $POOL",
              postBuild: "echo behind",
            },
          }),
      },
    });
    const files = { word: "from git\n", lock: "1\n" };
    project = await bench.gitlab.projects.add({ path: "group/containers", repository: { files } });
  }, BUILD_MS);

  afterAll(async () => {
    await bench?.close();
    if (directory) await rm(directory, { recursive: true });
  });

  /** Runs it to its end, or to where `meanwhile` leads it. */
  async function runJob(
    definition: Partial<JobDefinition>,
    meanwhile?: (job: Job, machine: BenchMachine) => Promise<void>,
  ): Promise<{ job: Job; log: string }> {
    const machine = await bench.machine({ timeoutSeconds: 100, ...definition }, undefined, project);
    const job = bench.gitlab.jobs.get(machine.job.id);
    if (!job) throw new Error("the stand-in has no such job");
    const place = { machineId: machine.id, relaySocket: machine.socketPath, imageDisks: disks };
    await using room = await createBareRoom(image, place);
    room.start();
    const ended = room.ended.then(() => "ended");
    await meanwhile?.(job, machine);
    const late = new Promise((resolve) => setTimeout(resolve, RUN_MS - 10_000, "late").unref());
    if ((await Promise.race([ended, late])) === "late")
      throw new Error(`${job.trace.text()}\n${await room.console()}`);
    return { job, log: job.trace.text() };
  }

  test("runs it without bash and git, and with a pool's scripts around it", async () => {
    const { job, log } = await runJob({
      image: { name: "$TOOLS/busybox:1" },
      script: ["cat word; ! type bash; id -u; mkdir d; echo out >d/file"],
      afterScript: ["echo after $CI_JOB_STATUS: $(cat d/file)"],
      artifacts: { paths: ["d/"], exclude: [], untracked: false, when: "on_success" },
    });

    expect(job, log).toMatchObject({ status: "success", traceCheck: { matches: true } });
    expect(job.artifacts.map(({ type }) => type)).toContain("archive");
    for (const line of ["before sources", "before of the pool", "from git", "behind", "after success: out"])
      expect(log).toContain(line);
    expect(log).not.toContain("Pulling");
  });

  test("gives it services by alias, image's name and port, of one kind too, and their logs", async () => {
    const serve = (word: string) => `mkdir /w; echo ${word} >/w/file; exec httpd -f -v -p 8080 -h /w`;
    const { job, log } = await runJob({
      image: { name: `${NAME}/busybox:1` },
      variables: { CI_DEBUG_SERVICES: "true", SHOWN: "to services" },
      services: [
        {
          ...{ name: "$TOOLS/web:1", alias: "one,uno eins", entrypoint: ["/bin/sh", "-c"] },
          ...{ command: [serve("$OWN $SHOWN")], variables: { OWN: "its own," } },
        },
        { name: `${NAME}/web:1`, alias: "two", command: ["sh", "-c", serve("second")] },
      ],
      script: [
        ...["one", "uno", "eins", "two", "registry.example.com-tools-web"].map(
          (name) => `echo ${name}: $(wget -q -O- http://${name}:8080/file)`,
        ),
        "echo exempt: $no_proxy",
      ],
    });

    expect(job, log).toMatchObject({ status: "success" });
    for (const name of ["one", "uno", "eins"]) expect(log).toContain(`${name}: its own, to services`);
    expect(log).toContain("two: second");
    expect(log).toMatch(/registry\.example\.com-tools-web: (its own|second)/);
    expect(log).toMatch(/exempt: .*,one,uno,eins,two,registry\.example\.com__tools__web,/);
    expect(log).toMatch(/\[service:[^\]]*one[^\]]*\].*response:200/);
    expect(log).not.toContain("probably didn't start properly");
  });

  test("gives a job with services and no image its pool's", async () => {
    const service = { name: `${NAME}/busybox:1`, alias: "quiet", command: ["sleep", "900"] };
    const { job, log } = await runJob({ services: [service], script: ["ls /bin/busybox; type git || true"] });

    expect(job, log).toMatchObject({ status: "success" });
    expect(log).toContain("/bin/busybox");
    expect(log).not.toContain("git is");
  });

  test("keeps an image's user and an entrypoint that runs what it is given", async () => {
    const script = ["id -u; echo FROM $FROM; cat word; touch made"];
    const own = await runJob({ image: { name: `${NAME}/app:1` }, script });
    const root = await runJob({ image: { name: `${NAME}/app:1`, docker: { user: "root" } }, script });
    const cleared = await runJob({ image: { name: `${NAME}/app:1`, entrypoint: [""] }, script });

    expect(own.job, own.log).toMatchObject({ status: "success" });
    expect(own.log).toMatch(/\b1000\r?\n.*FROM entrypoint.*from git/s);
    expect(root.log).toMatch(/\b0\r?\n.*FROM entrypoint/s);
    expect(cleared.job, cleared.log).toMatchObject({ status: "success" });
    expect(cleared.log).not.toContain("FROM entrypoint");
  });

  test("runs it where an entrypoint runs nothing only once that is cleared", async () => {
    const script = ["echo ran"];
    const left = await runJob({ image: { name: `${NAME}/stubborn:1` }, script });
    const cleared = await runJob({ image: { name: `${NAME}/stubborn:1`, entrypoint: [""] }, script });

    // As with the runner's own Docker: the job ends well, and its script never ran.
    expect(left.job, left.log).toMatchObject({ status: "success" });
    expect(left.log).not.toMatch(/^[^$]*\bran\r?$/m);
    expect(cleared.log).toMatch(/^[^$]*\bran\r?$/m);
  });

  test("ends it with its exit code, after its after_script, and leaves what it left in the background", async () => {
    const image = { name: `${NAME}/busybox:1` };
    const failing = await runJob({ image, script: ["exit 42"], afterScript: ["echo after $CI_JOB_STATUS"] });
    const left = await runJob({ image, script: ["sleep 900 &", "echo here"] });

    expect(failing.job).toMatchObject({ status: "failed", exitCode: 42, failureReason: "script_failure" });
    expect(failing.log).toContain("after failed");
    expect(left.job, left.log).toMatchObject({ status: "success" });
  });

  test("ends it at its time limit", async () => {
    const image = { name: `${NAME}/busybox:1` };
    const limited = { image, timeoutSeconds: 25, script: ["echo started", "sleep 900"] };
    const { job, log } = await runJob(limited);

    expect(job, log).toMatchObject({ status: "failed", failureReason: "job_execution_timeout" });
    expect(log).toContain("started");
  });

  test.each([
    ["its script", { script: ["echo started", "sleep 900"], afterScript: ["echo after $CI_JOB_STATUS"] }],
    ["its after_script", { script: ["true"], afterScript: ["echo started", "sleep 900"] }],
  ])("ends it when it is cancelled in %s", async (_, definition) => {
    let cancelledAt = 0;
    const image = { name: `${NAME}/busybox:1` };
    const { job, log } = await runJob({ image, ...definition }, async (running) => {
      await bench.gitlab.waitForJob(running, ({ trace }) => trace.text().includes("started\n"), 60_000);
      cancelledAt = Date.now();
      bench.gitlab.jobs.cancel(running);
    });

    expect(job, log).toMatchObject({ status: "canceled" });
    expect(Date.now() - cancelledAt).toBeLessThan(60_000);
  });

  test("stores and finds its caches", async () => {
    const aCache = (given: Partial<CacheDefinition>): CacheDefinition => ({
      ...{ key: "deps", paths: ["deps/"], untracked: false, policy: "pull-push", when: "on_success" },
      ...{ unprotect: false, fallbackKeys: [], ...given },
    });
    const caches = [
      aCache({ key: { files: ["lock"], prefix: "files" } }),
      aCache({ key: "second-$CI_COMMIT_REF_SLUG", paths: ["two/"], when: "always" }),
      aCache({ key: "third", paths: ["three/"], policy: "push" }),
      aCache({ key: "failed", paths: ["four/"], when: "on_failure" }),
    ];
    const run = async (given: readonly CacheDefinition[], after: string) => {
      const look = 'for each in deps two three four; do echo "FOUND $each $(cat $each/word)"; done';
      const make = `for each in deps two three four; do mkdir -p $each; echo ${after} >$each/word; done`;
      const end = after === "fails" ? ["exit 1"] : [];
      const image = { name: `${NAME}/busybox:1` };
      const { log } = await runJob({ image, caches: given, script: [look, make, ...end] });
      return [...log.matchAll(/FOUND (\w+) (\w*)\r?$/gm)].map(([, name, word]) => `${name} ${word}`.trim());
    };

    expect(await run(caches, "first")).toEqual(["deps", "two", "three", "four"]);
    expect(await run(caches, "fails")).toEqual(["deps first", "two first", "three", "four"]);
    const others = [
      aCache({ key: "none", fallbackKeys: ["nor-this", "third"], paths: ["three/"], policy: "pull" }),
      aCache({ key: "failed", paths: ["four/"], policy: "pull" }),
      aCache({ key: "second-main", paths: ["two/"], policy: "pull" }),
    ];
    expect(await run(others, "last")).toEqual(["deps", "two fails", "three first", "four fails"]);
  });

  test("has a socket that answers docker's clients, where the pool has one", async () => {
    told = { containers: { socket: true } };
    const { job, log } = await runJob({
      image: { name: "localhost/firerunner/helper:latest", entrypoint: [""] },
      services: [{ name: "$TOOLS/web:1", alias: "web", command: ["httpd", "-f", "-p", "8080"] }],
      script: [
        "docker ps --format '{{.Names}}'",
        "cp /bin/busybox . && printf 'FROM scratch\\nCOPY busybox /bin/sh\\n' >Dockerfile",
        'docker build -t app . && docker run --rm app sh -c "echo ran by the socket"',
      ],
    });
    told = {};

    expect(job, log).toMatchObject({ status: "success" });
    expect(log).toMatch(/registry\.example\.com__tools__web-0/);
    expect(log).toMatch(/^[^$]*ran by the socket/m);
  });
});
