import { describe, expect, test } from "vitest";
import { withGitRewrites } from "./payload.ts";

const variable = (key: string, value: string) => ({ key, value, public: true, masked: false });

interface Given {
  readonly bases?: readonly string[];
  readonly variables?: readonly unknown[];
  readonly token?: string;
}

/** What git is told: the prefixes that lead to the relay, and for whom. */
function rewrites({ bases = ["https://gitlab.example.com"], variables = [], token = "tok-1" }: Given) {
  const all = withGitRewrites(variables, { bases, relayHost: "10.0.2.100", token });
  const values = new Map(
    all.map((each) => [(each as { key: string }).key, (each as { value: string }).value]),
  );
  const count = Number(values.get("GIT_CONFIG_COUNT"));
  const entries = Array.from({ length: count }, (_, index) => [
    values.get(`GIT_CONFIG_KEY_${index}`),
    values.get(`GIT_CONFIG_VALUE_${index}`),
  ]);
  return { all, entries, prefixes: entries.map(([, value]) => value) };
}

describe("GitLab by its own name, for git", () => {
  test("leads to the relay with the job's token, in every way to write the same server", () => {
    const { entries } = rewrites({});

    expect([...new Set(entries.map(([key]) => key))]).toEqual([
      "url.http://gitlab-ci-token:tok-1@10.0.2.100/.insteadOf",
    ]);
    expect(entries.map(([, value]) => value)).toEqual([
      "https://gitlab.example.com/",
      "https://gitlab-ci-token:tok-1@gitlab.example.com/",
      "https://gitlab.example.com:443/",
      "https://gitlab-ci-token:tok-1@gitlab.example.com:443/",
      "http://gitlab.example.com/",
      "http://gitlab-ci-token:tok-1@gitlab.example.com/",
    ]);
  });

  test.each([
    ["https://example.com/gitlab", "https://example.com/gitlab/"],
    ["https://gitlab.example.com:8443", "https://gitlab.example.com:8443/"],
    ["http://gitlab.internal", "http://gitlab.internal:80/"],
    ["https://[2001:db8::1]", "https://[2001:db8::1]/"],
  ])("at %s is known as %s", (base, prefix) => {
    expect(rewrites({ bases: [base] }).prefixes).toContain(prefix);
  });

  test("is one server and no other: every prefix ends where a host or a path ends", () => {
    const forced = [
      variable("GIT_SUBMODULE_FORCE_HTTPS", "true"),
      variable("CI_SERVER_HOST", "gitlab.example.com"),
    ];
    const { prefixes } = rewrites({ variables: forced });

    expect(prefixes.every((prefix) => /[/:]$/.test(prefix ?? ""))).toBe(true);
    expect(prefixes.some((prefix) => "https://gitlab.example.com.evil.org/x".startsWith(prefix ?? ""))).toBe(
      false,
    );
    expect(rewrites({ bases: ["https://example.com/gitlab"] }).prefixes).not.toContain(
      "https://example.com/",
    );
  });

  test("twice the same is said once", () => {
    const base = "https://gitlab.example.com";

    expect(rewrites({ bases: [base, base] }).prefixes).toEqual(rewrites({ bases: [base] }).prefixes);
  });

  test.each<[Record<string, string>, string[]]>([
    [
      { GIT_SUBMODULE_FORCE_HTTPS: "true" },
      ["git@git.example.com:", "ssh://git@git.example.com/", "ssh://git@git.example.com:22/"],
    ],
    [
      { GIT_SUBMODULE_FORCE_HTTPS: "1", CI_SERVER_SHELL_SSH_PORT: "2222" },
      ["ssh://git@git.example.com:2222/"],
    ],
    [{ GIT_SUBMODULE_FORCE_HTTPS: "false" }, []],
    [{}, []],
    [{ GIT_SUBMODULE_FORCE_HTTPS: "true", CI_SERVER_SHELL_SSH_PORT: "22\n" }, []],
    [{ GIT_SUBMODULE_FORCE_HTTPS: "true", CI_SERVER_SHELL_SSH_HOST: "a b" }, []],
  ])("%j leads these by SSH there too: %j", (given, expected) => {
    const variables = Object.entries({ CI_SERVER_SHELL_SSH_HOST: "git.example.com", ...given });
    const { prefixes } = rewrites({ variables: variables.map(([key, value]) => variable(key, value)) });

    expect(prefixes.filter((prefix) => /^(?:git@|ssh:)/.test(prefix ?? ""))).toEqual(expected);
  });

  test("comes behind what the job tells git itself", () => {
    const own = [
      variable("GIT_CONFIG_COUNT", "1"),
      variable("GIT_CONFIG_KEY_0", "core.abbrev"),
      variable("GIT_CONFIG_VALUE_0", "12"),
    ];
    const { all, entries } = rewrites({ variables: own });

    expect(entries[0]).toEqual(["core.abbrev", "12"]);
    expect(entries).toHaveLength(7);
    expect(all.filter((each) => (each as { key: string }).key === "GIT_CONFIG_COUNT")).toHaveLength(1);
  });

  test.each(["$COUNT", "-1", "1e3", "99999", " 1"])("is left out beside a count of %j", (count) => {
    const own = [variable("GIT_CONFIG_COUNT", count)];

    expect(withGitRewrites(own, { bases: ["https://a.example"], relayHost: "r", token: "t" })).toEqual(own);
  });

  test("the token is hidden, and no `$` in it is expanded", () => {
    const { all } = rewrites({ token: "a$b:/@" });

    expect(all.every((each) => !(each as { public: boolean }).public)).toBe(true);
    expect(all[0]).toMatchObject({
      value: "url.http://gitlab-ci-token:a%24b%3A%2F%40@10.0.2.100/.insteadOf",
      raw: true,
    });
  });
});
