import { describe, expect, test } from "vitest";
import { formatHostPort } from "../../base/host-port.ts";
import { type EgressText, normalEgress } from "../../domain/egress.ts";
import { evaluateTarget, isListed, parseTarget } from "./egress-policy.ts";

const nexus = { host: "nexus.internal:8081", private: true };
const below = { host: "*.x.corp.example", private: ["10.0.0.0/8"] };
const gitlab = { host: "gitlab.internal", port: 8443 };

/** `any`: whatever its address; `private`: some of those that are not public; `audited`: only to be written down. */
function judge(egress: EgressText, authority: string) {
  const target = parseTarget(authority);
  if (target === undefined) throw new Error(`${authority} is no target`);
  const verdict = evaluateTarget(normalEgress(egress), target, gitlab);
  if (!verdict.allowed) return "refused";
  if (verdict.unlisted) return "audited";
  if (verdict.addresses === "any") return "any";
  return verdict.addresses === false ? "allowed" : "private";
}

describe("a pool's egress", () => {
  test.each<[EgressText, string, string]>([
    ["none", "example.com:443", "refused"],
    ["none", "gitlab.internal:8443", "refused"],
    ["internet", "example.com:443", "allowed"],
    ["internet", "example.com:25", "refused"],
    ["internet", "gitlab.internal:8443", "any"],
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
    [["10.0.0.5:5000"], "10.0.0.5:5000", "private"],
    [["10.0.0.5:5000"], "10.0.0.5:5001", "refused"],
    [[], "gitlab.internal:8443", "any"],
    [["[2001:db8::5]:5000"], "[2001:db8:0::5]:5000", "private"],
    [[{ host: "nexus.internal:8081", private: true }], "nexus.internal:8081", "private"],
    [[{ host: "nexus.internal:8081", private: true }], "nexus.internal:443", "refused"],
    [{ mode: "internet", hosts: [nexus] }, "nexus.internal:8081", "private"],
    [{ mode: "internet", hosts: [nexus] }, "other.internal:8081", "allowed"],
    [{ mode: "internet", hosts: ["mail.example.org:25"] }, "mail.example.org:25", "allowed"],
    [{ mode: "internet", hosts: ["mail.example.org:25"] }, "example.com:25", "refused"],
    [{ mode: "list", hosts: [nexus] }, "example.com:443", "refused"],
    [{ mode: "list", hosts: [nexus], audit: true }, "nexus.internal:8081", "private"],
    [{ mode: "list", hosts: [nexus], audit: true }, "example.com:443", "audited"],
    [{ mode: "list", hosts: [nexus], audit: true }, "example.com:25", "refused"],
    [{ mode: "list", hosts: ["*.corp.example", below] }, "a.x.corp.example:443", "private"],
    [{ mode: "list", hosts: [below, "*.corp.example"] }, "a.x.corp.example:443", "private"],
    [{ mode: "list", hosts: ["b.x.corp.example", below] }, "b.x.corp.example:443", "allowed"],
    [{ mode: "list", hosts: [below, "*.corp.example"] }, "y.corp.example:443", "allowed"],
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

    expect(target && formatHostPort(target)).toBe(expected);
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
