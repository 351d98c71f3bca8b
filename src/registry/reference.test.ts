import { describe, expect, test } from "vitest";
import { isLocalRegistry, parsePushTarget } from "./reference.ts";

describe("where to push to", () => {
  test.each([
    ["localhost/x", "localhost", "x", undefined],
    ["localhost:5000/lab/x:v1", "localhost:5000", "lab/x", "v1"],
    ["registry.example.org/a/b-c__d.e", "registry.example.org", "a/b-c__d.e", undefined],
    ["Registry.Example.org/a", "registry.example.org", "a", undefined],
    ["[::1]:5000/a", "[::1]:5000", "a", undefined],
    ["10.0.0.1:443/a:V.1_2-3", "10.0.0.1:443", "a", "V.1_2-3"],
  ])("%s", (text, registry, name, tag) => {
    expect(parsePushTarget(text)).toEqual({ registry, name, tag });
  });

  test.each([
    ["lab/kernel", "containerd would take “lab” for its host"],
    ["firerunner", "names no registry"],
    ["/x", "names no registry"],
    ["https://registry.example.org/x", "has a scheme"],
    ["registry.example.org/x@sha256:00", "has a digest"],
    ["registry.example.org/", "has “” as its name"],
    ["registry.example.org/Team/x", "has “Team/x” as its name"],
    ["registry.example.org/a//b", "has “a//b” as its name"],
    [`registry.example.org/${"a".repeat(241)}`, "as its name"],
    ["registry.example.org/x:", "has “” as its tag"],
    ["registry.example.org/x:a/b", "has “a/b” as its tag"],
    ["registry..example.org:port/x", "as its registry"],
  ])("%s is refused", (text, problem) => {
    expect(() => parsePushTarget(text)).toThrow(expect.objectContaining({ code: "registry_bad_name" }));
    expect(() => parsePushTarget(text)).toThrow(problem);
  });

  test("this computer is known by its names", () => {
    expect(
      ["localhost", "localhost:5000", "127.0.0.1:5000", "127.1.2.3", "[::1]:5000"].every(isLocalRegistry),
    ).toBe(true);
    expect(["localhost.example.org", "10.0.0.1:5000", "127.example.org"].some(isLocalRegistry)).toBe(false);
  });
});
