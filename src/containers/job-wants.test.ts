import { describe, expect, test } from "vitest";
import { aPayload } from "../../test/builders/payload.ts";
import { jobWants, pulledRegistries } from "./job-wants.ts";
import { parseImageName } from "./reference.ts";

const rules = {
  defaultImage: "debian:13",
  allow: ["registry.corp.example/tools/*", "docker.io/library/node"],
  architecture: "amd64",
};

const wantsOf = (fields: Record<string, unknown>) => jobWants(JSON.stringify(aPayload(fields)), rules);
const named = (name: string, variables: readonly object[] = []) =>
  wantsOf({ image: { name }, variables }).images.map((image) => image.name);

describe("a job", () => {
  test("that names neither image nor services runs in the shell", () => {
    for (const fields of [{}, { image: null, services: null }, { image: { name: "" }, services: [] }])
      expect(wantsOf(fields)).toMatchObject({ executor: "shell", images: [] });
  });

  test("that names an image runs in containers, with each image once", () => {
    const wants = wantsOf({
      image: { name: "node:24" },
      services: [{ name: "redis" }, { name: "docker.io/library/redis:latest", alias: "a,b" }],
    });

    expect(wants.executor).toBe("docker");
    expect(wants.images).toEqual([
      { name: "docker.io/library/node:24", policies: ["always"], isTrusted: true },
      { name: "docker.io/library/redis:latest", policies: ["always"], isTrusted: false },
    ]);
  });

  test("names images with its pool's variables, too, and its own win", () => {
    const environment = ["HOST=registry.corp.example:5000", "TAG=1=2", "EMPTY="];
    const payload = aPayload({
      image: { name: "$HOST/tools/a$EMPTY:$TAG" },
      variables: [{ key: "TAG", value: "3" }],
    });

    const { images } = jobWants(JSON.stringify(payload), { ...rules, environment });

    expect(images.map(({ name }) => name)).toEqual(["registry.corp.example:5000/tools/a:3"]);
  });

  test("that names services alone has its pool's image", () => {
    const { executor, images } = wantsOf({ services: [{ name: "redis:8" }] });

    expect(executor).toBe("docker");
    expect(images[0]).toEqual({ name: "docker.io/library/debian:13", policies: ["always"], isTrusted: true });
    expect(images[1]?.name).toBe("docker.io/library/redis:8");
  });

  test("that names the same image by two policies gets it by the one that asks most", () => {
    const image = (pull_policy: unknown) => ({ name: "redis", pull_policy });

    const { images } = wantsOf({
      image: image(["never"]),
      services: [image(["if-not-present", "always"]), image("never")],
    });

    expect(images).toMatchObject([{ policies: ["if-not-present", "always"] }]);
  });
});

describe("variables in a name", () => {
  const variables = [
    { key: "TAG", value: "1" },
    { key: "TAG", value: "24" },
    { key: "IMAGE", value: "node:$TAG" },
    { key: "DEEP", value: "$IMAGE" },
    { key: "RAW", value: "node:$TAG", raw: true },
    { key: "PLAIN", value: "node" },
  ];

  test.each([
    ["node:$TAG", "docker.io/library/node:24"],
    [`node:\${TAG}`, "docker.io/library/node:24"],
    ["$IMAGE", "docker.io/library/node:24"],
    ["$PLAIN:$TAG-slim", "docker.io/library/node:24-slim"],
    [`\${PLAIN}js/x\${NONE}y`, "docker.io/nodejs/xy:latest"],
    [`node\${}:24`, "docker.io/library/node:24"],
    ["node:$1$TAG", "docker.io/library/node:24"],
  ])("%s is %s", (text, name) => {
    expect(named(text, variables)).toEqual([name]);
  });

  test.each(["$NONE", `\${TAG:-24}`, "$DEEP", "$RAW", "node:$$TAG", "node:$-$"])("%s is no name", (text) => {
    expect(() => named(text, variables)).toThrow(expect.objectContaining({ code: "container_bad_name" }));
  });

  test("never take what is in a file to a registry", () => {
    const secret = { key: "KEY", value: "content", file: true };

    for (const text of ["x/$KEY", "$VIA"])
      expect(() => named(text, [secret, { key: "VIA", value: `x/\${KEY}` }])).toThrow(
        /\$KEY is a file, and cannot be part/,
      );
  });

  test("cannot become more than a name can be", () => {
    const many = "$A".repeat(50_000);

    expect(() =>
      named(many, [
        { key: "A", value: "$B".repeat(50_000) },
        { key: "B", value: "b".repeat(50_000) },
      ]),
    ).toThrow(/too long/);
  });
});

