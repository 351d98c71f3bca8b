/** The pipeline of `firerunner demo`, and how each of its jobs must end. */
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
};

/** What a line of the log looks like once the script of such a job runs. */
export const WORKING_LINE = /^working \d+$/m;

export const demoFiles: Readonly<Record<string, string>> = {
  "README.md": "# Demo\n\nThe repository that the jobs of `firerunner demo` clone.\n",
  ".gitlab-ci.yml": demoPipeline.trimStart(),
};
