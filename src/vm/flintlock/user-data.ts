import { readFileSync } from "node:fs";
import { guestFile } from "../../base/guest-files.ts";

/**
 * cloud-init runs these at every boot, after the network is up: a machine that its host has started again must say so, and what
 * `runcmd` holds would run at the first boot only.
 */
const START = "/var/lib/cloud/scripts/per-boot/firerunner";

const files = [
  { source: "relay-link", path: "/usr/local/lib/firerunner/relay-link", mode: "0755" },
  { source: "job-shell", path: "/usr/local/lib/firerunner/shell/bash", mode: "0755" },
  { source: "firerunner-init", path: START, mode: "0755" },
  { source: "login-profile", path: "/etc/profile.d/firerunner.sh", mode: "0644" },
] as const;

let text: string | undefined;

/**
 * What makes an image of other people one of ours, as cloud-config: the same programs that our own images have. The image itself must
 * bring cloud-init, bash, socat, git and gitlab-runner. The same for every machine, and without a secret.
 */
export function userData(): string {
  text ??= `#cloud-config\nwrite_files:\n${files.map(entry).join("")}`;
  return text;
}

/** A block of literal text takes a third less room than base64, and metadata has little. */
function entry({ source, path, mode }: (typeof files)[number]): string {
  const content = readFileSync(guestFile(source), "utf8").replace(/^(?=.)/gm, "      ");
  return `  - path: ${path}\n    permissions: "${mode}"\n    content: |\n${content}`;
}
