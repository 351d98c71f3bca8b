import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createStandInGitLab, type StandInGitLab } from "@firerunner/gitlab-stand-in/stand-in";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { temporaryDirectory } from "../../test/builders/temporary-directory.ts";
import { makeCertificateAuthority } from "../../test/servers/certificates.ts";
import { answer, startHttpServer } from "../../test/servers/http-server.ts";
import { Secret } from "../base/secret.ts";
import { createSetupChecks } from "./setup-checks.ts";

const checks = createSetupChecks();
const { signal } = new AbortController();
let gitlab: StandInGitLab;

beforeEach(async () => {
  gitlab = createStandInGitLab();
  await gitlab.listen();
  await gitlab.projects.add({ path: "top/sub/app" });
});

afterEach(async () => {
  await gitlab.close();
});

const place = () => ({ url: gitlab.url, caFile: undefined });

describe("an address", () => {
  test("where GitLab answers is right, and warned of when it is not encrypted", async () => {
    await using server = await startHttpServer((_request, response) =>
      answer(response, 401, { message: "401 Unauthorized" }),
    );

    expect(await checks.checkPlace({ url: server.url, caFile: undefined }, signal)).toMatchObject({
      level: "warn",
      message: `GitLab answers at ${server.url}, without encryption: tokens can be read on the way`,
    });
    expect(server.seen[0]?.path).toBe("/api/v4/version");
    expect(server.seen[0]?.headers["private-token"]).toBeUndefined();
  });

  test.each([
    ["HTML", 200, "<html>welcome</html>", "not GitLab's API"],
    ["HTML that wants a login", 401, "<html>login</html>", "not GitLab's API"],
    ["nothing there", 404, "<html>no</html>", "not GitLab's API"],
    ["an error", 502, "<html>bad</html>", "answers 502"],
  ])("with %s behind it is refused", async (_what, status, body, expected) => {
    await using server = await startHttpServer((_request, response) => answer(response, status, body));
    const finding = await checks.checkPlace({ url: server.url, caFile: undefined }, signal);

    expect(finding.level).toBe("fail");
    expect(finding.message).toContain(expected);
  });

  test("that leads elsewhere is not followed", async () => {
    await using server = await startHttpServer((_request, response) =>
      answer(response, 301, undefined, { location: "https://gitlab.example.org/api/v4/version" }),
    );

    expect((await checks.checkPlace({ url: server.url, caFile: undefined }, signal)).message).toContain(
      "points to https://gitlab.example.org",
    );
  });

  test("with a certificate of a private authority is right once that is known", async () => {
    await using authority = await makeCertificateAuthority();
    await using directory = await temporaryDirectory();
    const tls = await authority.issue("localhost");
    await using server = await startHttpServer(
      (_request, response) => answer(response, 401, { message: "401 Unauthorized" }),
      tls,
    );
    const url = server.url.replace("127.0.0.1", "localhost");
    const caFile = join(directory.path, "ca.pem");
    await writeFile(caFile, authority.ca);

    expect(await checks.checkPlace({ url, caFile: undefined }, signal)).toMatchObject({
      level: "fail",
      untrusted: true,
    });
    expect(await checks.checkPlace({ url, caFile }, signal)).toEqual({
      level: "ok",
      message: `GitLab answers at ${url}`,
    });
    expect(await checks.checkPlace({ url, caFile: join(directory.path, "no.pem") }, signal)).toMatchObject({
      level: "fail",
      message: expect.stringContaining("no.pem"),
    });
  });

  test("that is none, and one that nobody answers at", async () => {
    const { url } = gitlab;
    await gitlab.down();

    expect((await checks.checkPlace({ url: "https://", caFile: undefined }, signal)).level).toBe("fail");
    expect((await checks.checkPlace({ url, caFile: undefined }, signal)).message).toContain("was refused");
    await gitlab.up();
  });
});

describe("a token", () => {
  test("of an owner may do everything in a group, a project and not in the whole GitLab", async () => {
    const token = new Secret(gitlab.tokens.add({ scopes: ["api"] }).token);

    expect(await checks.checkToken(place(), token, signal)).toMatchObject([{ level: "ok" }]);
    expect(await checks.checkScope(place(), token, { kind: "group", name: "top" }, signal)).toMatchObject([
      { level: "ok", message: "group top is number 501 in GitLab" },
      { level: "ok" },
    ]);
    expect(
      await checks.checkScope(place(), token, { kind: "project", name: "top/sub/app" }, signal),
    ).toMatchObject([{ level: "ok" }, { level: "ok" }]);
    expect(await checks.checkScope(place(), token, { kind: "instance" }, signal)).toMatchObject([
      { level: "fail" },
    ]);
  });

  test("of a maintainer is not enough for a group", async () => {
    const added = gitlab.tokens.add({ scopes: ["api"], role: "maintainer", memberOf: "top" });
    const findings = await checks.checkScope(
      place(),
      new Secret(added.token),
      { kind: "group", name: "top" },
      signal,
    );

    expect(findings).toMatchObject([
      { level: "ok" },
      { level: "warn", hint: expect.stringContaining("Owner") },
    ]);
  });

  test("that GitLab does not know, a scope that is not there", async () => {
    const wrong = new Secret("glpat-PLANTED");
    const right = new Secret(gitlab.tokens.add({ scopes: ["api"] }).token);
    const refused = await checks.checkToken(place(), wrong, signal);
    const missing = await checks.checkScope(place(), right, { kind: "group", name: "tpo" }, signal);

    expect(refused).toMatchObject([{ level: "fail", message: expect.stringContaining("401") }]);
    expect(gitlab.violations.map(({ rule }) => rule)).toEqual(["wrong-token"]);
    expect(JSON.stringify(refused)).not.toContain("PLANTED");
    expect(missing).toMatchObject([{ level: "fail", hint: expect.stringContaining("no such group") }]);
  });

  test("without a scope is told which", async () => {
    const { token } = gitlab.tokens.add({ scopes: ["read_api", "create_runner"] });

    expect(await checks.checkToken(place(), new Secret(token), signal)).toContainEqual(
      expect.objectContaining({ level: "fail", message: expect.stringContaining("manage_runner") }),
    );
  });
});

test("an aborted signal is the only thing that throws", async () => {
  const aborted = AbortSignal.abort(new Error("interrupted"));

  await expect(checks.checkPlace(place(), aborted)).rejects.toThrow("interrupted");
  await expect(checks.checkToken(place(), new Secret("x"), aborted)).rejects.toThrow("interrupted");
});
