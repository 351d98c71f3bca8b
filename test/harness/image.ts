import { join } from "node:path";

/** Images outlive test runs: building one takes half a minute. Machines run as other users, so root's is not in its home. */
export function testImageDirectory(): string {
  const given = process.env["FIRERUNNER_TEST_IMAGES"];
  if (given) return given;
  if (process.getuid?.() === 0) return "/var/cache/firerunner/images";
  return join(
    process.env["XDG_CACHE_HOME"] || join(process.env["HOME"] ?? "/tmp", ".cache"),
    "firerunner",
    "images",
  );
}
