import { describe, expect, test } from "vitest";
import {
  type Architecture,
  architectures,
  type LaunchPlan,
  qemuArguments,
  smokeArguments,
} from "./arguments.ts";

const amd64 = architectures["amd64"] as Architecture;

function aPlan(change: Partial<LaunchPlan> = {}): LaunchPlan {
  const image = {
    digest: "sha256:1",
    architecture: "amd64",
    kernel: "/images/vmlinux",
    initramfs: "/images/initramfs",
    layers: ["/images/base.sqfs", "/images/odd,name.sqfs"],
  };
  const spec = { id: "fr-abcdefgh", size: { cpus: 4, memoryMib: 8_192, diskMib: 20_480 }, image };
  return {
    spec,
    architecture: amd64,
    accelerator: "tcg",
    tscKhz: 2_445_430,
    socat: "/usr/bin/socat",
    ...change,
  };
}

function optionOf(args: readonly string[], name: string): string {
  return args[args.indexOf(name) + 1] ?? "";
}

describe("the command line of a machine", () => {
  test("has the CPUs and the memory asked for", () => {
    const args = qemuArguments(aPlan());

    expect(optionOf(args, "-smp")).toBe("4");
    expect(optionOf(args, "-m")).toBe("8192M");
    expect(optionOf(args, "-name")).toBe("fr-abcdefgh");
  });

  test("has the read-only layers first, in order, and then the scratch disk", () => {
    const drives = qemuArguments(aPlan()).filter(
      (each) => each.startsWith("id=layer") || each.startsWith("id=scratch"),
    );

    expect(drives.map((each) => each.split(",format")[0])).toEqual([
      "id=layer0,file=/images/base.sqfs",
      "id=layer1,file=/images/odd,,name.sqfs",
      "id=scratch,file=scratch.img",
    ]);
    expect(drives.map((each) => each.includes("readonly=on"))).toEqual([true, true, false]);
  });

  test("has the disks with container images behind the scratch disk, by the descriptors it inherits, read-only", () => {
    const plan = aPlan();
    const args = qemuArguments({ ...plan, spec: { ...plan.spec, imageDisks: ["/cache/a,b", "/cache/c"] } });
    const drives = args.filter((each) => /^id=(layer|scratch|image)/.test(each));

    expect(drives.map((each) => each.split(",format")[0]).slice(2)).toEqual([
      "id=scratch,file=scratch.img",
      "id=image0,file=/dev/fdset/1",
      "id=image1,file=/dev/fdset/2",
    ]);
    expect(drives.slice(3).every((each) => each.includes("readonly=on,rerror=report"))).toBe(true);
    expect(args.filter((each) => each.startsWith("fd="))).toEqual(["fd=3,set=1", "fd=4,set=2"]);
    expect(args.join()).not.toContain("/cache");
  });

  test("has errors of the host's disks told to the guest, which would stand still otherwise", () => {
    const drives = qemuArguments(aPlan()).filter((each) => /^id=(layer|scratch)/.test(each));

    expect(drives.every((each) => each.includes("rerror=report"))).toBe(true);
    expect(drives.at(-1)).toContain("werror=report");
  });

  test("tells the kernel who it is and where the relay is", () => {
    const words = optionOf(qemuArguments(aPlan()), "-append").split(" ");

    expect(words).toEqual([
      ...["console=ttyS0", "quiet", "reboot=t", "tsc_early_khz=2445430", "tsc=reliable", "panic=-1"],
      ...["fr.machine=fr-abcdefgh", "fr.relay=10.0.2.100:80", "fr.address=10.0.2.15/24", "fr.layers=2"],
    ]);
  });

  test("gives the clock rate to emulated machines only, and only when it is known", () => {
    const unknown = qemuArguments(aPlan({ tscKhz: undefined }));
    const kvm = qemuArguments(aPlan({ accelerator: "kvm" }));

    expect(optionOf(unknown, "-append")).not.toContain("tsc_early_khz");
    expect(optionOf(kvm, "-append")).not.toContain("tsc_early_khz");
    expect(optionOf(kvm, "-accel")).toBe("kvm");
    expect(optionOf(kvm, "-cpu")).toBe("host");
  });

  test("closes the network but for the relay", () => {
    const network = optionOf(qemuArguments(aPlan()), "-netdev");

    expect(network).toContain("restrict=on");
    expect(network).toContain("UNIX-CONNECT:relay.sock,,retry=");
    expect(network.match(/guestfwd/g)).toHaveLength(1);
    expect(network).not.toContain("hostfwd");
  });

  test("works for another architecture from the same plan", () => {
    const arm64 = architectures["arm64"] as Architecture;
    const args = qemuArguments(aPlan({ architecture: arm64, tscKhz: undefined }));

    expect(optionOf(args, "-M")).toContain("virt");
    expect(optionOf(args, "-append")).toContain("console=ttyAMA0");
    expect(optionOf(args, "-append")).not.toContain("reboot=t");
  });

  test("a trial boot has neither disks nor network, and hangs in a panic", () => {
    const args = smokeArguments(aPlan({ accelerator: "kvm" }));

    expect(optionOf(args, "-append")).toBe("console=ttyS0 quiet reboot=t panic=0 fr.smoke");
    expect(args.filter((each) => /^-(netdev|drive|device)$/.test(each))).toEqual([]);
  });
});
