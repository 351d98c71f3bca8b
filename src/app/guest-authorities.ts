import { describeError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import { certificatesIn, MOST_AUTHORITIES_BYTES } from "../base/tls.ts";
import { readTrusted } from "../base/trusted-file.ts";
import type { Config } from "../config/load.ts";

/** A guest reads its boot data byte by byte; two authorities have some 4 KiB. */
const MOST_BYTES = 32 * 1024;

/** The authorities that machines trust besides those of their image. */
export interface GuestAuthorities {
  /** PEM, certificates alone; undefined when there are none. Read anew each time, so that renewed files reach the next machine. */
  pem(): Promise<string | undefined>;
}

/** `guests.caFile` first, then what FireRunner itself trusts: each as a whole, as far as all fit. */
export function createGuestAuthorities(
  { guests, gitlab, proxy }: Pick<Config, "guests" | "gitlab" | "proxy">,
  log: Pick<Log, "warn">,
): GuestAuthorities {
  const files = Object.entries({
    "guests.caFile": guests.caFile,
    "gitlab.caFile": gitlab.caFile,
    "proxy.caFile": proxy.caFile,
  });
  const lastGood = new Map<string, readonly string[]>();
  const told = new Set<string>();

  function warnOnce(why: string): void {
    if (told.has(why)) return;
    told.add(why);
    log.warn({ why }, "machines do not get all certificate authorities");
  }

  async function certificatesOf(key: string, path: string | undefined): Promise<readonly string[]> {
    if (path === undefined) return [];
    try {
      const bytes = await readTrusted(path, { maxBytes: MOST_AUTHORITIES_BYTES, secret: false });
      const certificates = certificatesIn(bytes.toString("utf8")).map((each) => each.toString());
      lastGood.set(key, certificates);
      return certificates;
    } catch (error) {
      warnOnce(`${key}: ${describeError(error)}`);
      return lastGood.get(key) ?? [];
    }
  }

  return {
    async pem() {
      let all: readonly string[] = [];
      for (const [key, path] of files) {
        const more = [...new Set([...all, ...(await certificatesOf(key, path))])];
        if (more.join("").length > MOST_BYTES) {
          warnOnce(
            `${key} is too large to be given to machines: name the private authorities alone in guests.caFile`,
          );
          continue;
        }
        all = more;
      }
      return all.length === 0 ? undefined : all.join("");
    },
  };
}
