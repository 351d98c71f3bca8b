import { describe, expect, test } from "vitest";
import { ProcessError, run } from "./process.ts";

describe("run", () => {
  const node = process.execPath;

  test("gives back the output", async () => {
    expect(await run("echo", ["a b", "$HOME", ";exit 1"])).toBe("a b $HOME ;exit 1\n");
  });

  test("hands over input and environment", async () => {
    const script =
      "process.stdin.pipe(process.stdout).on('finish', () => {}); process.stdout.write(process.env.X)";

    expect(await run(node, ["-e", script], { input: "ünï", env: { X: "x" } })).toBe("xünï");
  });

  test("gives an empty input when there is none", async () => {
    expect(await run("cat", [])).toBe("");
  });

  test("a failure says the command, its status and the end of its error output", async () => {
    const script = "process.stderr.write('x'.repeat(10000) + 'the reason'); process.exitCode = 3";

    const error = await run(node, ["-e", script]).catch((thrown: unknown) => thrown);

    expect(error).toBeInstanceOf(ProcessError);
    expect(error).toMatchObject({ code: "process_failed", exitCode: 3 });
    expect((error as ProcessError).message).toMatch(/ended with status 3: x+the reason$/);
    expect((error as ProcessError).stderrTail).toHaveLength(4_096);
  });

  test("a program that is not there says so", async () => {
    await expect(run("/no/such/program", [])).rejects.toMatchObject({
      message: "/no/such/program could not be run",
      exitCode: null,
      cause: { code: "ENOENT" },
    });
  });

  test("a program that ends without reading its input is judged by its status", async () => {
    expect(await run("true", [], { input: "x".repeat(1_000_000) })).toBe("");
  });

  test("lines of the error output come one by one, carriage returns too", async () => {
    const lines: string[] = [];

    await run(node, ["-e", "process.stderr.write('10%\\r20%\\r\\ndone\\nrest')"], {
      onStderrLine: (line) => lines.push(line),
    });

    expect(lines).toEqual(["10%", "20%", "done"]);
  });

  test("a signal ends it", async () => {
    const signal = AbortSignal.timeout(50);

    await expect(run("sleep", ["30"], { signal })).rejects.toBeInstanceOf(ProcessError);
  });

  test("a program killed by a signal says which", async () => {
    await expect(run("sh", ["-c", "kill -9 $$"])).rejects.toMatchObject({
      message: expect.stringContaining("was ended by SIGKILL"),
      exitCode: null,
    });
  });
});
