import { expect, test } from "vitest";
import { checkJob } from "./check.ts";
import { plainPush } from "./push.ts";
import { surveyPipeline } from "./survey.ts";

/** `name: runs`, with a star for jobs that GitLab starts. */
async function check(text: string, files: Readonly<Record<string, string>> = {}): Promise<string[]> {
  const { jobs } = await surveyPipeline(text, plainPush, async (path) => files[path]);
  return jobs.map(checkJob).map(({ name, starts, runs }) => `${name}: ${runs}${starts ? " *" : ""}`);
}

test.each([
  ["a script", "a: { script: [make] }", "unchanged *"],
  ["tags of Linux", "a: { script: [make], tags: [docker, saas-linux-small-amd64] }", "unchanged *"],
  ["tags of Windows", "a: { script: [make], tags: [saas-windows-medium-amd64] }", "no *"],
  ["tags of macOS", "a: { script: [make], tags: [[macos-14]] }", "no *"],
  ["tags of ARM", "a: { script: [make], tags: [linux-arm64] }", "setting *"],
  ["an image", "a: { script: [make], image: alpine }", "unchanged *"],
  ["an image for all", "image: alpine\na: { script: [make] }", "unchanged *"],
  ["an image for all by default", "default: { image: alpine }\na: { script: [make] }", "unchanged *"],
  [
    "an image that is not inherited",
    "default: { image: alpine }\na: { inherit: { default: false }, script: [make] }",
    "unchanged *",
  ],
  ["services", "a: { script: [make], services: [postgres] }", "unchanged *"],
  ["services for all", "services: [postgres]\na: { script: [make] }", "unchanged *"],
  [
    "an image for another computer",
    "a: { script: [make], image: { name: alpine, docker: { platform: linux/arm64/v8 } } }",
    "setting *",
  ],
  [
    "a service for another computer",
    "a: { script: [make], services: [x, { name: alpine, docker: { platform: linux/s390x } }] }",
    "setting *",
  ],
  [
    "images for this computer",
    "a: { script: [make], image: { name: x, docker: { platform: linux/amd64 } }, services: [{ name: y, docker: { platform: $P } }] }",
    "unchanged *",
  ],
  ["a cache for all", "cache: { paths: [x] }\na: { script: [make] }", "unchanged *"],
  ["steps", "a: { run: [{ name: x, script: make }] }", "no *"],
  ["a downstream pipeline", "image: alpine\na: { trigger: group/other }", "unchanged *"],
  ["secrets", "a: { script: [make], secrets: { X: { vault: a/b } } }", "setting *"],
  ["a release", "a: { script: [make], release: { tag_name: v1 } }", "setting *"],
  ["docker in the shell", "a: { script: [docker build ., podman push x, docker-compose up] }", "unchanged *"],
  ["buildah in the shell", "a: { script: [docker build ., buildah push x] }", "setting *"],
  [
    "docker with dind",
    "a: { image: docker, services: [{ name: 'docker:27-dind' }], script: [docker build .] }",
    "unchanged *",
  ],
  [
    "docker with an engine of its own",
    "a: { image: docker, variables: { DOCKER_HOST: tcp://x:1 }, script: [docker build .] }",
    "unchanged *",
  ],
  [
    "docker without an engine",
    "a: { image: docker, services: [redis], script: [docker build .] }",
    "setting *",
  ],
  [
    "docker without an engine, behind another command",
    "a: { image: docker, before_script: ['cd x && sudo docker compose up'], script: [x] }",
    "setting *",
  ],
  [
    "docker without an engine, in a block of lines",
    "a:\n  image: docker\n  script:\n    - |\n      if true; then\n        docker push x\n      fi",
    "setting *",
  ],
  ["podman in an image", "a: { image: podman, script: [podman build .] }", "unchanged *"],
  ["docker as a word", "a: { image: x, script: ['echo docker build', 'ls docker'] }", "unchanged *"],
  ["a manual job", "a: { script: [make], when: manual }", "unchanged"],
  ["a job after a failure", "a: { script: [make], when: on_failure }", "unchanged"],
  ["a job of tags", "a: { script: [make], rules: [{ if: $CI_COMMIT_TAG }] }", "unchanged"],
  [
    "a pipeline of merge requests",
    "workflow: { rules: [{ if: $CI_MERGE_REQUEST_ID }] }\na: { script: [make] }",
    "unchanged",
  ],
  ["a job in .pre alone", "a: { script: [make], stage: .pre }", "unchanged"],
])("%s", async (_, text, expected) => {
  expect(await check(text)).toEqual([`a: ${expected}`]);
});

test("each job of parallel, and those of included files", async () => {
  const text = "include: other.yml\na: { script: [make], parallel: 2 }\n.hidden: { script: [x] }";

  expect(
    await check(text, { "other.yml": "b: { extends: .base }\n.base: { script: [x], image: alpine }" }),
  ).toEqual(["b: unchanged *", "a 1/2: unchanged *", "a 2/2: unchanged *"]);
});

test("what stands in a file on a server is said of the job that needs it", async () => {
  const { jobs } = await surveyPipeline(
    "include: https://example.com/x.yml\na: { extends: .far, script: [x] }\nb: { script: [x] }",
    plainPush,
    async () => undefined,
  );

  expect(jobs.map(checkJob)).toMatchObject([
    {
      name: "a",
      starts: false,
      runs: "no",
      notes: ["not started: not known", expect.stringContaining(".far")],
    },
    { name: "b", starts: true, runs: "unchanged", notes: [] },
  ]);
});

test("a file that GitLab would refuse is refused with its line", async () => {
  await expect(check("a: { stage: test }")).rejects.toThrow(".gitlab-ci.yml, line 1: “a” has no script");
});
