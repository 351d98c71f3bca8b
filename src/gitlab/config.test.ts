import { describe, expect, test } from "vitest";
import { GitLabConfig } from "./config.ts";

describe("the gitlab settings", () => {
  test.each(["https://gitlab.example.com", "http://10.0.0.5:8080/gitlab", "https://gitlab.example.com/git/"])(
    "take %s",
    (url) => {
      expect(GitLabConfig.parse({ url })).toEqual({ url });
    },
  );

  test.each([
    "gitlab.example.com",
    "ftp://gitlab.example.com",
    "https://user:word@gitlab.example.com",
    "https://gitlab.example.com/?a=b",
    "https://gitlab.example.com/#x",
    "",
  ])("refuse %j", (url) => {
    expect(GitLabConfig.safeParse({ url }).success).toBe(false);
  });

  test("refuse a key they do not know", () => {
    expect(GitLabConfig.safeParse({ url: "https://gitlab.example.com", cafile: "x" }).success).toBe(false);
  });
});
