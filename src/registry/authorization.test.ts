import { expect, test } from "vitest";
import { Secret } from "../base/secret.ts";
import { createAuthorization, parseChallenge } from "./authorization.ts";

const password = { kind: "password", username: "me", password: new Secret("secret-word") } as const;

test.each(["http://auth.example.org/token", "file:///etc/passwd", "http://[broken"])(
  "a registry with TLS cannot have the login sent to %s",
  async (realm) => {
    const asked: unknown[] = [];
    const authorization = createAuthorization({
      origin: "https://registry.example.org",
      credentials: async () => password,
      ask: async (request) => {
        asked.push(request);
        return { status: 200, header: () => undefined, text: '{"token":"t"}' };
      },
    });

    await authorization.learn({ scheme: "bearer", realm, service: undefined }, []);

    await expect(authorization.header([])).rejects.toMatchObject({ code: "registry_refused" });
    expect(asked).toEqual([]);
  },
);

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
