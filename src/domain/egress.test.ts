import { describe, expect, test } from "vitest";
import { z } from "zod";
import { EgressConfig, type EgressText, formatEgress, normalEgress } from "./egress.ts";

const nexus = { host: "nexus.example.org:8081", private: true };

describe("egress settings", () => {
  test.each<[EgressText, EgressText]>([
    ["none", "none"],
    ["internet", "internet"],
    [[], []],
    [
      ["registry.example.org:443", "*.debian.org:80", "Example.com"],
      ["registry.example.org:443", "*.debian.org:80", "example.com:443"],
    ],
    [
      ["10.0.0.5:5000", "[2001:DB8::1]"],
      ["10.0.0.5:5000", "[2001:db8::1]:443"],
    ],
    [["a.example", "a.example:443"], ["a.example:443"]],
    [[nexus], [nexus]],
    [{ mode: "none" }, "none"],
    [{ mode: "internet", hosts: [] }, "internet"],
    [
      { mode: "internet", hosts: [nexus, "mail.example.org:25"] },
      { mode: "internet", hosts: [nexus, "mail.example.org:25"] },
    ],
    [{ mode: "list", hosts: ["a.example"] }, ["a.example:443"]],
    [{ mode: "list" }, []],
    [
      { mode: "list", audit: true },
      { mode: "list", hosts: [], audit: true },
    ],
    [
      {
        mode: "list",
        hosts: [{ host: "*.corp.example", private: ["10.0.0.0/8", "fd12::/48", "192.168.1.7"] }],
      },
      [{ host: "*.corp.example:443", private: ["10.0.0.0/8", "fd12::/48", "192.168.1.7"] }],
    ],
    [{ mode: "list", hosts: [{ host: "10.0.0.5:22", private: true }] }, ["10.0.0.5:22"]],
  ])("%j is accepted, and shown as %j", (written, shown) => {
    const egress = EgressConfig.parse(written);

    expect(formatEgress(egress)).toEqual(shown);
    expect(EgressConfig.parse(formatEgress(egress))).toEqual(egress);
  });

  test("an address that is written out opens itself and nothing beside it", () => {
    expect(normalEgress(["10.0.0.5:5000"]).hosts).toEqual([
      { host: "10.0.0.5", port: 5_000, anyBelow: false, private: ["10.0.0.5/32"] },
    ]);
  });

  const listed = (...hosts: unknown[]) => ({ mode: "list", hosts });
  const privately = (...ranges: unknown[]) => listed({ host: "a.example", private: ranges });

  test.each<[unknown, string]>([
    ["all", "Invalid"],
    [["https://example.com"], "expected host:port"],
    [["*"], "expected host:port"],
    [["a.*.com"], "expected host:port"],
    [["example.com:"], "expected host:port"],
    [["example.com:0"], "expected host:port"],
    [["example.com:65536"], "expected host:port"],
    [["*.10.0.0.5:80"], "expected host:port"],
    [["[::g]:80"], "expected host:port"],
    [["a b"], "expected host:port"],
    [[""], "expected host:port"],
    [["0.0.0.0:80"], "no host can be reached"],
    [["[::ffff:10.0.0.1]:80"], "no host can be reached"],
    [[nexus, "nexus.example.org:8081"], "“nexus.example.org:8081” is listed twice"],
    [listed("a.example", "A.example:443"), "listed twice"],
    [{ mode: "none", hosts: ["a.example"] }, "write mode: list for these hosts alone"],
    [{ mode: "internet", audit: true }, "audit is for mode list"],
    [{ mode: "none", audit: true }, "audit is for mode list"],
    [{ hosts: [] }, "Invalid"],
    [{ mode: "list", host: [] }, "Unrecognized key"],
    [listed({ host: "*.corp.example", private: true }), "by range only"],
    [listed({ host: "10.0.0.5", private: ["10.0.0.0/8"] }), "leave the ranges out"],
    [privately(), "Too small"],
    [privately("10.0.0.0/33"), "between /8 and /32"],
    [privately("10.0.0.0/"), "expected an address or a range"],
    [privately("10.0.0/8"), "expected an address or a range"],
    [privately("0.0.0.0/0"), "between /8 and /32"],
    [privately("fc00::/6"), "between /7 and /128"],
    [privately("127.0.0.0/8"), "opened one by one"],
    [privately("169.254.0.0/16"), "opened one by one"],
    [privately("fd00:ec2::/64"), "opened one by one"],
    [privately("224.0.0.1"), "no host can be reached"],
    [privately("::ffff:10.0.0.0/104"), "no host can be reached"],
  ])("%j is refused: %s", (written, words) => {
    const parsed = EgressConfig.safeParse(written);

    expect(parsed.success).toBe(false);
    const { error } = parsed;
    expect(error && `${z.prettifyError(error)} ${JSON.stringify(error.issues)}`).toContain(words);
  });
});
