import { expect, test } from "vitest";
import { formatHostPort, splitHostPort } from "./host-port.ts";

test.each([
  ["metal-1.example.org:9090", { host: "metal-1.example.org", port: 9_090 }],
  ["192.0.2.7:80", { host: "192.0.2.7", port: 80 }],
  ["[2001:db8::1]:443", { host: "2001:db8::1", port: 443 }],
])("%s is taken apart and put together", (text, parts) => {
  expect(splitHostPort(text)).toEqual(parts);
  expect(formatHostPort(parts)).toBe(text);
});
