import { readFile, rmdir, writeFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { describe, expect, test } from "vitest";
import { describeError } from "./errors.ts";
import { run } from "./process.ts";

async function failureOf(work: Promise<unknown>): Promise<string> {
  return await work.then(
    () => "nothing failed",
    (error: unknown) => describeError(error),
  );
}

async function connecting(port: number): Promise<void> {
  const socket = connect(port, "127.0.0.1");
  await new Promise((resolve, reject) => socket.once("connect", resolve).once("error", reject));
}

describe("errors of the operating system are told in words", () => {
  test.each<[string, () => Promise<unknown>, string]>([
    ["no file", () => readFile("/nowhere/file"), "/nowhere/file does not exist"],
    [
      "through a file",
      () => readFile("/etc/passwd/x"),
      "/etc/passwd/x leads through something that is no directory",
    ],
    ["a directory", () => writeFile(tmpdir(), ""), `${tmpdir()} is a directory`],
    ["not empty", () => rmdir("/etc"), "/etc is not empty"],
    ["a long name", () => readFile(`/${"x".repeat(300)}`), `/${"x".repeat(300)} is too long a name`],
    ["a full disk", () => writeFile("/dev/full", "x"), "no space left"],
  ])("%s", async (_name, work, words) => {
    const told = await failureOf(work());

    // A failed write names no file: Node's own words are the best there are.
    if (words === "no space left") expect(told).toContain(words);
    else expect(told).toBe(words);
  });

  test("a program that is not there", async () => {
    expect(await failureOf(run("/nowhere/program", []))).toContain(
      "the program /nowhere/program does not exist",
    );
  });

  test("an address in use, and one where nobody listens", async () => {
    const first = createServer();
    await new Promise<void>((resolve) => first.listen(0, "127.0.0.1", resolve));
    const { port } = first.address() as { port: number };
    const second = createServer();
    const taken = new Promise((_, reject) => second.once("error", reject));
    second.listen(port, "127.0.0.1");

    expect(await failureOf(taken)).toBe(`127.0.0.1:${port} is used by another program`);
    await new Promise((resolve) => first.close(resolve));
    expect(await failureOf(connecting(port))).toBe(`127.0.0.1:${port}: the connection was refused`);
  });

  test("anything else keeps its own words", () => {
    expect(describeError(new Error("odd"))).toBe("odd");
    expect(
      describeError(Object.assign(new Error("odd"), { code: "EODD", syscall: "open", path: "/x" })),
    ).toBe("odd");
  });
});
