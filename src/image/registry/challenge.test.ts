import { expect, test } from "vitest";
import { parseChallenge } from "./challenge.ts";

test.each([
  ['Basic realm="x"', { scheme: "basic" }],
  ["basic", { scheme: "basic" }],
  [
    'Bearer realm="https://auth.example.org/token?a=b,c",service="reg",scope="repository:a:pull"',
    { scheme: "bearer", realm: "https://auth.example.org/token?a=b,c", service: "reg" },
  ],
  ['bearer  Realm = "https://a/\\"q"', { scheme: "bearer", realm: 'https://a/"q', service: undefined }],
  [
    'Basic realm="Bearer of news", Bearer realm=https://a',
    { scheme: "bearer", realm: "https://a", service: undefined },
  ],
  [["Negotiate", 'Basic realm="y"'], { scheme: "basic" }],
  ['Digest realm="basic"', undefined],
  ['Bearer service="x"', undefined],
  [undefined, undefined],
])("%j", (header, challenge) => {
  expect(parseChallenge(header)).toEqual(challenge);
});
