import { chmod, copyFile, mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";

/** Where the release before had these files in its machines. They stay as they were. */
const places = {
  "firerunner-init": ["usr/sbin/firerunner-init", 0o755],
  "relay-link": ["usr/local/lib/firerunner/relay-link", 0o755],
  "login-profile": ["etc/profile.d/firerunner.sh", 0o644],
  "stand-in-runner": ["usr/local/bin/gitlab-runner", 0o755],
} as const;

/** Makes the runner layer's tree of the release before. */
export async function placeOldGuest(root: string): Promise<void> {
  for (const folder of ["builds", "cache"]) await mkdir(join(root, folder));
  for (const [name, [target, mode]] of Object.entries(places)) {
    const path = join(root, target);
    await mkdir(dirname(path), { recursive: true });
    await copyFile(join(import.meta.dirname, name), path);
    await chmod(path, mode);
  }
}
