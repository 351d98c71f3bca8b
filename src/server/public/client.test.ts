import type { IncomingMessage } from "node:http";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createAddressSet } from "./address.ts";
import { type Client, clientOf } from "./client.ts";

const trusted = createAddressSet(["10.0.0.0/8", "2001:db8:aaaa::/48"]);

function ask(remoteAddress: string | undefined, forwardedFor?: string): Client {
  const headers = forwardedFor === undefined ? {} : { "x-forwarded-for": forwardedFor };
  return clientOf({ socket: { remoteAddress }, headers } as unknown as IncomingMessage, trusted);
}

describe("who sends a request", () => {
  test.each([
    ["without the header, the other end", "10.0.0.1", undefined, "10.0.0.1"],
    ["from a stranger the header means nothing", "192.0.2.1", "203.0.113.9", "192.0.2.1"],
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

  test("no header whatsoever makes a stranger another one", () => {
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
