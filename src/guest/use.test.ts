import { execFileSync } from "node:child_process";
import { expect, test } from "vitest";
import { guestFunction } from "../../test/harness/guest-function.ts";

/** What the guest asks the relay, which answers `statuses` in turn; the last of them ends it. */
async function tell(statuses: readonly number[], before = ""): Promise<string[]> {
  const script = [
    await guestFunction("firerunner-init", "tell_use"),
    `statuses=(${statuses.join(" ")}) asked=0
    ask_relay() {
      echo "$1 $2"
      status=\${statuses[asked++]}
      ((asked < \${#statuses[@]})) || exit 0
      [[ $status == 200 ]]
    }
    df() { echo 'Filesystem 1024-blocks Used Available'; echo "/dev/vdc 4194304 $((asked * 131072 + 2048)) 1"; }
    ${before}
    tell_use`,
  ].join("\n");
  const out = execFileSync("bash", ["-c", script], { encoding: "utf8", timeout: 60_000 });
  return out.trim().split("\n");
}

test("a guest tells at once what is left of its memory and what is on its disk", async () => {
  const [first = ""] = await tell([204]);
  const [, availableMib = "0"] = /^POST use\?available_mib=(\d+)&disk_mib=2$/.exec(first) ?? [];

  expect(Number(availableMib)).toBeGreaterThan(0);
});

test("it tells again what the relay has not taken, and then what has grown", async () => {
  const told = await tell([503, 204, 204]);

  expect(told).toHaveLength(3);
  expect(told[0]).toContain("disk_mib=2");
  expect(told[1]).toContain("disk_mib=2");
  expect(Number(/disk_mib=(\d+)/.exec(told[2] ?? "")?.[1])).toBeGreaterThanOrEqual(130);
});

test("it does without the disk where nobody can say what is on it", async () => {
  expect((await tell([204], "df() { return 1; }"))[0]).toMatch(/^POST use\?available_mib=\d+$/);
});

test("it is silent at a relay of an earlier release", async () => {
  const script = `${await guestFunction("firerunner-init", "tell_use")}
    ask_relay() { echo asked; status=404; }
    tell_use; echo over`;

  expect(execFileSync("bash", ["-c", script], { encoding: "utf8", timeout: 30_000 })).toBe("asked\nover\n");
});
