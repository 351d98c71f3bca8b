import { execFileSync } from "node:child_process";
import { describe, expect, test } from "vitest";
import { Secret } from "../base/secret.ts";
import { renderBootData } from "./boot.ts";

const data = {
  machineId: "fr-abcdefgh",
  token: new Secret("machine=secret"),
  nowMs: 1_700_000_000_999,
  executor: "shell",
  logLimitKib: 4_096,
} as const;

describe("boot data", () => {
  test("is one name and value per line, the time in whole seconds", () => {
    expect(renderBootData(data)).toBe(
      "machine=fr-abcdefgh\ntoken=machine=secret\nnow=1700000000\nexecutor=shell\nlog_limit=4096\n",
    );
  });

  test("names the proxy only when there is one", () => {
    expect(renderBootData({ ...data, proxy: "http://10.0.2.100:80" })).toContain(
      "\nproxy=http://10.0.2.100:80\n",
    );
  });

  test("refuses a value that would become two lines", () => {
    expect(() => renderBootData({ ...data, proxy: "http://a\ntoken=other" })).toThrow("more than one line");
  });

  test("splits at the first = in bash, as firerunner-init reads it", () => {
    const script = `while IFS='=' read -r name value; do echo "$name:$value"; done`;

    const read = execFileSync("bash", ["-c", script], { input: renderBootData(data), encoding: "utf8" });

    expect(read.split("\n")[1]).toBe("token:machine=secret");
  });
});
