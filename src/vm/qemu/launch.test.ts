import { describe, expect, test } from "vitest";
import { unprivileged } from "./launch.ts";

const programs = { qemu: "/usr/bin/qemu", setpriv: "/usr/bin/setpriv", prlimit: "/usr/bin/prlimit" };

describe("the rights of a hypervisor", () => {
  test("are those of an unprivileged user, without capabilities and groups", () => {
    const command = unprivileged(programs, { uid: 5_000, kvmGid: undefined }, ["-name", "x"]).join(" ");

    expect(command).toContain("--reuid 5000 --regid 5000 --clear-groups --no-new-privs");
    expect(command).toContain("--inh-caps=-all --bounding-set=-all");
    expect(command).toMatch(/ -- \/usr\/bin\/qemu -name x$/);
  });

  test("include the group of /dev/kvm where it has one, and nothing else", () => {
    const command = unprivileged(programs, { uid: 5_000, kvmGid: 107 }, []).join(" ");

    expect(command).toContain("--groups 107 --no-new-privs");
    expect(command).not.toContain("--clear-groups");
  });

  test("are our own but for gaining more, when we are not root", () => {
    expect(unprivileged(programs, undefined, ["-S"])).toEqual([
      ...["/usr/bin/setpriv", "--no-new-privs", "--", "/usr/bin/qemu", "-S"],
    ]);
  });
});
