import type { ReadyImage } from "../../src/scheduler/ports.ts";

/** An image whose files nobody reads. */
export const anImage: ReadyImage = {
  digest: `sha256:${"0".repeat(64)}`,
  architecture: "amd64",
  kernel: "/images/kernel",
  initramfs: "/images/initramfs",
  layers: ["/images/base"],
  runnerInfo: { name: "gitlab-runner" },
};
