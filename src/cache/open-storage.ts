/** The storage that the configuration asks for. */
import type { Clock } from "../base/clock.ts";
import type { ProxyRoutes } from "../base/proxy/routes.ts";
import { MIB_BYTES } from "../base/units.ts";
import { type CacheConfig, cacheDirectory, type S3Access } from "./config.ts";
import { openLocalStorage } from "./local-storage.ts";
import { openS3Storage } from "./s3-storage.ts";
import { type CacheStorage, siteOf } from "./storage.ts";

interface StorageOptions {
  readonly cache: CacheConfig;
  readonly state: string;
  /** Given where `cache.s3` is. */
  readonly access: S3Access | undefined;
  readonly proxies: ProxyRoutes;
  /** GitLab's, of which the projects are. */
  readonly gitlabUrl: string;
  readonly clock: Clock;
}

/** Throws CacheError when the directory cannot be used; a server is asked when there is something to ask. */
export async function openCacheStorage(options: StorageOptions): Promise<CacheStorage> {
  const { cache, access, proxies, clock, gitlabUrl } = options;
  const { origin, pathname } = new URL(gitlabUrl);
  const site = siteOf({ origin, basePath: pathname.replace(/\/+$/, "") });
  if (cache.s3 && access) {
    return openS3Storage({ settings: cache.s3, prefix: cache.s3.prefix, access, proxies, clock, site });
  }
  return await openLocalStorage({
    ...{ directory: cacheDirectory(options), site, clock },
    sizeBytes: cache.size * MIB_BYTES,
    projectSizeBytes: cache.projectSize * MIB_BYTES,
    minFreeBytes: cache.minFree * MIB_BYTES,
  });
}
