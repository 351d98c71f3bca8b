import { describe, expect, test } from "vitest";
import { aPayload } from "../../../test/builders/payload.ts";
import { pathBelow, rewritePayload } from "./payload.ts";

test("names private authorities of GitLab's as its runner does, unless the job has a file of its own", () => {
  const way = {
    origin: "https://g.example.com",
    basePath: "",
    relayHost: "10.0.2.100",
    authorities: "-----PEM-----",
  };
  const variables = (given: object[]) => {
    const raw = JSON.stringify({ id: 1, token: "t", variables: given });
    const { variables: all } = JSON.parse(rewritePayload(raw, way)) as { variables: { key: string }[] };
    return all.filter(({ key }) => key === "CI_SERVER_TLS_CA_FILE");
  };

  expect(variables([])).toEqual([
    expect.objectContaining({ value: "-----PEM-----", file: true, public: true }),
  ]);
  expect(variables([{ key: "CI_SERVER_TLS_CA_FILE", value: "own" }])).toEqual([
    { key: "CI_SERVER_TLS_CA_FILE", value: "own" },
  ]);
});

test("says under which span the job may hang its own, unless the job says so itself", () => {
  const way = { origin: "https://g.example.com", basePath: "", relayHost: "10.0.2.100" };
  const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
  const variables = (given: object[], told?: string) => {
    const raw = JSON.stringify({ id: 1, token: "t", variables: given });
    const { variables: all } = JSON.parse(rewritePayload(raw, { ...way, traceparent: told }));
    return all.filter(({ key }: { key: string }) => key === "TRACEPARENT");
  };

  expect(variables([])).toEqual([]);
  expect(variables([], traceparent)).toEqual([
    { key: "TRACEPARENT", value: traceparent, public: true, masked: false },
  ]);
  expect(variables([{ key: "TRACEPARENT", value: "own" }], traceparent)).toEqual([
    { key: "TRACEPARENT", value: "own" },
  ]);
});

function rewritten(overrides: Parameters<typeof aPayload>[0] = {}, basePath = "", withoutCaches = false) {
  const raw = JSON.stringify(aPayload(overrides));
  return JSON.parse(
    rewritePayload(raw, {
      origin: "https://gitlab.example.com",
      basePath,
      relayHost: "10.0.2.100",
      withoutCaches,
    }),
  );
}

describe("the payload for a guest", () => {
  test("clones through the relay with the job's token", () => {
    const payload = rewritten({ token: "glcbt-64_x.y" });

    expect(payload.git_info.repo_url).toBe(
      "http://gitlab-ci-token:glcbt-64_x.y@10.0.2.100/group/project.git",
    );
  });

  test("leaves out the path under which GitLab lives", () => {
    const payload = rewritten({ gitlabUrl: "https://example.com/gitlab" }, "/gitlab");

    expect(payload.git_info.repo_url).toMatch(/@10\.0\.2\.100\/group\/project\.git$/);
  });

  test("differs from GitLab's in nothing but the clone URL, the attempts and git's variables", () => {
    const original = aPayload({ an_unknown_field: { deep: [1, null, "é\u0000", 9_007_199_254_740_991] } });
    const payload = JSON.parse(
      rewritePayload(JSON.stringify(original), {
        origin: "https://gitlab.example.com",
        basePath: "",
        relayHost: "10.0.2.100",
      }),
    );
    const { variables, git_info: git, ...rest } = payload;
    const { variables: originalVariables, git_info: originalGit, ...originalRest } = original;

    expect(rest).toEqual(originalRest);
    expect({ ...git, repo_url: "" }).toEqual({ ...originalGit, repo_url: "" });
    expect(variables.slice(0, originalVariables?.length)).toEqual(originalVariables);
    const added = variables.slice(originalVariables?.length).map(({ key }: { key: string }) => key);
    expect(added.filter((key: string) => !key.startsWith("GIT_CONFIG_"))).toEqual([
      "GET_SOURCES_ATTEMPTS",
      "ARTIFACT_DOWNLOAD_ATTEMPTS",
      "RESTORE_CACHE_ATTEMPTS",
    ]);
  });

  test("has its caches where they are kept, and none where nobody would ever see what the runner packs", () => {
    const cache = [{ key: "main", paths: ["node_modules/"], policy: "pull-push" }];

    expect(rewritten({ cache }).cache).toEqual(cache);
    expect(rewritten({ cache }, "", true).cache).toEqual([]);
    expect(rewritten({ cache: null }, "", true).cache).toBeNull();
  });

  test("keeps attempts that the job sets itself", () => {
    const own = { key: "GET_SOURCES_ATTEMPTS", value: "1", public: true, masked: false };
    const { variables } = rewritten({ variables: [own] });

    expect(variables.filter(({ key }: { key: string }) => key === own.key)).toEqual([own]);
  });

  test.each([undefined, null])("copes with variables and git_info being %s", (nothing) => {
    const payload = rewritten({ variables: nothing, git_info: nothing });

    expect(payload.variables.slice(0, 3).map(({ value }: { value: string }) => value)).toEqual([
      "3",
      "3",
      "3",
    ]);
    expect(payload.git_info).toBe(nothing);
  });

  test.each([
    ["/gitlab", "/gitlab/a/b.git", "/a/b.git"],
    ["/gitlab", "/gitlabber/b.git", "/gitlabber/b.git"],
    ["", "/a/b.git", "/a/b.git"],
  ])("below %j the path %s is %s", (base, path, expected) => {
    expect(pathBelow(base, path)).toBe(expected);
  });
});

test("how images are to be got is left out where they are in the machine already, and nowhere else", () => {
  const image = { name: "node", pull_policy: ["always"], entrypoint: [""] };
  const services = [{ name: "redis", pull_policy: "never", alias: "r" }, { name: "x" }];
  const raw = JSON.stringify(aPayload({ image, services }));
  const way = { origin: "https://gitlab.example.com", basePath: "", relayHost: "10.0.2.100" };

  const inside = JSON.parse(rewritePayload(raw, { ...way, hasImages: true }));
  const outside = JSON.parse(rewritePayload(raw, way));

  expect(inside.image).toEqual({ name: "node", entrypoint: [""] });
  expect(inside.services).toEqual([{ name: "redis", alias: "r" }, { name: "x" }]);
  expect(outside).toMatchObject({ image, services });
});
