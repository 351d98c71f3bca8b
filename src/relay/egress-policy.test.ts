import { describe, expect, test } from "vitest";
import type { Egress } from "../lifecycle/config.ts";
import { describeTarget, isListed, judgeTarget, parseTarget } from "./egress-policy.ts";

const gitlab = { host: "gitlab.internal", port: 8443 };

function judge(egress: Egress, authority: string) {
  const target = parseTarget(authority);
  if (target === undefined) throw new Error(`${authority} is no target`);
  const verdict = judgeTarget(egress, target, gitlab);
  return verdict.allowed ? (verdict.trusted ? "trusted" : "allowed") : "refused";
}

describe("a pool's egress", () => {
  test.each<[Egress, string, string]>([
    ["none", "example.com:443", "refused"],
    ["none", "gitlab.internal:8443", "refused"],
    ["internet", "example.com:443", "allowed"],
    ["internet", "example.com:25", "refused"],
    ["internet", "gitlab.internal:8443", "trusted"],
    ["internet", "gitlab.internal:22", "allowed"],
    ["internet", "10.0.0.1:443", "allowed"],
    [["registry.example.org"], "registry.example.org:443", "allowed"],
    [["registry.example.org"], "REGISTRY.example.org.:443", "allowed"],
    [["registry.example.org"], "registry.example.org:80", "refused"],
    [["registry.example.org:80"], "registry.example.org:80", "allowed"],
    [["*.example.org"], "registry.example.org:443", "allowed"],
    [["*.example.org"], "a.b.example.org:443", "allowed"],
    [["*.example.org"], "example.org:443", "refused"],
    [["*.example.org"], "evilexample.org:443", "refused"],
    [["example.org"], "example.org.evil.com:443", "refused"],
    [["10.0.0.5:5000"], "10.0.0.5:5000", "trusted"],
    [["10.0.0.5:5000"], "10.0.0.5:5001", "refused"],
    [[], "gitlab.internal:8443", "trusted"],
  ])("%j judges %s: %s", (egress, authority, expected) => {
    expect(judge(egress, authority)).toBe(expected);
  });

  test("lists of the operator match with the port in mind", () => {
    expect(isListed(["minio.internal:9000"], { host: "minio.internal", port: 9000 })).toBe(true);
    expect(isListed(["minio.internal:9000"], { host: "minio.internal", port: 443 })).toBe(false);
  });
});

describe("a target", () => {
  test.each([
    ["example.com:443", "example.com:443"],
    ["EXAMPLE.com.:8080", "example.com:8080"],
    ["[2606:4700::1]:443", "[2606:4700::1]:443"],
    ["127.0.0.1:1", "127.0.0.1:1"],
  ])("%s is %s", (authority, expected) => {
    const target = parseTarget(authority);

    expect(target && describeTarget(target)).toBe(expected);
  });

  test.each([
    "example.com",
    "example.com:0",
    "example.com:65536",
    ":443",
    "a b:443",
    "user@host:443",
    "[::1",
    "[zz]:443",
    "::1:443",
    "host/path:443",
    "a..b:443",
    "host:443\r\nX: y",
    `${"a".repeat(254)}:443`,
  ])("%j is none", (authority) => {
    expect(parseTarget(authority)).toBeUndefined();
  });
});
