import { describe, expect, test } from "vitest";
import { unprivileged } from "./processes.ts";

const programs = { setpriv: "/usr/bin/setpriv", prlimit: "/usr/bin/prlimit" };
const qemu = "/usr/bin/qemu";

describe("the rights of a hypervisor", () => {
  test("are those of an unprivileged user, without capabilities and groups", () => {
    const command = unprivileged(programs, { uid: 5_000, deviceGid: undefined }, 64, [
      qemu,
      "-name",
      "x",
    ]).join(" ");

    expect(command).toContain("--reuid 5000 --regid 5000 --clear-groups --no-new-privs");
    expect(command).toContain("--inh-caps=-all --bounding-set=-all");
    expect(command).toMatch(/ -- \/usr\/bin\/qemu -name x$/);
  });

  test("include the group of /dev/kvm where it has one, and nothing else", () => {
    const command = unprivileged(programs, { uid: 5_000, deviceGid: 107 }, 64, [qemu]).join(" ");

    expect(command).toContain("--groups 107 --no-new-privs");
    expect(command).not.toContain("--clear-groups");
  });

  test("are our own but for gaining more, when we are not root", () => {
    expect(unprivileged(programs, undefined, 64, [qemu, "-S"])).toEqual([
      ...["/usr/bin/prlimit", "--core=0", "--fsize=67108864", "--"],
      ...["/usr/bin/setpriv", "--no-new-privs", "--", "/usr/bin/qemu", "-S"],
    ]);
  });

  test("do not include filling the disk, nor the host with processes", () => {
    const command = unprivileged(programs, { uid: 5_000, deviceGid: undefined }, 64, [qemu]).join(" ");

    expect(command).toContain("/usr/bin/prlimit --core=0 --fsize=67108864 --nproc=512 -- ");
  });
});
