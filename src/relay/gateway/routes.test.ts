import { describe, expect, test } from "vitest";
import { routeOf } from "./routes.ts";

describe("routes", () => {
  test.each([
    ["GET", "/firerunner/boot", "boot"],
    ["POST", "/firerunner/end", "end"],
    ["POST", "/firerunner/use", "tell-use"],
    ["POST", "/api/v4/jobs/request", "request-job"],
    ["PUT", "/api/v4/jobs/7", "update-job"],
    ["PATCH", "/api/v4/jobs/7/trace", "append-trace"],
    ["POST", "/api/v4/jobs/7/artifacts", "upload-artifacts"],
    ["GET", "/api/v4/jobs/7/artifacts", "download-artifacts"],
    ["GET", "/group/project.git/info/refs", "git"],
    ["GET", "/a/b-c/d_e/f.g.git/info/refs", "git"],
    ["GET", "/group/project/info/refs", "git"],
    ["GET", "/a/b/c-d/e.wiki/info/refs", "git"],
    ["POST", "/group/project.git/git-upload-pack", "git"],
    ["POST", "/group/project.git/git-receive-pack", "git"],
    ["POST", "/group/project.git/info/lfs/objects/batch", "lfs-batch"],
    ["POST", "/group/project.git/info/lfs/locks/verify", "git"],
    ["GET", `/group/project.git/gitlab-lfs/objects/${"0".repeat(64)}`, "lfs-object"],
    ["PUT", `/group/project.git/gitlab-lfs/objects/${"a".repeat(64)}/123`, "lfs-object"],
    ["GET", "/v2/", "registry-check"],
    ["GET", "/firerunner/registry-token", "registry-token"],
    ["GET", "/v2/team/tool/manifests/1.0", "registry-manifest"],
    ["HEAD", "/v2/r.example.org__5000/tool/manifests/latest", "registry-manifest"],
    ["GET", `/v2/tool/blobs/sha256:${"0".repeat(64)}`, "registry-blob"],
    ["GET", `/v2/tool/blobs/sha256:${"0".repeat(63)}`, "registry-other"],
    ["GET", "/v2/../tool/manifests/1", "registry-other"],
    ["GET", "/v2/tool/manifests/a/b", "registry-other"],
    ["PUT", "/v2/team/tool/manifests/1", "registry-other"],
    ["GET", "/v2/group/project.git/info/refs", "git"],
  ])("%s %s is %s", (method, path, kind) => {
    expect(routeOf(method, path)?.kind).toBe(kind);
  });

  test.each([
    ["GET", "/"],
    ["GET", "/api/v4/jobs/7"],
    ["DELETE", "/api/v4/jobs/7"],
    ["PUT", "/api/v4/jobs/0"],
    ["PUT", "/api/v4/jobs/07"],
    ["PUT", "/api/v4/jobs/7/../8"],
    ["PUT", "/api/v4/jobs/99999999999999999999"],
    ["GET", "/api/v4/projects"],
    ["GET", "/api/v4/job"],
    ["POST", "/api/v4/jobs/7/artifacts/authorize"],
    ["GET", "/group/../other/project.git/info/refs"],
    ["GET", "/group/./project.git/info/refs"],
    ["GET", "/../project.git/info/refs"],
    ["GET", "/group/%2e%2e/project.git/info/refs"],
    ["GET", "/group%2Fproject.git/info/refs"],
    ["GET", "/group//project.git/info/refs"],
    ["GET", "/group\\project.git/info/refs"],
    ["GET", "/group/project.git/../../api/v4/user/info/refs"],
    ["GET", "/group/project.git/objects/info/packs"],
    ["GET", "/.git/info/refs"],
    ["GET", "/api/v4/user/info/refs"],
    ["GET", "/project/info/refs"],
    ["POST", "/group/project/info/refs"],
    ["POST", "/group/project/git-upload-pack"],
    ["POST", "/group/project/info/lfs/objects/batch"],
    ["PUT", "/group/project.git/git-upload-pack"],
    ["GET", `/group/project.git/gitlab-lfs/objects/${"0".repeat(63)}`],
    ["GET", `/${"a/".repeat(2000)}project.git/info/refs`],
  ])("%s %s is nothing", (method, path) => {
    expect(routeOf(method, path)).toBeUndefined();
  });
});