describe("what a job asks of an image", () => {
  test.each([
    [undefined, ["always"]],
    [null, ["always"]],
    [[], ["always"]],
    ["never", ["never"]],
    [
      ["always", "if-not-present", "always"],
      ["always", "if-not-present"],
    ],
  ])("the pull policy %j is %j", (pull_policy, policies) => {
    expect(wantsOf({ image: { name: "node", pull_policy } }).images).toMatchObject([{ policies }]);
  });

  test.each([["sometimes"], [["always", "no"]], [7], [{ always: true }]])(
    "the pull policy %j is refused",
    (pull_policy) => {
      expect(() => wantsOf({ image: { name: "node", pull_policy } })).toThrow(
        expect.objectContaining({ code: "container_bad_policy" }),
      );
    },
  );

  const on = (platform: string) =>
    wantsOf({
      image: { name: "node", executor_opts: { docker: { platform } } },
      variables: [{ key: "ARCH", value: "arm64" }],
    });

  test.each(["", "linux/amd64", "amd64", "linux", "linux/x86_64"])("the platform %j is this one", (text) => {
    expect(on(text).images).toHaveLength(1);
  });

  test.each(["linux/arm64", "arm64", "linux/$ARCH", "windows/amd64", "linux/"])(
    "the platform %s is refused",
    (text) => {
      expect(() => on(text)).toThrow(expect.objectContaining({ code: "container_wrong_platform" }));
    },
  );
});

test("only images of a pattern may be had with FireRunner's own login", () => {
  const trusted = (name: string) => wantsOf({ image: { name } }).images[0]?.isTrusted;

  for (const name of ["registry.corp.example/tools/a", "registry.corp.example/tools/a/b:1", "node:24"])
    expect([name, trusted(name)]).toEqual([name, true]);
  for (const name of [
    "registry.corp.example/toolsy/a",
    "registry.corp.example/other",
    "registry.corp.example.evil.example/tools/a",
    "evil.example/registry.corp.example/tools/a",
    "node-evil",
  ])
    expect([name, trusted(name)]).toEqual([name, false]);
});

describe("the login for an image", () => {
  const auth = (user: string) => ({ auth: Buffer.from(`${user}:pass`).toString("base64") });
  const config = {
    auths: {
      "https://index.docker.io/v1/": auth("hub"),
      "docker.io/node": auth("node"),
      "Registry.Example.com": auth("own"),
      "registry.example.com/team": auth("team"),
      "registry.example.com/team/tool:1": auth("tool"),
      "other.example:5000": { auth: "broken" },
      "nobody.example": {},
      "token.example": { identitytoken: "t" },
    },
    credsStore: "anything",
    credHelpers: { "helped.example": "anything" },
  };
  const sent = ["registry.example.com", "other.example:5000", "gitlab.example:5050", "nobody.example"].map(
    (url) => ({ type: "registry", url, username: "gitlab-ci-token", password: "x" }),
  );

  function loginFor(image: string, value = JSON.stringify(config), kind = {}) {
    const { logins } = wantsOf({
      variables: [{ key: "DOCKER_AUTH_CONFIG", value, ...kind }],
      credentials: [...sent, { type: "other", url: "plain.example", username: "u", password: "p" }],
    });
    const login = logins.of(parseImageName(image));
    return login?.kind === "password" ? login.username : login?.kind;
  }

  test.each([
    ["redis", "hub"],
    ["team/tool", "hub"],
    ["node:24", "node"],
    ["registry.example.com/x", "own"],
    ["registry.example.com/team/x", "team"],
    ["registry.example.com/teams/x", "own"],
    [`registry.example.com/team/tool@sha256:${"a".repeat(64)}`, "tool"],
    ["gitlab.example:5050/group/project", "gitlab-ci-token"],
    ["other.example:5000/x", "gitlab-ci-token"],
    ["nobody.example/x", undefined],
    ["token.example/x", "identity-token"],
    ["helped.example/x", undefined],
    ["plain.example/x", undefined],
    ["elsewhere.example/x", undefined],
  ])("%s is that of %s", (image, user) => {
    expect(loginFor(image)).toBe(user);
    expect(loginFor(image, undefined, { file: true })).toBe(user);
  });

  test.each(["", "{", "[]", '{"auths":7}'])("is GitLab's where DOCKER_AUTH_CONFIG is %j", (text) => {
    expect(loginFor("registry.example.com/x", text)).toBe("gitlab-ci-token");
    const { logins } = wantsOf({ variables: [{ key: "DOCKER_AUTH_CONFIG", value: text }] });
    expect(logins.problem === undefined).toBe(text === "");
  });
});

const pulled = (name: string, ...policies: ("always" | "if-not-present" | "never")[]) => ({
  name,
  policies: policies.length === 0 ? (["always"] as const) : policies,
});

describe("the registries that a machine asks for the images that it pulls", () => {
  test("are each said once, as names have them", () => {
    const names = [
      "docker.io/library/a:1",
      "docker.io/b/c:1",
      "r.example.com:5000/d:1",
      "localhost:5000/e:1",
    ];

    expect(pulledRegistries(names.map((name) => pulled(name)))).toEqual([
      "docker.io",
      "r.example.com:5000",
      "localhost:5000",
    ]);
  });

  test("are none for an image that may only be there already: it is nowhere", () => {
    const never = pulled("docker.io/library/a:1", "never");

    expect(() => pulledRegistries([never])).toThrow(expect.objectContaining({ code: "container_not_here" }));
    expect(pulledRegistries([pulled("docker.io/library/a:1", "never", "always")])).toEqual(["docker.io"]);
  });

  test.each(["localhost/tool:1", "[2001:db8::1]:5000/tool:1"])(
    "%s is of none that the relay could be told of",
    (name) => {
      expect(() => pulledRegistries([pulled(name)])).toThrow(
        expect.objectContaining({ code: "container_bad_name" }),
      );
    },
  );
});
