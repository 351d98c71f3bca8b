import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { systemClock } from "../base/clock.ts";
import { guestFile } from "../base/guest-files.ts";
import { ImagesConfig } from "./config.ts";
import { sha256 } from "./manifest.ts";
import { chooseRunner } from "./runner.ts";
import { digestInList, downloadRunner, RUNNER_RELEASE_VERSION } from "./runner-release.ts";

const program = Buffer.from("#!/bin/sh\n# a runner\n");
const digest = createHash("sha256").update(program).digest("hex");

let directory: string;
let server: Server;
let mirror: string;
let list: string;
let requests: string[];

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), "release-"));
  requests = [];
  list = `${"1".repeat(64)} *binaries/gitlab-runner-linux-arm64\n${digest} *binaries/gitlab-runner-linux-amd64\n`;
  const base = `/mirror/${RUNNER_RELEASE_VERSION}`;
  server = createServer((request, response) => {
    requests.push(request.url ?? "");
    if (request.url === `${base}/release.sha256`) response.end(list);
    else if (request.url === `${base}/binaries/gitlab-runner-linux-amd64`) response.end(program);
    else response.writeHead(404).end();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  mirror = `http://127.0.0.1:${(server.address() as AddressInfo).port}/mirror/`;
});

afterEach(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  rmSync(directory, { recursive: true });
});

const options = () => ({ architecture: "amd64", directory, mirror, clock: systemClock });
const context = (more: Partial<Parameters<typeof chooseRunner>[1]> = {}) => ({
  directory,
  architecture: "amd64",
  config: ImagesConfig.parse({ runnerMirror: mirror }),
  clock: systemClock,
  isBuilt: () => false,
  ...more,
});

describe("the official runner", () => {
  test("is downloaded from the mirror when the release's own list names it", async () => {
    const path = await downloadRunner(options(), () => {});

    expect(readFileSync(path).equals(program)).toBe(true);
  });

  test("that is not what the list says is refused", async () => {
    list = list.replace(digest, "2".repeat(64));

    await expect(downloadRunner(options(), () => {})).rejects.toMatchObject({ code: "image_download_wrong" });
  });

  test("that the list does not name is refused", async () => {
    list = "";

    await expect(downloadRunner(options(), () => {})).rejects.toMatchObject({ code: "image_download_wrong" });
  });

  test("is not downloaded a second time", async () => {
    await chooseRunner({ kind: "official" }, context(), () => {});
    const before = requests.length;

    const again = await chooseRunner({ kind: "auto" }, context(), () => {});

    expect(again).toMatchObject({ kind: "official", sha256: digest, notes: [] });
    expect(requests).toHaveLength(before);
  });
});

describe("the runner of an image", () => {
  test("is the stand-in, with a word about it, when the official one cannot be downloaded", async () => {
    const config = ImagesConfig.parse({ runnerMirror: "http://127.0.0.1:1/" });

    const chosen = await chooseRunner({ kind: "auto" }, context({ config }), () => {});

    expect(chosen.kind).toBe("stand-in");
    expect(chosen.sha256).toBe(sha256(readFileSync(guestFile("stand-in-runner"))));
    expect(chosen.notes.join()).toContain("stand-in runner, not the official gitlab-runner");
  });

  test("is not silently another one when the official one was asked for, or is damaged", async () => {
    const config = ImagesConfig.parse({ runnerMirror: "http://127.0.0.1:1/" });
    await expect(chooseRunner({ kind: "official" }, context({ config }), () => {})).rejects.toMatchObject({
      code: "image_download_failed",
    });

    list = list.replace(digest, "2".repeat(64));
    await expect(chooseRunner({ kind: "auto" }, context(), () => {})).rejects.toMatchObject({
      code: "image_download_wrong",
    });
  });

  test("stays the stand-in without asking the network when such an image is there", async () => {
    const chosen = await chooseRunner({ kind: "auto" }, context({ isBuilt: () => true }), () => {});

    expect(chosen.kind).toBe("stand-in");
    expect(requests).toEqual([]);
  });

  test("from a path must be executable", async () => {
    await expect(
      chooseRunner({ kind: "path", path: join(directory, "none") }, context(), () => {}),
    ).rejects.toMatchObject({ code: "image_runner_broken" });
    await expect(
      chooseRunner({ kind: "path", path: guestFile("login-profile") }, context(), () => {}),
    ).rejects.toMatchObject({ code: "image_runner_broken" });
  });
});

test.each([
  ["a  ./binaries/x-amd64", "x-amd64", false],
  [`${"a".repeat(64)}  ./binaries/x-amd64`, "x-amd64", true],
  [`${"a".repeat(64)} *x-amd64`, "x-amd64", true],
  [`${"a".repeat(64)}  ./binaries/other-x-amd64`, "x-amd64", false],
])("the list line %s names %s: %s", (line, file, named) => {
  expect(digestInList(`${line}\n`, file)).toBe(named ? "a".repeat(64) : undefined);
});
