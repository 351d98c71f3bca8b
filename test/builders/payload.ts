import type { JobPayload } from "../../src/gitlab/runner-api.ts";

export interface PayloadOverrides extends Record<string, unknown> {
  id?: number;
  token?: string;
  /** Where GitLab is, without a slash at the end; the URLs of the payload are made from it. */
  gitlabUrl?: string;
}

/**
 * GitLab's answer (201) to a job request with every field that a real one carries, those FireRunner never reads included.
 * The token, the masked variable and the registry password are the secrets a test can look for.
 */
export function aPayload(overrides: PayloadOverrides = {}): JobPayload & Record<string, unknown> {
  const { gitlabUrl = "https://gitlab.example.com", ...fields } = overrides;
  const id = fields.id ?? 4711;
  const token = fields.token ?? `glcbt-64_${id}-secret-of-the-job`;
  return {
    id,
    token,
    allow_git_fetch: true,
    job_info: jobInfo(id),
    git_info: gitInfo(gitlabUrl, token),
    runner_info: { timeout: 3_600, runner_session_url: null, uuid: "5f0a3c7e-9f7e-4a6e-8a8f-2f4f6f1f9f10" },
    inputs: [],
    variables: variables(id, token, gitlabUrl),
    steps: [
      step("script", ["echo hello", "make test"], "on_success", false),
      step("after_script", ["echo bye"], "always", true),
    ],
    hooks: [],
    image: null,
    services: [],
    artifacts: [artifact()],
    cache: [],
    credentials: [
      {
        type: "registry",
        url: "registry.example.com",
        username: "gitlab-ci-token",
        password: "registry-password-of-the-job",
      },
    ],
    dependencies: [],
    features: {
      trace_sections: true,
      failure_reasons: [
        "unknown_failure",
        "script_failure",
        "runner_system_failure",
        "job_execution_timeout",
      ],
      token_mask_prefixes: ["glpat-"],
    },
    ...fields,
  };
}

function jobInfo(id: number) {
  return {
    id,
    name: "build",
    stage: "test",
    pipeline_id: 99,
    project_id: 7,
    project_name: "project",
    project_full_path: "group/project",
    namespace_id: 3,
    root_namespace_id: 3,
    organization_id: 1,
    instance_id: "0a1b2c",
    instance_uuid: "b1d9d5c8-6d3f-4c9a-9b0e-7f2d1c5e8a34",
    user_id: 5,
    scoped_user_id: null,
    time_in_queue_seconds: 0.42,
    project_jobs_running_on_instance_runners_count: "+Inf",
    queue_size: 1,
    queue_depth: 1,
  };
}

function gitInfo(gitlabUrl: string, token: string) {
  return {
    repo_url: `${gitlabUrl.replace("://", `://gitlab-ci-token:${token}@`)}/group/project.git`,
    repo_object_format: "sha1",
    ref: "main",
    sha: "8a3c1f0d5be1c7e0a5b6d7f8091a2b3c4d5e6f70",
    before_sha: "0000000000000000000000000000000000000000",
    ref_type: "branch",
    refspecs: ["+refs/pipelines/99:refs/pipelines/99", "+refs/heads/main:refs/remotes/origin/main"],
    depth: 20,
    protected: true,
  };
}

function variables(id: number, token: string, gitlabUrl: string) {
  return [
    { key: "CI_JOB_ID", value: String(id), public: true, masked: false },
    { key: "CI_JOB_TOKEN", value: token, public: false, masked: true },
    { key: "CI_SERVER_URL", value: gitlabUrl, public: true, masked: false },
    { key: "CI_PROJECT_PATH", value: "group/project", public: true, masked: false },
    { key: "CI_RUNNER_TAGS", value: '["firecracker-1cpu-1gb"]', public: true, masked: false },
    { key: "GREETING", value: "hello $NAME", public: true, masked: false, raw: true },
    { key: "DEPLOY_PASSWORD", value: "masked-secret-of-the-job", public: false, masked: true },
    { key: "KUBECONFIG", value: "apiVersion: v1\nkind: Config\n", public: false, masked: false, file: true },
  ];
}

function step(name: string, script: readonly string[], when: string, allowFailure: boolean) {
  return { name, script, timeout: 3_600, when, allow_failure: allowFailure };
}

function artifact() {
  return {
    name: "out",
    untracked: false,
    paths: ["out/"],
    exclude: [],
    when: "on_success",
    expire_in: "1 week",
    artifact_type: "archive",
    artifact_format: "zip",
  };
}
