import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A key pair of OpenPGP with a key ring of its own. */
export interface SigningKey {
  /** Of the primary key: 40 hex digits. */
  readonly fingerprint: string;
  readonly publicKey: Buffer;
  readonly armoredKey: string;
  /** A detached signature as text. */
  sign(data: string | Buffer): Buffer;
  /** Sets another end, as an owner does who prolongs it; answers the public key as it is then. */
  prolong(until: string): Buffer;
  remove(): void;
}

/** `madeAt` is a day such as `20200101`, `life` is in gpg's words: `30d`. What a key made long ago signs, it signs on that day. */
export function makeSigningKey(
  name: string,
  { madeAt, life = "never" }: { madeAt?: string; life?: string } = {},
): SigningKey {
  const room = mkdtempSync(join(tmpdir(), "fr-gpg-"));
  const home = join(room, "home");
  mkdirSync(home, { mode: 0o700 });
  const at = (time: string) => (madeAt === undefined ? [] : ["--faked-system-time", `${madeAt}T${time}!`]);
  const gpg = (...args: string[]) =>
    execFileSync(
      "gpg",
      ["--homedir", home, "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", "", ...args],
      {
        stdio: ["ignore", "pipe", "ignore"],
      },
    );
  gpg(...at("000000"), "--quick-generate-key", `${name} <${name}@example.org>`, "ed25519", "sign", life);
  const fingerprint =
    /^fpr:+([0-9A-F]{40}):/m.exec(gpg("--list-keys", "--with-colons").toString())?.[1] ?? "";
  return {
    fingerprint,
    publicKey: gpg("--export", fingerprint),
    armoredKey: gpg("--export", "--armor", fingerprint).toString(),
    sign(data) {
      const file = join(room, "data");
      writeFileSync(file, data);
      return gpg(...at("010000"), "--armor", "--detach-sign", "--output", "-", file);
    },
    prolong(until) {
      gpg(...at("020000"), "--quick-set-expire", fingerprint, until);
      return gpg("--export", fingerprint);
    },
    remove() {
      execFileSync("gpgconf", ["--homedir", home, "--kill", "all"], { stdio: "ignore" });
      rmSync(room, { recursive: true, force: true });
    },
  };
}
