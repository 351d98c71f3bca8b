import { describe, expect, test } from "vitest";
import type { PrivateAddresses } from "../../domain/egress.ts";
import { createAddressGuard } from "./addresses.ts";

const guard = createAddressGuard(() => ["93.184.215.14", "2606:2800:21f::1"]);

describe("the address guard", () => {
  test.each([
    ["this network", "0.0.0.0"],
    ["private", "10.1.2.3"],
    ["private", "172.31.255.255"],
    ["private", "192.168.0.1"],
    ["loopback", "127.0.0.1"],
    ["loopback far away", "127.255.255.254"],
    ["carrier-grade NAT", "100.64.0.1"],
    ["link-local and metadata", "169.254.169.254"],
    ["a cloud's agent", "168.63.129.16"],
    ["protocol assignments", "192.0.0.192"],
    ["benchmarks", "198.19.0.1"],
    ["6to4 relay", "192.88.99.1"],
    ["multicast", "224.0.0.251"],
    ["reserved", "250.1.1.1"],
    ["broadcast", "255.255.255.255"],
    ["unspecified", "::"],
    ["loopback", "::1"],
    ["mapped private", "::ffff:10.0.0.1"],
    ["mapped public", "::ffff:8.8.8.8"],
    ["mapped in hex", "::ffff:7f00:1"],
    ["compatible", "::127.0.0.1"],
    ["NAT64", "64:ff9b::a00:1"],
    ["local NAT64", "64:ff9b:1::a00:1"],
    ["6to4", "2002:7f00:1::1"],
    ["Teredo", "2001:0:4136:e378:8000:63bf:3fff:fdd2"],
    ["documentation", "2001:db8::1"],
    ["documentation", "3fff::1"],
    ["unique local", "fd00:ec2::254"],
    ["link-local", "fe80::1"],
    ["site-local", "fec0::1"],
    ["multicast", "ff02::1"],
    ["segment routing", "5f00::1"],
    ["discard", "100::1"],
    ["the host's own", "93.184.215.14"],
    ["the host's own", "2606:2800:21f:0::1"],
    ["no address", "localhost"],
  ])("refuses %s: %s", (_what, address) => {
    expect(guard(address)).toEqual(expect.any(String));
  });

  test.each(["8.8.8.8", "1.1.1.1", "100.63.0.1", "172.32.0.1", "2606:4700:4700::1111", "2a00:1450::1"])(
    "lets public %s pass",
    (address) => {
      expect(guard(address)).toBeUndefined();
    },
  );

  test.each<[PrivateAddresses, string]>([
    [true, "10.1.2.3"],
    [true, "172.31.255.255"],
    [true, "192.168.0.1"],
    [true, "100.64.0.1"],
    [true, "fd12::1"],
    [true, "8.8.8.8"],
    [["10.1.0.0/16"], "10.1.2.3"],
    [["10.1.2.3"], "10.1.2.3"],
    [["fd12::/48"], "fd12::1"],
    [["198.18.0.0/15"], "198.19.0.1"],
    [["10.1.0.0/16"], "8.8.8.8"],
    [["127.0.0.1"], "127.0.0.1"],
    [["169.254.169.254/32"], "169.254.169.254"],
    [["93.184.215.14"], "93.184.215.14"],
    [["::1"], "::1"],
  ])("opened by %j lets %s pass", (opened, address) => {
    expect(guard(address)).toEqual(address === "8.8.8.8" ? undefined : expect.any(String));
    expect(guard(address, opened)).toBeUndefined();
  });

  test.each<[PrivateAddresses, string]>([
    [true, "127.0.0.1"],
    [true, "169.254.169.254"],
    [true, "fe80::1"],
    [true, "::1"],
    [true, "224.0.0.1"],
    [true, "0.0.0.0"],
    [true, "198.18.0.1"],
    [true, "192.0.2.1"],
    [true, "93.184.215.14"],
    [true, "168.63.129.16"],
    [true, "100.100.100.200"],
    [true, "fd00:ec2::254"],
    [true, "::ffff:10.0.0.1"],
    [true, "64:ff9b::a00:1"],
    [["10.1.0.0/16"], "10.2.0.1"],
    [["10.1.0.0/16"], "fd12::1"],
    [["fd00::/8"], "fd00:ec2::254"],
    [["100.64.0.0/10"], "100.100.100.200"],
    [["127.0.0.0/8"], "127.0.0.1"],
    [["93.184.0.0/16"], "93.184.215.14"],
    [["224.0.0.1"], "224.0.0.1"],
    [["0.0.0.0"], "0.0.0.0"],
    [["::ffff:10.0.0.1"], "::ffff:10.0.0.1"],
  ])("opened by %j refuses %s all the same", (opened, address) => {
    expect(guard(address, opened)).toEqual(expect.any(String));
  });

  test("knows this computer's addresses by itself", () => {
    expect(createAddressGuard()("127.0.0.1")).toBeDefined();
  });
});
