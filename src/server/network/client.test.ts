import type { IncomingMessage } from "node:http";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Client, canonicalAddress, clientOf, createAddressSet, limitKey } from "./client.ts";

const trusted = createAddressSet(["10.0.0.0/8", "2001:db8:aaaa::/48"]);

function ask(remoteAddress: string | undefined, forwardedFor?: string): Client {
  const headers = forwardedFor === undefined ? {} : { "x-forwarded-for": forwardedFor };
  return clientOf({ socket: { remoteAddress }, headers } as unknown as IncomingMessage, trusted);
}

describe("who sends a request", () => {
  test.each([
    ["without the header, the other end", "10.0.0.1", undefined, "10.0.0.1"],
    ["from an unknown client the header means nothing", "192.0.2.1", "203.0.113.9", "192.0.2.1"],
    ["a trusted proxy names the client", "10.0.0.1", "203.0.113.9", "203.0.113.9"],
    ["a mapped proxy is the same proxy", "::ffff:10.0.0.1", "203.0.113.9", "203.0.113.9"],
    ["what the client wrote itself stands left", "10.0.0.1", "127.0.0.1, 203.0.113.9", "203.0.113.9"],
    ["trusted hops are passed by", "10.0.0.1", "1.1.1.1, 203.0.113.9, 10.9.9.9,10.8.8.8", "203.0.113.9"],
    ["all of them trusted: the first", "10.0.0.1", "10.0.0.7, 10.0.0.8", "10.0.0.7"],
    ["ports are no part of an address", "10.0.0.1", "203.0.113.9:4711", "203.0.113.9"],
    ["nor are brackets", "10.0.0.1", "[2001:db8::9]:4711", "2001:db8::9"],
    ["an IPv6 hop", "2001:db8:aaaa::1", "2001:DB8::0009", "2001:db8::9"],
    ["a mapped hop", "10.0.0.1", "::ffff:203.0.113.9", "203.0.113.9"],
    ["empty hops are none", "10.0.0.1", " , 203.0.113.9, ,", "203.0.113.9"],
    ["an empty header", "10.0.0.1", "", "10.0.0.1"],
  ])("%s", (_case, peer, header, address) => {
    expect(ask(peer, header).address).toBe(address);
  });

  test.each(["unknown", "_secret", "203.0.113.9 10.0.0.1", "<script>", "203.0.113.999"])(
    "a proxy that names %s leaves the client unknown, and is counted itself",
    (hop) => {
      expect(ask("10.0.0.1", `127.0.0.1, ${hop}`)).toEqual({ address: undefined, key: "10.0.0.1" });
      expect(ask("10.0.0.1", `${hop}, 10.0.0.2`)).toEqual({ address: undefined, key: "10.0.0.2" });
    },
  );

  test("a connection that is gone has no address", () => {
    expect(ask(undefined).address).toBeUndefined();
  });

  test("no header whatsoever makes a client another one", () => {
    fc.assert(
      fc.property(fc.string(), (header) => {
        expect(ask("192.0.2.1", header)).toEqual({ address: "192.0.2.1", key: "192.0.2.1" });
      }),
    );
  });

  test("nothing that a client writes hides the address that the proxy adds", () => {
    fc.assert(
      fc.property(fc.string(), (header) => {
        expect(ask("10.0.0.1", `${header}, 203.0.113.9`).address).toBe("203.0.113.9");
      }),
    );
  });
});

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
