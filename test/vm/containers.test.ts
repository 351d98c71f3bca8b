import { beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "../../src/base/clock.ts";
import { silentLog } from "../../src/base/log.ts";
import { createImageStore, type ResolvedImage } from "../../src/image/store.ts";
import { tryContainerJob } from "../../src/operations/image-trial.ts";
import { busyboxLayer, diskOf } from "../builders/busybox.ts";
import { imageOf } from "../builders/layer.ts";
import { startRunnerGitLab } from "../builders/runner-gitlab.ts";
import { temporaryDirectory } from "../builders/temporary-directory.ts";
import { testImageDirectory } from "../harness/image.ts";
import { beforeItsEnd, createHandMachine, handBootData } from "./boot-by-hand.ts";
import { buildTestImage } from "./build-image.ts";

const DEADLINE_MS = 540_000;
const APPLETS = ["cat", "head", "httpd", "id", "mkdir", "sh", "wget"];
const IMAGE = "registry.example.com/tools/busybox:1";

/** Runs a job in a machine of two CPUs: how its runner says that it ended, and what GitLab was told until then. */
async function runJob(
  image: ResolvedImage,
  job: object,
  { imageDisks = [], ...told }: { imageDisks?: string[] } & Parameters<typeof handBootData>[0],
) {
  const options = { imageDisks, cpus: 2, deadlineMs: DEADLINE_MS };
  await using machine = await createHandMachine(image, options);
  const payload = {
    ...{ id: 7, token: "glcbt-jobtoken", runner_info: { timeout: 500 } },
    git_info: { repo_url: "http://10.0.2.100/group/project.git", refspecs: [], sha: "0", ref: "main" },
    ...job,
  };
  const bootData = handBootData(told);
  await using gitlab = await startRunnerGitLab(payload, { socketPath: machine.relaySocket, bootData });
  machine.start();
  const final = await beforeItsEnd(machine, gitlab.finished);
  return { final, artifacts: gitlab.record.artifacts, log: gitlab.record.trace.toString("utf8") };
}

// Emulated, each of the jobs takes about a minute: `npm run test:slow-machines`.
describe.runIf(process.env["FIRERUNNER_SLOW_MACHINES"])("an image that runs containers", () => {
  let image: ResolvedImage;

  beforeAll(async () => {
    await buildTestImage("containers");
    const directory = testImageDirectory();
    image = await createImageStore({ directory }).resolve("containers");
  }, DEADLINE_MS);

  test("is proved by a job in a container of the helper image it has", { timeout: DEADLINE_MS }, async () => {
    expect(image.containerRunnerInfo).toMatchObject({ executor: "docker", features: { image: true } });

    const options = { name: "containers", image, clock: systemClock, log: silentLog };
    expect(await tryContainerJob(options, AbortSignal.timeout(DEADLINE_MS))).toBeGreaterThan(0);
  });

  test("runs a job in the image of a disk, with a service by its alias, and nothing is pulled", {
    timeout: DEADLINE_MS,
  }, async () => {
    await using directory = await temporaryDirectory();
    const disk = await diskOf(imageOf([await busyboxLayer(APPLETS)]), IMAGE, directory.path);
    const containers = { imageDisks: 1, defaultImage: "none", privileged: false };
    const served = "mkdir /served; echo served by $NAME >/served/file; exec httpd -f -p 8080 -h /served";
    const service = { name: "$REGISTRY/tools/busybox:1", alias: "web", command: ["sh", "-c", served] };
    const job = {
      image: { name: "$REGISTRY/tools/busybox:1", pull_policy: ["never"] },
      services: [{ ...service, pull_policy: ["never"], variables: [{ key: "NAME", value: "a service" }] }],
      variables: [
        { key: "GIT_STRATEGY", value: "none" },
        { key: "CI_PROJECT_PATH", value: "group/project" },
        { key: "REGISTRY", value: "registry.example.com" },
      ],
      steps: [
        {
          name: "script",
          script: ["id", "until wget -q -O result http://web:8080/file; do :; done"],
          when: "on_success",
        },
        { name: "after_script", script: ["cat result"], when: "always" },
      ],
      artifacts: [{ paths: ["result"], artifact_format: "raw" }],
    };

    const { final, log, artifacts } = await runJob(image, job, { imageDisks: [disk], containers });

    expect(log).toContain("uid=0");
    expect(log).toContain("served by a service");
    expect(log).not.toContain("Pulling");
    expect(final).toMatchObject({ state: "success" });
    expect(artifacts.map(({ body }) => body.toString())).toEqual(["served by a service\n"]);
  });

  test("a shell job builds with docker what Dockerfiles for BuildKit ask for, and its container becomes healthy", {
    timeout: DEADLINE_MS,
  }, async () => {
    const build = [
      "FROM scratch",
      "COPY busybox /bin/sh",
      "ARG WHO",
      'RUN --mount=type=cache,target=/kept echo "built by $WHO" >/kept/file && read line </kept/file && echo "$line" >/file',
    ];
    const script = [
      "cp /bin/busybox .",
      ...build.map((line) => `echo '${line}' >>Dockerfile`),
      "docker build -t app --build-arg WHO .",
      "docker run --rm app sh -c 'read line </file; echo $line'",
      "docker run -d -i --name app --health-cmd 'read line </file' --health-interval 1s app sh -c 'read -t 600 wait'",
      "until docker inspect -f '{{.State.Health.Status}}' app | grep -x healthy; do sleep 1; done",
      "docker compose version",
    ];
    const job = {
      variables: [{ key: "GIT_STRATEGY", value: "none" }],
      steps: [{ name: "script", script, when: "on_success" }],
    };
    const runnerSettings = { environment: ["WHO=a pool's word"], preBuild: "echo before $WHO" };

    const { final, log } = await runJob(image, job, { runnerSettings });

    expect(final, log).toMatchObject({ state: "success" });
    expect(log).toContain("before a pool's word");
    expect(log).toContain("built by a pool's word");
    expect(log).toContain("Docker Compose version");
  });

  test("says on the console what a disk lacks that has no images, and ends", {
    timeout: DEADLINE_MS,
  }, async () => {
    const containers = { imageDisks: 1, defaultImage: "none", privileged: false };
    const [base = ""] = image.layers;
    await using machine = await createHandMachine(image, { imageDisks: [base], deadlineMs: DEADLINE_MS });
    const bootData = handBootData({ containers });
    await using _ = await startRunnerGitLab(
      { id: 7, token: "t" },
      { socketPath: machine.relaySocket, bootData },
    );
    machine.start();

    await machine.ended;

    expect(await machine.console()).toContain(
      "the container engine cannot start: there is no store of images on /images/0",
    );
  });
});
