import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { canonicalAddress, createAddressSet, limitKey } from "./address.ts";

describe("canonicalAddress", () => {
  test.each([
    ["192.0.2.1", "192.0.2.1"],
    ["::ffff:192.0.2.1", "192.0.2.1"],
    ["::FFFF:C000:0201", "192.0.2.1"],
    ["2001:DB8:0:0:0:0:0:1", "2001:db8::1"],
    ["fe80::1%eth0", "fe80::1"],
    ["::1", "::1"],
  ])("%s is %s", (text, canonical) => {
    expect(canonicalAddress(text)).toBe(canonical);
  });

  test.each(["", "unknown", "192.0.2.1:80", "[::1]", "1.2.3", "_hidden", "2001:db8::1::2", undefined])(
    "%s is none",
    (text) => {
      expect(canonicalAddress(text)).toBeUndefined();
    },
  );

  test("is the same for what is canonical already, and every text can be asked about", () => {
    fc.assert(
      fc.property(fc.oneof(fc.ipV4(), fc.ipV6(), fc.string()), (text) => {
        const canonical = canonicalAddress(text);
        expect(canonicalAddress(canonical)).toBe(canonical);
      }),
    );
  });
});

describe("limitKey", () => {
  test("counts an IPv6 network of 64 bits as one client", () => {
    const key = limitKey("2001:db8:1:2::1");

    expect(limitKey("2001:db8:1:2:ffff:ffff:ffff:ffff")).toBe(key);
    expect(limitKey("2001:db8:1:3::1")).not.toBe(key);
    expect(limitKey("2001:db8::1")).toBe(limitKey("2001:db8:0:0:9:8:7:6"));
  });

  test("counts an IPv4 address as itself", () => {
    expect(limitKey("192.0.2.1")).toBe("192.0.2.1");
  });

  test("depends on the first four groups of any IPv6 address, and on nothing else", () => {
    const group = fc.integer({ min: 0, max: 0xffff }).map((each) => each.toString(16));
    const groups = (length: number) => fc.array(group, { minLength: length, maxLength: length });
    fc.assert(
      fc.property(groups(4), groups(4), groups(4), (network, one, other) => {
        const [a, b] = [one, other].map((host) => canonicalAddress([...network, ...host].join(":")) ?? "");
        fc.pre(a?.includes(":") === true && b?.includes(":") === true);
        expect(limitKey(a ?? "")).toBe(limitKey(b ?? ""));
        expect(
          limitKey(a ?? "")
            .split(":")
            .slice(0, 4),
        ).toEqual(network);
      }),
    );
  });
});

describe("an address set", () => {
  test.each([
    ["10.0.0.0/8", "10.1.2.3", true],
    ["10.0.0.0/8", "11.1.2.3", false],
    ["192.0.2.1", "192.0.2.1", true],
    ["192.0.2.1", "192.0.2.2", false],
    ["2001:db8::/32", "2001:db8:1::1", true],
    ["2001:db8::/32", "2001:db9::1", false],
    ["::1", "::1", true],
    ["0.0.0.0/0", "192.0.2.1", true],
    ["0.0.0.0/0", "2001:db8::1", false],
    ["::/0", "2001:db8::1", true],
    ["::ffff:10.0.0.0/104", "10.1.2.3", true],
    ["::ffff:10.0.0.0/104", "11.1.2.3", false],
    ["::ffff:192.0.2.1", "192.0.2.1", true],
  ])("%s has %s: %s", (range, address, has) => {
    expect(createAddressSet([range]).has(address)).toBe(has);
  });

  test("knows a client that comes as IPv4-mapped IPv6", () => {
    const set = createAddressSet(["10.0.0.0/8"]);

    expect(set.has(canonicalAddress("::ffff:10.1.2.3") ?? "")).toBe(true);
    expect(set.has(canonicalAddress("::ffff:11.1.2.3") ?? "")).toBe(false);
  });

  test("tells whether it was given anything", () => {
    expect(createAddressSet([]).isEmpty).toBe(true);
    expect(createAddressSet(["::1"]).isEmpty).toBe(false);
    expect(createAddressSet([]).has("::1")).toBe(false);
  });
});
