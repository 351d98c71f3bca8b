import { execFileSync, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { guestFile } from "../../src/base/guest-files.ts";
import { temporaryDirectory } from "../builders/temporary-directory.ts";

/** The answer of the guest's resolver to a query; undefined when it gives none. */
function answerTo(query: Buffer): Buffer | undefined {
  const text = readFileSync(guestFile("container-engine"), "utf8");
  const [body = ""] = /^sub no_such_name \{.*?^\}/ms.exec(text) ?? [];
  const script = `my $QUESTION_AT = 12; ${body} binmode STDIN; binmode STDOUT; local $/; my $a = no_such_name(scalar <STDIN>); print defined $a ? "+$a" : "-";`;
  const said = execFileSync("/usr/bin/perl", ["-Mstrict", "-Mwarnings=FATAL,all", "-e", script], {
    input: query,
  });
  return said.toString("latin1", 0, 1) === "+" ? said.subarray(1) : undefined;
}

/** A query with one question, as glibc and musl send it, and perhaps with EDNS behind it. */
function aQuery({
  name = "db.example.com",
  flags = 0x0100,
  questions = 1,
  more = Buffer.alloc(0),
} = {}): Buffer {
  const head = Buffer.alloc(12);
  head.writeUInt16BE(0xbeef, 0);
  head.writeUInt16BE(flags, 2);
  head.writeUInt16BE(questions, 4);
  head.writeUInt16BE(more.length > 0 ? 1 : 0, 10);
  const labels = name
    .split(".")
    .map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label)]));
  return Buffer.concat([head, ...labels, Buffer.from([0, 0, 1, 0, 1]), more]);
}

describe("the resolver of a machine that runs containers", () => {
  test("says of every name that it does not exist, with the query's id and question", () => {
    const query = aQuery();

    const answer = answerTo(query);

    expect(answer?.readUInt16BE(0)).toBe(0xbeef);
    // An answer to a query that wanted recursion, from one who has it: NXDOMAIN.
    expect(answer?.readUInt16BE(2)).toBe(0x8183);
    expect(answer?.subarray(4, 12)).toEqual(Buffer.from([0, 1, 0, 0, 0, 0, 0, 0]));
    expect(answer?.subarray(12)).toEqual(query.subarray(12));
  });

  test("leaves out what follows the question", () => {
    const edns = Buffer.from([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);

    expect(answerTo(aQuery({ more: edns }))).toEqual(answerTo(aQuery()));
  });

  test.each([
    ["an answer", aQuery({ flags: 0x8180 })],
    ["two questions", aQuery({ questions: 2 })],
    ["a name without its end", aQuery().subarray(0, 20)],
    ["a question without its type", aQuery().subarray(0, -4)],
    ["half a head", Buffer.alloc(5)],
  ])("does not answer to %s", (_, query) => {
    expect(answerTo(query)).toBeUndefined();
  });
});

describe("health checks, which podman leaves to systemd", () => {
  /** The part of the guest's program that sees to them, by itself. */
  function startWatch(socket: string) {
    const text = readFileSync(guestFile("container-engine"), "utf8");
    const subs = ["watch_health", "check_health", "ask_engine", "fail"].map(
      (name) => new RegExp(`^sub ${name} \\{.*?^\\}`, "ms").exec(text)?.[0] ?? "",
    );
    const script = `my ($AF_UNIX, $STREAM, $listener) = (1, 1); open $listener, '<', '/dev/null'; ${subs.join("\n")} watch_health($ARGV[0]); wait;`;
    return spawn("/usr/bin/perl", ["-Mstrict", "-Mwarnings", "-e", script, socket], { stdio: "ignore" });
  }

  const [checked, unchecked] = ["c".repeat(64), "0".repeat(64)];

  test("are asked for at a container's own interval, until it has ended, and of no other container", async () => {
    await using directory = await temporaryDirectory();
    const socket = join(directory.path, "podman.sock");
    const asked: { path: string; at: number }[] = [];
    const ended = Promise.withResolvers<void>();
    const server = createServer((request, response) => {
      const path = (request.url ?? "").replace(/^\/v1\.40/, "");
      asked.push({ path, at: performance.now() });
      if (path.startsWith("/events?")) {
        for (const id of [unchecked, checked])
          response.write(`{"status":"start","id":"${id}","Type":"container","Action":"start"}\n`);
        return;
      }
      if (path.endsWith("/json")) {
        const health = '"Healthcheck":{"Test":["CMD","a","}"],"Interval":1500000000,"Timeout":1},';
        response.end(`{"Id":"x","Config":{"Env":[],${path.includes(checked) ? health : ""}"Image":"i"}}`);
        return;
      }
      const checks = asked.filter((each) => each.path.endsWith("/healthcheck")).length;
      response.writeHead(checks < 3 ? 200 : 409).end("{}");
      if (checks === 3) ended.resolve();
    });
    await new Promise<void>((resolve) => server.listen(socket, resolve));
    const watch = startWatch(socket);
    try {
      await ended.promise;

      const of = (end: string) => asked.filter(({ path }) => path === end);
      expect(decodeURIComponent(asked[0]?.path ?? "")).toBe(
        '/events?filters={"type":["container"],"event":["start"]}',
      );
      const [first, second, third] = of(`/libpod/containers/${checked}/healthcheck`);
      expect(Number(second?.at) - Number(first?.at)).toBeGreaterThanOrEqual(1_400);
      expect(Number(third?.at) - Number(second?.at)).toBeGreaterThanOrEqual(1_400);
      await expect.poll(() => of(`/containers/${unchecked}/json`)).toHaveLength(1);
      expect(of(`/libpod/containers/${unchecked}/healthcheck`)).toEqual([]);
    } finally {
      server.closeAllConnections();
      server.close();
      watch.kill("SIGKILL");
    }
  }, 30_000);
});

describe("the helper's image, which is the machine's own system", () => {
  /** What is mounted in a machine whose root has so many disks. */
  async function mountsWith(layers: number, names: readonly string[] | undefined) {
    await using directory = await temporaryDirectory();
    const helper = join(directory.path, "helper");
    await mkdir(helper);
    if (names) await writeFile(join(helper, "layers"), names.map((name) => `${name}\n`).join(""));
    const text = readFileSync(guestFile("container-engine"), "utf8");
    const functions = [/^sub helper_mounts \{.*?^\}/ms, /^sub disk .*$/m].map((form) => form.exec(text)?.[0]);
    const script = `my ($HELPER, $NOTHING) = @ARGV; sub kernel_word { ${layers} } ${functions.join("\n")} print map { "$_\n" } helper_mounts();`;
    const run = ["-Mstrict", "-Mwarnings=FATAL,all", "-e", script, helper, join(directory.path, "nothing")];
    const said = execFileSync("/usr/bin/perl", run, { encoding: "utf8" });
    return said.replaceAll(directory.path, "").split("\n").slice(0, -1);
  }

  test("has each of its layers from a disk, or all of them from the one that there is on another host", async () => {
    const two = ["aa", "bb"];

    expect(await mountsWith(2, two)).toEqual([
      "/dev/vda /helper/overlay/aa/diff squashfs ro 0 0",
      "/dev/vdb /helper/overlay/bb/diff squashfs ro 0 0",
    ]);
    // The engine's storage lies on that disk, too: the kernel takes it beside its own root only through another overlay.
    expect(await mountsWith(0, two)).toEqual([
      "overlay /helper/overlay/aa/diff overlay ro,lowerdir=/nothing:/ 0 0",
    ]);
    expect(await mountsWith(3, two)).toEqual([]);
    expect(await mountsWith(0, undefined)).toEqual([]);
  });
});
