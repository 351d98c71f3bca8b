import { describe, expect, test } from "vitest";
import { cacheRequestOf } from "./request.ts";
import { type CacheJob, digestOfKey, placesFor, type Separation, targetFor } from "./rights.ts";

const onMain: CacheJob = { projectId: 7, isProtected: true, keys: ["deps-protected"] };
const onBranch: CacheJob = { projectId: 7, isProtected: false, keys: ["deps-non_protected"] };

/** The realms in which a job finds what is stored under a key, for its plain and for its hashed name, and where it stores it. */
function realmsOf(job: CacheJob, key: string, separation: Separation = "ref") {
  const found = (name: { key: string } | { digest: string }) =>
    placesFor(job, name, separation).flatMap(({ id, accepts }) => (accepts(key) ? [id.realm] : []));
  const digest = digestOfKey(key);
  const targets = [
    targetFor(job, { key }, undefined, separation)?.id.realm,
    targetFor(job, { digest }, key, separation)?.id.realm,
  ];
  return { plain: found({ key }), hashed: found({ digest }), targets };
}

describe("what keeps branches apart", () => {
  test.each([
    ["a protected branch", onMain, "deps-protected", "protected"],
    ["a protected branch, without GitLab's ending", onMain, "deps", "protected"],
    ["a protected branch with unprotect", onMain, "deps-non_protected", "unprotected"],
    ["another branch", onBranch, "deps-non_protected", "unprotected"],
    ["another branch, without GitLab's ending", onBranch, "deps", "unprotected"],
    ["another branch that asks for what is protected", onBranch, "deps-protected", "unprotected"],
  ] as const)("%s: by the ref alone", (_, job, key, realm) => {
    const { plain, hashed, targets } = realmsOf(job, key);

    expect([plain, targets]).toEqual([[realm], [realm, realm]]);
    expect(hashed).toContain(realm);
    if (!job.isProtected) expect(hashed).toEqual(["unprotected"]);
  });

  test.each([
    ["its own ending", { ...onBranch, keys: ["a-protected"] }, "a-protected", "protected"],
    ["no ending, as of a project that does not separate", { ...onBranch, keys: ["a"] }, "a", "shared"],
    ["no ending, on a protected branch", { ...onMain, keys: ["a"] }, "a", "shared"],
    ["unprotect", { ...onMain, keys: ["a-protected", "b-non_protected"] }, "b-non_protected", "unprotected"],
  ] as const)("by GitLab's endings, where that is wanted: %s", (_, job, key, realm) => {
    const { plain, hashed, targets } = realmsOf(job, key, "gitlab");

    expect([plain, targets]).toEqual([[realm], [realm, realm]]);
    expect(hashed).toContain(realm);
  });

  test.each([
    ["protected ones", onBranch, "deps-protected"],
    ["those without an ending", onBranch, "deps"],
    ["those without an ending, on a protected branch", onMain, "deps"],
    ["any, of a job without caches", { ...onBranch, keys: [] }, "deps-non_protected"],
  ] as const)("by GitLab's endings a job has no caches but of its own kind: not %s", (_, job, key) => {
    expect(realmsOf(job, key, "gitlab")).toMatchObject({ plain: [], targets: [undefined, undefined] });
  });
});

describe("a hashed name", () => {
  test("is the same cache as its plain name", () => {
    const digest = digestOfKey("deps-protected");
    const [place] = placesFor(onMain, { key: "deps-protected" }, "ref");

    expect(placesFor(onMain, { digest }, "ref")[0]?.id).toEqual(place?.id);
    expect(targetFor(onMain, { digest }, "deps-protected", "ref")).toEqual({
      id: place?.id,
      key: "deps-protected",
    });
  });

  test("whose key is not proved is stored among what the job has by itself, without one", () => {
    const digest = digestOfKey("deps-non_protected");

    for (const said of [undefined, "other-non_protected"])
      expect(targetFor(onMain, { digest }, said, "ref")).toEqual({
        id: { projectId: 7, realm: "protected", digest },
        key: undefined,
      });
  });

  test("does not bring to a protected branch what another branch has put under it without its key", () => {
    const digest = digestOfKey("deps-protected");
    const planted = targetFor(onBranch, { digest }, undefined, "ref");
    const lied = targetFor(onBranch, { digest }, "deps-protected", "ref");
    const [, elsewhere] = placesFor(onMain, { digest }, "ref");

    expect(elsewhere?.id).toEqual(planted?.id);
    expect(elsewhere?.accepts(planted?.key)).toBe(false);
    // The key is true, and proves that this is not the protected branch's.
    expect(elsewhere?.accepts(lied?.key)).toBe(false);
    expect(elsewhere?.accepts("deps-non_protected")).toBe(true);
  });
});

describe("the path of a request", () => {
  const digest = "1f17650".padEnd(64, "0");

  test.each([
    ["a plain key", "7/deps-protected", { projectId: 7, name: { key: "deps-protected" } }],
    ["letters of all kinds", "7/a%20b/%C3%A9%2Bc%25", { projectId: 7, name: { key: "a b/é+c%" } }],
    ["a hashed key", `7/${digest}`, { projectId: 7, name: { digest } }],
    ["a hashed key in its folder", `7/1f/${digest}`, { projectId: 7, name: { digest } }],
    [
      "a folder that is not the hashed key's",
      `7/2f/${digest}`,
      { projectId: 7, name: { key: `2f/${digest}` } },
    ],
    ["a key that climbs", "7/../8/deps", { projectId: 7, name: { key: "../8/deps" } }],
    ["a key that climbs in disguise", "7/%2e%2e%2f8", { projectId: 7, name: { key: "../8" } }],
  ])("names %s", (_, rest, request) => {
    expect(cacheRequestOf(`/firerunner-cache/project/${rest}`)).toEqual(request);
  });

  test.each([
    ["no key", "7/"],
    ["no project", "x/deps"],
    ["a project with a sign", "-7/deps"],
    ["a project with zeros", "07/deps"],
    ["a project of many digits", "1234567890123456/deps"],
    ["half a letter", "7/%C3"],
    ["half an escape", "7/%"],
    ["a line end", "7/a%0Ab"],
    ["a zero", "7/a%00"],
    ["too much", `7/${"a".repeat(5_000)}`],
    ["too long a key", `7/${"a".repeat(2_049)}`],
  ])("names nothing with %s", (_, rest) => {
    expect(cacheRequestOf(`/firerunner-cache/project/${rest}`)).toBeUndefined();
  });

  test("names nothing in another bucket", () => {
    expect(cacheRequestOf("/cache/project/7/deps")).toBeUndefined();
    expect(cacheRequestOf("/firerunner-cache/runner/x/project/7/deps")).toBeUndefined();
  });
});
