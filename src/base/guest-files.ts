import { join } from "node:path";

/** A file of guest/: what goes into machines as it is. */
export function guestFile(
  name:
    | "initramfs-init"
    | "firerunner-init"
    | "relay-link"
    | "job-shell"
    | "stand-in-runner"
    | "login-profile"
    | "container-engine"
    | "containers.conf"
    | "registries.conf"
    | "helper-build",
): string {
  return join(import.meta.dirname, "../../guest", name);
}
