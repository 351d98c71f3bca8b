/** The pipelines of `firerunner demo`, and how each of their jobs must end. */
export const demoPipeline = `
build:
  stage: build
  script:
    - uname -sr
    - mkdir out
    - echo "made by job $CI_JOB_ID on $(hostname)" > out/answer.txt
  artifacts:
    paths: [out/]

use:
  stage: test
  needs: [build]
  script:
    - cat out/answer.txt
    - grep -q "made by job" out/answer.txt

fails:
  stage: build
  script:
    - echo "the next command fails"
    - (exit 3)

cancelled:
  stage: build
  script:
    - for i in $(seq 1 600); do echo "working $i"; sleep 1; done

killed:
  stage: build
  script:
    - for i in $(seq 1 600); do echo "working $i"; sleep 1; done
`;

/**
 * The pipeline whose jobs come by webhook: each looks from inside whether its machine has the size that its tag names. A kernel
 * keeps some of the memory for itself, so what `MemTotal` says lies below the size, and above that of the next smaller machine.
 */
export const sizesPipeline = `
small:
  tags: [firecracker-1cpu-640mb]
  script:
    - echo "$(nproc) CPU, $(awk '/^MemTotal/ { print $2 }' /proc/meminfo) KiB of memory"
    - test "$(nproc)" = 1
    - awk '/^MemTotal/ { exit !($2 > 500000 && $2 < 640 * 1024) }' /proc/meminfo

large:
  tags: [firecracker-2cpu-1gb]
  script:
    - echo "$(nproc) CPUs, $(awk '/^MemTotal/ { print $2 }' /proc/meminfo) KiB of memory"
    - test "$(nproc)" = 2
    - awk '/^MemTotal/ { exit !($2 > 850000 && $2 < 1024 * 1024) }' /proc/meminfo
`;

type DemoAct = "cancel" | "kill-machine";

export interface Expectation {
  readonly status: "success" | "failed" | "canceled";
  readonly failureReason?: string;
  /** What is done to the job once its log shows that its script runs. */
  readonly act?: DemoAct;
}

export const demoExpectations: Readonly<Record<string, Expectation>> = {
  build: { status: "success" },
  use: { status: "success" },
  fails: { status: "failed", failureReason: "script_failure" },
  cancelled: { status: "canceled", act: "cancel" },
  killed: { status: "failed", failureReason: "runner_system_failure", act: "kill-machine" },
  small: { status: "success" },
  large: { status: "success" },
};

/** What a line of the log looks like once the script of such a job runs. */
export const WORKING_LINE = /^working \d+$/m;

/** What the jobs clone. */
export function demoFiles(pipeline: string): Readonly<Record<string, string>> {
  return {
    "README.md": "# Demo\n\nThe repository that the jobs of `firerunner demo` clone.\n",
    ".gitlab-ci.yml": pipeline.trimStart(),
  };
}
