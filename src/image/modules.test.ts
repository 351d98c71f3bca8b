import { describe, expect, test } from "vitest";
import { moduleName, planModules } from "./modules.ts";

const dep = [
  "kernel/drivers/virtio/virtio_ring.ko:",
  "kernel/drivers/virtio/virtio.ko: kernel/drivers/virtio/virtio_ring.ko",
  "kernel/drivers/net/virtio_net.ko: kernel/drivers/net/net_failover.ko kernel/net/core/failover.ko kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko",
  "kernel/drivers/net/net_failover.ko: kernel/net/core/failover.ko",
  "kernel/net/core/failover.ko:",
  "kernel/fs/overlayfs/overlay.ko.xz:",
  "",
].join("\n");

describe("the modules of an initramfs", () => {
  test("come with what they need, each after its needs and once", () => {
    const plan = planModules(["virtio_net"], dep, "");

    const names = plan.files.map(moduleName);
    expect(names.toSorted()).toEqual(["failover", "net_failover", "virtio", "virtio_net", "virtio_ring"]);
    expect(names.indexOf("virtio_ring")).toBeLessThan(names.indexOf("virtio"));
    expect(names.indexOf("failover")).toBeLessThan(names.indexOf("net_failover"));
    expect(names.at(-1)).toBe("virtio_net");
  });

  test("leave out what the kernel has built in", () => {
    const plan = planModules(["ext4", "overlay"], dep, "kernel/fs/ext4/ext4.ko\n");

    expect(plan.names).toEqual(["overlay"]);
  });

  test("get a modules.dep for one flat directory without compression", () => {
    expect(planModules(["overlay", "virtio_net"], dep, "").dependencies.split("\n")).toContain("overlay.ko:");
    expect(planModules(["net_failover"], dep, "").dependencies).toBe(
      "failover.ko:\nnet_failover.ko: failover.ko\n",
    );
  });

  test("that the kernel package lacks are an error", () => {
    expect(() => planModules(["squashfs"], dep, "")).toThrow("no module squashfs");
  });
});
