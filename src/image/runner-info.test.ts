import { execFileSync } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { guestFile } from "../base/guest-files.ts";
import { captureRunnerInfo } from "./runner-info.ts";

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "info-"));
});
afterEach(() => rmSync(directory, { recursive: true }));

function aRunner(script: string): string {
  const path = join(directory, "runner");
  writeFileSync(path, `#!/bin/sh\n${script}\n`);
  chmodSync(path, 0o755);
  return path;
}

describe("what a runner says of itself", () => {
  test("is what it sends when it asks for a job", async () => {
    const { version, info } = await captureRunnerInfo(guestFile("stand-in-runner"));

    expect(version).toBe("1.0.0");
    expect(info).toMatchObject({ executor: "shell", features: { refspecs: true, cache: true } });
  });

  test("differs for jobs in containers, and is asked for them apart", async () => {
    const { info } = await captureRunnerInfo(guestFile("stand-in-runner"), { executor: "docker" });

    expect(info).toMatchObject({ executor: "docker", features: { image: true, services: true } });
  });

  test("cannot be had of a program that is none", async () => {
    await expect(captureRunnerInfo(aRunner("echo I am no runner; exit 3"))).rejects.toMatchObject({
      code: "image_runner_broken",
      message: expect.stringContaining("ended (3) without asking for a job; it said: I am no runner"),
    });
  });

  test("cannot be had of a file that does not run here", async () => {
    writeFileSync(join(directory, "data"), "\x7fELF nonsense", { mode: 0o755 });

    await expect(captureRunnerInfo(join(directory, "data"))).rejects.toMatchObject({
      code: "image_runner_broken",
    });
  });

  test("is not waited for without end", async () => {
    await expect(captureRunnerInfo(aRunner("exec sleep 60"), { deadlineMs: 200 })).rejects.toMatchObject({
      code: "image_runner_broken",
    });
  });

  test("is not taken when it has no end", async () => {
    const flood = `exec perl -e 'use Socket; socket(S, PF_INET, SOCK_STREAM, 0); connect(S, pack_sockaddr_in(80, INADDR_LOOPBACK)) or die;
      syswrite(S, "POST /api/v4/jobs/request HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
      1 while syswrite(S, "10000\r\n" . ("x" x 65536) . "\r\n"); print "cut off"; exit 4'`;

    await expect(captureRunnerInfo(aRunner(flood))).rejects.toMatchObject({ code: "image_runner_broken" });
  });
});

describe("a runner that is asked what it can do", () => {
  /** What the script printed before it ended without asking for a job. */
  async function wordsOf(script: string): Promise<string> {
    const error = await captureRunnerInfo(aRunner(`${script}\nexit 1`)).catch((cause: Error) => cause);
    return /it said: (.*)/.exec((error as Error).message)?.[1] ?? "";
  }

  test("is nobody and has no rights", async () => {
    const words = await wordsOf(
      "id -u; grep -E '^(Cap(Inh|Prm|Eff|Bnd)|NoNewPrivs|Groups)' /proc/self/status | tr -d '\\t'",
    );

    expect(words).toMatch(
      /^65534 Groups: ?CapInh:0{16} CapPrm:0{16} CapEff:0{16} CapBnd:0{16} NoNewPrivs:1$/,
    );
  });

  test("finds nothing of this computer but its programs", async () => {
    const secret = join(directory, "secret");
    writeFileSync(secret, "planted", { mode: 0o644 });

    const words = await wordsOf(
      `ls -1 /; cat ${secret} /etc/passwd 2>&1 | grep -c planted; wc -l </etc/passwd; env | cut -d= -f1 | sort | tr '\\n' ,`,
    );

    expect(words).toMatch(/^(bin |dev |etc |home |lib\w* |proc |runner |sbin |tmp |usr )*0 1 [A-Z_,]+$/);
    const names = words.split(" ").at(-1)?.split(",") ?? [];
    expect(names.filter((name) => !["", "OLDPWD", "PWD", "_"].includes(name))).toEqual([
      "CI_SERVER_TOKEN",
      "HOME",
      "LANG",
      "PATH",
      "TMPDIR",
    ]);
  });

  test("can change nothing of it", async () => {
    const words = await wordsOf(
      "touch /usr/x /x /runner 2>&1 | grep -c -E 'Read-only|denied'; echo x >/home/mine && echo own",
    );

    expect(words).toBe("3 own");
    expect(existsSync("/usr/x")).toBe(false);
  });

  test("reaches no other service of this computer, and no other process", async () => {
    const server = createServer((_, response) => response.end("reached"));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo;
    const connect = (address: string, at: number) =>
      `perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(PeerAddr=>"${address}:${at}",Timeout=>2) ? "open" : "closed"'`;

    const own = connect("127.0.0.1", 80);
    const others = `${connect("127.0.0.1", port)}; ${connect("192.0.2.1", 80)}`;

    const words = await wordsOf(`${own}; ${others}; ls -d /proc/[0-9]* | wc -l`);
    server.close();

    expect(words).toMatch(/^openclosedclosed\d$/);
  });

  test("leaves no process behind", async () => {
    const mark = `left-${process.pid}`;

    const words = await wordsOf(`ln -s /usr/bin/sleep ${mark}; ./${mark} 60 & echo started`);

    expect(words).toBe("started");
    expect(execFileSync("ps", ["-eo", "args"], { encoding: "utf8" })).not.toContain(`${mark} 60`);
  });
});
