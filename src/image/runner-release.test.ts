import { expect, test } from "vitest";
import { digestInList, RUNNER_RELEASE } from "./runner-release.ts";

test.each([
  ["a  ./binaries/x-amd64", "x-amd64", false],
  [`${"a".repeat(64)}  ./binaries/x-amd64`, "x-amd64", true],
  [`${"a".repeat(64)} *x-amd64`, "x-amd64", true],
  [`${"a".repeat(64)}  ./binaries/other-x-amd64`, "x-amd64", false],
])("the list line %s names %s: %s", (line, file, named) => {
  expect(digestInList(`${line}\n`, file)).toBe(named ? "a".repeat(64) : undefined);
});

test("the official runner is pinned to a version, a key and addresses with TLS", () => {
  expect(RUNNER_RELEASE.version).toMatch(/^v\d+\.\d+\.\d+$/);
  expect(RUNNER_RELEASE.keyFingerprint).toBe("931DA69CFA3AFEBBC97DAA8C6C57C29C6BA75A4E");
  for (const url of [RUNNER_RELEASE.mirror, RUNNER_RELEASE.keyUrl])
    expect(new URL(url).protocol).toBe("https:");
});
